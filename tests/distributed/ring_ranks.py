"""What gloo ranks do for test_ring_ranks.py: edges, node terms and methods while blocks pass, and what they send."""

import itertools
from typing import Any

import torch

from graphkd import distributed, ops
from graphkd.alignments import ALIGNMENTS
from graphkd.distillers.factory import create_distiller
from graphkd.distillers.terms import NODE_TARGETS
from graphkd.features import Features
from graphkd.graph import Graph
from tests.distributed import prg_cases, test_eikd_ranks, test_every_distiller
from tests.distributed.ranks import SAMPLES, own_rows
from tests.kernels.inputs import randn

WIDTH, TEACHER, TOKENS = 16, 18, 3  # wider than there are samples: Gram matrices are never fewer bytes
RELATIONS = ("gram", "cosine", "pearson", "euclidean", "squared_euclidean", "rbf")
RULES = (None, "center", "unit", "sum", "mean", "max")
EDGES = [
    *itertools.product(RELATIONS, RULES, ("huber",)),
    *itertools.product(("gram", "cosine", "euclidean"), RULES, ("frobenius", "kl", "pearson", "cross_entropy")),
]
NODES = list(itertools.product(("identity", "teacher_gram"), ("cosine", "euclidean"), ("frobenius", "huber", "kl")))
METHODS: dict[str, tuple[str, dict[str, Any]]] = {  # and a half of the numbers that pass: rows sent, of how many passes
    "rkd": ("rkd", {"angle_weight": 0.0}),
    "pkt": ("pkt", {}),
    "cc": ("cc", {}),
    "irg": ("irg", {}),
    "sp": ("sp", {"on": "embedding"}),
    "trg": ("trg", {"local_weight": 0.0}),
    "eikd": ("eikd", {"relation": "infonce"}),
    "eikd without diagonal": ("eikd", {"relation": "softmax", "keep_diagonal": False}),
    "ega": ("ega", {"embed_dim": WIDTH, "teacher_head": "none"}),
}


def edges(case: tuple[str, str | None, str], chosen: slice) -> dict[str, Any]:
    """Value and gradients of sample-sample edges, both networks' nodes with gradient."""
    relation, rule, alignment = case
    student = (randn(SAMPLES, WIDTH, seed=1) / 4)[chosen].requires_grad_()
    teacher = (randn(SAMPLES, TEACHER, seed=2) / 4)[chosen].requires_grad_()
    sizes = distributed.sizes(len(student), student.device)
    graphs = [Graph().add("x", x).connect("x", relation, "x", normalise=rule).gather(sizes) for x in (student, teacher)]
    value = ops.align(*(each.edges("x", relation, "x") for each in graphs), ALIGNMENTS.get(alignment))
    value.backward()
    return {"value": value.detach(), "student": student.grad, "teacher": teacher.grad}


def nodes(case: tuple[str, str, str], chosen: slice) -> dict[str, Any]:
    """The same of a node term."""
    target, relation, alignment = case
    student, teacher = (randn(SAMPLES, WIDTH, seed=k)[chosen].requires_grad_() for k in (1, 2))
    sizes = tuple(distributed.sizes(len(student), student.device))

    class Pair:
        pass

    pair: Any = Pair()
    pair.sizes, pair.student, pair.teacher = sizes, Graph().add("x", student), Graph().add("x", teacher)
    value = NODE_TARGETS.get(target)("x", relation, alignment)(pair)
    value.backward()
    return {"value": value.detach(), "student": student.grad, "teacher": teacher.grad}


def features(chosen: slice, dtype: torch.dtype = torch.float64) -> tuple[Features, Features]:
    """Two networks' views of some samples."""
    found = []
    for seed in (1, 2):
        shapes = {"embedding": (WIDTH,), "logits": (5,), "lower": (4, 2, 2), "upper": (8, 2, 2), "t": (TOKENS, WIDTH)}
        values = {
            name: randn(SAMPLES, *shape, seed=10 * seed + k, dtype=dtype)[chosen]
            for k, (name, shape) in enumerate(shapes.items())
        }
        maps = {"lower": values["lower"], "upper": values["upper"]}
        found.append(Features(values["embedding"], values["logits"], maps=maps, tokens={"t": values["t"]}))
    student, teacher = found
    return student.map_tensors(lambda x: x.requires_grad_()), teacher


def method(name: str, chosen: slice, dtype: torch.dtype = torch.float64) -> dict[str, Any]:
    """Terms, gradients of the student's features and of the method's own parameters, and what was sent."""
    student, teacher = features(chosen, dtype)
    torch.manual_seed(0)
    distiller = create_distiller(METHODS[name][0], student, teacher, **METHODS[name][1]).to(dtype)
    with distributed.traffic() as sent:
        losses = distiller(student, teacher)
        losses.total.backward()
    rows = [torch.zeros_like(x) if x.grad is None else x.grad for x in student.tensors()]
    owned = {key: each.grad for key, each in distiller.named_parameters() if each.grad is not None}
    values = {key: each.detach() for key, each in losses.items()}
    return {"values": values, "rows": rows, "owned": owned, "handed": dict(sent.handed), "sent": sent.sent}


def outcomes(split: str) -> dict[Any, Any]:
    """All cases on this rank, blocks passing wherever they will do."""
    chosen = own_rows(split)
    with distributed.gather_limit(0):
        found: dict[Any, Any] = {("edges", *case): edges(case, chosen) for case in EDGES}
        found |= {("nodes", *case): nodes(case, chosen) for case in NODES}
        return found | {("method", name): method(name, chosen) for name in METHODS}


def without_rows() -> dict[Any, Any]:
    """All samples on rank 0, none on the others."""
    chosen = slice(None) if distributed.rank() == 0 else slice(0, 0)
    with distributed.gather_limit(0):
        return {("edges", *case): edges(case, chosen) for case in EDGES}


def every_distiller(split: str) -> dict[str, Any]:
    with distributed.gather_limit(0):
        return test_every_distiller.every_outcome(split)


def every_prg() -> dict[Any, Any]:
    with distributed.gather_limit(0):
        return prg_cases.every_outcome()


def every_eikd() -> list[Any]:
    with distributed.gather_limit(0):
        return test_eikd_ranks.every_outcome()
