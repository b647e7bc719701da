"""A new method in a dozen lines, trained on made data.

python examples/new_distiller.py  # seconds, CPU; prints the terms as they fall

The method: each sample's similarities to the others, as a distribution, follow the teacher's. Its nodes are embeddings,
its edges cosines, its alignment the KL divergence of the rows; ranks, precision and logging are the library's. Being
registered, it is a name for ``create_distiller`` and subject to the laws in ``tests/test_every_distiller.py``.
"""

import torch
from torch import nn

from graphkd import ClassifierTeacher, Distiller, Features, Graph, Losses, Step, Tap, create_distiller
from graphkd.distillers.base import DISTILLERS
from graphkd.distillers.terms import EdgeTerm
from graphkd.graphs.alignments import kl
from graphkd.typing import Side


@DISTILLERS.register("neighborhood")
class NeighborhoodDistiller(Distiller):
    r"""Match who is near whom, :math:`L = w\, \mathrm{mean}_i\, \mathrm{KL}(\mathrm{softmax}_j(E^T_{ij} / \tau)\,\|\,
    \mathrm{softmax}_j(E^S_{ij} / \tau))`, with E cosines of the embeddings.

    Paper: none; an example.
    Args:
        weight: default 1.
        temperature: tau, > 0; default 0.1.
    Shapes: embedding (b, d), of any width on either side.
    Example: ``create_distiller("neighborhood", student, teacher, temperature=0.2)``
    """

    zero_at_teacher = frozenset({"edge"})

    def __init__(self, *, weight: float = 1.0, temperature: float = 0.1) -> None:
        super().__init__()
        self.terms = self.weighted_terms(edge=(weight, EdgeTerm(("sample", "cosine", "sample"), kl(temperature))))

    def build(self, features: Features, side: Side) -> Graph:
        return Graph().add("sample", features.tensor("embedding", self.name)).connect("sample", "cosine", "sample")


def network(width: int) -> nn.Module:
    """A small classifier of 8 x 8 images."""
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * 64, width), nn.ReLU(), nn.Linear(width, 5))


def train(steps: int = 80, report: int = 20, seed: int = 0) -> list[Losses]:
    """Distil a random wide network into a narrow one; returns the losses that were printed."""
    torch.manual_seed(seed)
    kinds = torch.rand(5, 3, 8, 8)
    images = (kinds[torch.arange(256) % 5] + 0.2 * torch.randn(256, 3, 8, 8)).clamp(0, 1)
    teacher = ClassifierTeacher(network(width=128), mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))
    student = Tap(network(width=16), mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))
    # The new method trains the embedding, plain KD the classifier behind it.
    methods = [create_distiller(name, student, teacher) for name in ("neighborhood", "kd")]
    step = Step(student, *methods)
    optimizer = torch.optim.Adam(step.parameters(), lr=1e-2)
    reported = []
    for number in range(steps + 1):
        batch = images[torch.randperm(len(images))[:64]]
        losses = step(batch, teacher(batch))
        optimizer.zero_grad()
        losses.total.backward()
        optimizer.step()
        if number % report == 0:
            print(f"step {number:3d}  " + "  ".join(f"{name} {value.item():.4f}" for name, value in losses.items()))
            reported.append(losses)
    return reported


if __name__ == "__main__":
    train()
