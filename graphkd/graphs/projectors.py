"""Maps from the two embeddings to the space where student's and teacher's nodes meet."""

from collections.abc import Callable

from torch import nn

from graphkd.losses import cross_entropy
from graphkd.registry import Registry
from graphkd.typing import Float, Int, Side, Tensor

CountedLosses = tuple[Float[Tensor, " b"], Float[Tensor, " b"]]
"""One number for each sample, and 1 for each that counts."""


class Projector(nn.Module):
    """Projects the student to the teacher's space and leaves the teacher as it is.

    Args:
        student: module from the student's width to the teacher's, or ``None``: no projection, nodes without features.

    Shapes: student (b, student_dim) -> (b, d), teacher (b, teacher_dim) -> (b, d).
    """

    trains_teacher_side = False

    def __init__(self, student: nn.Module | None) -> None:
        super().__init__()
        self.student = student

    def forward(self, embedding: Float[Tensor, "b a"], side: Side) -> Float[Tensor, "b d"]:
        """One side's embeddings in the common space."""
        if side == "teacher" or self.student is None:
            return embedding
        projected: Tensor = self.student(embedding)
        return projected

    def teacher_losses(self, embedding: Float[Tensor, "b d"], labels: Int[Tensor, " b"]) -> CountedLosses:
        """What trains the teacher's side, one number for each sample; nothing here."""
        return embedding.new_zeros(len(embedding)), embedding.new_ones(len(embedding))


class OnlineHead(nn.Module):
    """A linear embedding with a linear classifier on it, trained by its own cross-entropy only.

    Gives a teacher a projection to another width without touching its graph: the nodes are taken without gradient.

    Args:
        dim: width of the teacher's embedding.
        width: width of the nodes; EGA's is 256.
        num_classes: classes of the labels it is trained with.

    Shapes: (b, dim) -> (b, width).
    Paper: the official code of EGA (yccm/EGA@0963f8e) trains its teacher head this way.
    """

    def __init__(self, dim: int, width: int, num_classes: int) -> None:
        super().__init__()
        self.embed = nn.Linear(dim, width)
        self.classify = nn.Linear(width, num_classes)

    def forward(self, embedding: Float[Tensor, "b d"]) -> Float[Tensor, "b w"]:
        """The nodes."""
        nodes: Tensor = self.embed(embedding)
        return nodes

    def losses(self, embedding: Float[Tensor, "b d"], labels: Int[Tensor, " b"]) -> CountedLosses:
        """Cross-entropy of each sample, the head's only training signal, and which samples have a label."""
        return cross_entropy(self.classify(self.embed(embedding)), labels)


class SharedProjector(Projector):
    """Both sides to a width of their own: the teacher's side is an :class:`OnlineHead`."""

    trains_teacher_side = True

    def __init__(self, student_dim: int, teacher_dim: int, num_classes: int, width: int = 256) -> None:
        super().__init__(nn.Linear(student_dim, width))
        self.teacher = OnlineHead(teacher_dim, width, num_classes)

    def forward(self, embedding: Float[Tensor, "b a"], side: Side) -> Float[Tensor, "b w"]:
        """One side's embeddings in the shared space."""
        projected: Tensor = self.teacher(embedding) if side == "teacher" else super().forward(embedding, side)
        return projected

    def teacher_losses(self, embedding: Float[Tensor, "b d"], labels: Int[Tensor, " b"]) -> CountedLosses:
        """Cross-entropy of the teacher's own head."""
        return self.teacher.losses(embedding, labels)


PROJECTORS: Registry[Callable[[int, int, int], Projector]] = Registry("projector")
PROJECTORS.register("shared")(SharedProjector)


@PROJECTORS.register("linear")
def _linear(student_dim: int, teacher_dim: int, num_classes: int) -> Projector:
    return Projector(nn.Linear(student_dim, teacher_dim))


@PROJECTORS.register("mlp")
def _mlp(student_dim: int, teacher_dim: int, num_classes: int) -> Projector:
    layers = nn.Linear(student_dim, teacher_dim), nn.GELU(), nn.Linear(teacher_dim, teacher_dim)
    return Projector(nn.Sequential(*layers))


@PROJECTORS.register("none")
def _none(student_dim: int, teacher_dim: int, num_classes: int) -> Projector:
    return Projector(None)
