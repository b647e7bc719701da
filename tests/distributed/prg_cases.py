"""What two ranks do for test_prg_ranks.py: PRG under its options, edges under every relation, the primitives."""

import torch
from torch import nn

from graphkd import distributed
from graphkd.distillers.prg.distiller import PRGDistiller
from graphkd.distillers.pseudo_labels import PseudoLabels
from graphkd.features import Features
from graphkd.graphs.align import align
from graphkd.graphs.alignments import ALIGNMENTS
from graphkd.graphs.graph import Graph
from graphkd.step import Step, labelled_cross_entropy

F64 = torch.float64
B, C, DS, DT = 8, 3, 5, 6
SPLITS = {"even": [4, 4], "uneven": [5, 3]}

PRG_CASES = {
    **{f"{preset} {edges}": {"preset": preset, "edges": edges} for preset in ("stable", "ega")
       for edges in ("class", "sample")},
    "features alone": {"rho": 1.0},
    "teacher gram": {"node_target": "teacher_gram"},
    "soft labels": {"labels": {"target": "soft", "threshold": 0.4}},
}  # fmt: skip
EDGE_CASES = [
    (relation, rule, alignment)
    for relation, rule in (("euclidean", "mean"), ("squared_euclidean", "max"), ("rbf", "sum"), ("cosine", "unit"))
    for alignment in ("huber", "frobenius")
]
STEP_CASES = {"default": {}, "samples": {"edges": "sample"}}


def randn(*shape, seed):
    return torch.randn(*shape, dtype=F64, generator=torch.Generator().manual_seed(seed))


def prg(options):
    torch.manual_seed(0)
    labels = options.get("labels", "hard")
    if isinstance(labels, dict):
        labels = PseudoLabels(**labels)
    return PRGDistiller(DS, DT, C, **{**options, "labels": labels}).double()


def prg_outcome(options, rows):
    """Values and gradients of PRG on some rows of the batch; rows of the same process stay in order."""
    distiller = prg(options)
    embedding = randn(B, DS, seed=1)[rows].requires_grad_()
    proxies = randn(C, DS, seed=2).requires_grad_()
    text = randn(C, DT, seed=3)
    seen = randn(B, DT, seed=4)[rows]
    losses = distiller(
        Features(embedding, embedding @ proxies.T, proxies, proxies @ proxies.T),
        Features(seen, seen @ text.T, text, text @ text.T),
    )
    losses.total.backward()
    shared = {name: parameter.grad for name, parameter in distiller.named_parameters()}
    return {
        "values": {name: value.detach() for name, value in losses.items()},
        "rows": embedding.grad,
        "shared": {**shared, "proxies": proxies.grad},
        "buffers": dict(distiller.named_buffers()),
    }


def edge_outcome(case, rows):
    """The same of sample-sample edges under a relation, a rule and an alignment."""
    relation, rule, alignment = case
    x, y = randn(B, DS, seed=5)[rows].requires_grad_(), randn(B, DT, seed=6)[rows]
    sizes = distributed.sizes(len(x), x.device)
    student, teacher = (
        Graph().add("sample", each).connect("sample", relation, "sample", normalise=rule).gather(sizes)
        for each in (x, y)
    )
    value = align(*(g.edges("sample", relation, "sample") for g in (student, teacher)), ALIGNMENTS.get(alignment))
    value.backward()
    return {"values": {"edge": value.detach()}, "rows": x.grad, "shared": {}, "buffers": {}}


class Student(nn.Module):
    def __init__(self):
        super().__init__()
        self.body, self.head = nn.Linear(12, DS), nn.Linear(DS, C)

    def forward(self, images):
        embedding, proxies = self.body(images.flatten(1)), self.head.weight.clone()
        return Features(embedding, self.head(embedding), proxies, self.head(proxies))


def step_outcome(options, rows):
    """Two steps of a Step with a few labels, in DistributedDataParallel where there is a group."""
    distiller = prg(options)
    torch.manual_seed(1)
    step = Step(Student().double(), distiller, task=labelled_cross_entropy)
    model = nn.parallel.DistributedDataParallel(step) if distributed.world_size() > 1 else step
    text, seen = randn(C, DT, seed=3), randn(B, DT, seed=4)[rows]
    target = torch.tensor([0, -1, 2, 1, -1, -1, -1, 1])[rows]
    optimizer = torch.optim.SGD(step.parameters(), lr=0.1)
    for _ in range(2):
        optimizer.zero_grad()
        images = randn(B, 12, seed=7)[rows]
        losses = model(images, Features(seen, seen @ text.T, text, text @ text.T), target=target)
        losses.total.backward()
        optimizer.step()
    return {
        "values": {name: value.detach() for name, value in losses.items()},
        "rows": torch.empty(0),
        "shared": {name: parameter.grad for name, parameter in step.named_parameters()},
        "buffers": {name: value.detach() for name, value in step.state_dict().items()},
    }


def primitive_outcomes():
    """What each rank sees of total, gather, maximum and sizes, with its own gradients."""
    rank = distributed.rank()
    found = {"sizes": distributed.sizes(3 - rank, torch.device("cpu"))}
    x = torch.full((2,), 1.0 + rank, dtype=F64, requires_grad=True)  # (1, 1), (2, 2)
    total = distributed.total(x)
    total.square().sum().backward()
    found["total"] = total.detach(), x.grad
    rows = (torch.arange(3.0 - rank, dtype=F64) + 10 * rank).requires_grad_()  # (0, 1, 2), (10, 11)
    everyone = distributed.gather(rows, found["sizes"])
    (distributed.total((1 + rank) * everyone.sum()) ** 2 / 2).backward()  # L = S^2 / 2, S = 3 * 24
    found["gather"] = everyone.detach(), rows.grad
    for name, start in (("maximum", 5.0), ("tie", 7.0)):
        value = torch.tensor(start if rank == 0 else 7.0, dtype=F64, requires_grad=True)
        largest = distributed.maximum(value)
        (3 * largest).backward()
        found[name] = largest.detach(), value.grad
    return found


OUTCOMES = (
    ("prg", prg_outcome, PRG_CASES),
    ("edges", edge_outcome, {" ".join(case): case for case in EDGE_CASES}),
    ("step", step_outcome, STEP_CASES),
)


def every_outcome():
    """One rank: every case under every split."""
    found = {"primitives": primitive_outcomes()}
    for split, sizes in SPLITS.items():
        rows = slice(sum(sizes[: distributed.rank()]), sum(sizes[: distributed.rank() + 1]))
        for kind, outcome, cases in OUTCOMES:
            found |= {(kind, name, split): outcome(case, rows) for name, case in cases.items()}
    return found
