"""What gloo ranks do for test_ring_ranks.py: edges, node terms and methods while blocks pass, and what they send."""

import itertools
import os
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from graphkd import distributed
from graphkd.distillers.base import Pair
from graphkd.distillers.factory import create_distiller
from graphkd.distillers.terms import NODE_TARGETS
from graphkd.errors import GraphError
from graphkd.features import Features
from graphkd.graphs.align import align
from graphkd.graphs.alignments import ALIGNMENTS
from graphkd.graphs.graph import Graph
from graphkd.ring.pairs import Pairs
from graphkd.ring.travel import Rows
from tests.distributed import prg_cases, test_eikd_ranks, test_every_distiller
from tests.distributed.ranks import SAMPLES, own_rows
from tests.kernels.inputs import randn

WIDTH, TEACHER, TOKENS, MAPS = 16, 18, 3, (16, 32)  # wider than there are samples: Gram matrices are never fewer bytes
RELATIONS = ("gram", "cosine", "pearson", "euclidean", "squared_euclidean", "rbf")
RULES = ("center", "unit", "sum", "mean", "max")
EDGES: list[tuple[str, str | None, str]] = [
    *itertools.product(RELATIONS, (None,), ("huber",)),
    *itertools.product(("cosine", "euclidean"), RULES, ("huber", "kl")),
    *itertools.product(("euclidean",), (None, "unit"), ("frobenius", "pearson", "cross_entropy")),
    ("rbf", None, "kl"),
]
NODES = list(itertools.product(("identity", "teacher_gram"), ("cosine", "euclidean"), ("frobenius", "huber", "kl")))
METHODS: dict[str, tuple[str, dict[str, Any]]] = {
    "rkd": ("rkd", {"angle_weight": 0.0}),
    "pkt": ("pkt", {}),
    "cc": ("cc", {}),
    "irg": ("irg", {}),
    "sp": ("sp", {"on": "embedding"}),
    "trg": ("trg", {"local_weight": 0.0}),
    "infonce": ("eikd", {"relation": "infonce"}),
    "softmax": ("eikd", {"relation": "softmax", "keep_diagonal": False}),
    "ega": ("ega", {"embed_dim": WIDTH, "teacher_head": "none"}),
}
JOURNEYS = {  # how often a row passes on: the student's, the teacher's, and the student's gradient
    "rkd": (4, 4, 2),  # means and differences, each there and back again
    "pkt": (4, 4, 2),
    "cc": (2, 2, 1),
    "irg": (5, 5, 2),  # for largest entries, too
    "sp": (4, 4, 2),
    "trg": (0, 3, 0),
    "infonce": (3, 0, 1),
    "softmax": (3, 3, 1),
    "ega": (2, 2, 1),
}


def edges(case: tuple[str, str | None, str], chosen: slice) -> dict[str, Any]:
    """Value and gradients of sample-sample edges, both networks' nodes with gradient."""
    relation, rule, alignment = case
    student = (randn(SAMPLES, WIDTH, seed=1) / 4)[chosen].requires_grad_()
    teacher = (randn(SAMPLES, TEACHER, seed=2) / 4)[chosen].requires_grad_()
    sizes = distributed.sizes(len(student), student.device)
    graphs = [Graph().add("x", x).connect("x", relation, "x", normalise=rule).gather(sizes) for x in (student, teacher)]
    value = align(*(each.edges("x", relation, "x") for each in graphs), ALIGNMENTS.get(alignment))
    value.backward()
    return {"value": value.detach(), "student": student.grad, "teacher": teacher.grad}


def nodes(case: tuple[str, str, str], chosen: slice) -> dict[str, Any]:
    """The same of a node term."""
    target, relation, alignment = case
    student, teacher = (randn(SAMPLES, WIDTH, seed=k)[chosen].requires_grad_() for k in (1, 2))
    sizes = tuple(distributed.sizes(len(student), student.device))

    pair = Pair(Graph().add("x", student), Graph().add("x", teacher), Features(student), Features(teacher), sizes=sizes)
    value = NODE_TARGETS.get(target)("x", relation, alignment)(pair)
    value.backward()
    return {"value": value.detach(), "student": student.grad, "teacher": teacher.grad}


def features(chosen: slice, dtype: torch.dtype = torch.float64) -> tuple[Features, Features]:
    """Two networks' views of some samples."""
    shapes = {"embedding": (WIDTH,), "logits": (5,), "lower": (4, 2, 2), "upper": (8, 2, 2), "t": (TOKENS, WIDTH)}
    found = []
    for seed in (1, 2):
        draws = enumerate(shapes.items())
        x = {name: randn(SAMPLES, *shape, seed=10 * seed + k, dtype=dtype)[chosen] for k, (name, shape) in draws}
        maps = {name: x[name] for name in ("lower", "upper")}
        found.append(Features(x["embedding"], x["logits"], maps=maps, tokens={"t": x["t"]}))
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


def others(split: str) -> dict[str, Any]:
    """All samples on rank 0, and what a second derivative and a compiled loss get."""
    x = randn(SAMPLES, WIDTH, seed=1)[own_rows(split)].requires_grad_()
    y = randn(SAMPLES, WIDTH, seed=2)[own_rows(split)]
    sizes = distributed.sizes(len(x), x.device)
    chosen = slice(None) if distributed.rank() == 0 else slice(0, 0)

    def loss(student: torch.Tensor) -> torch.Tensor:
        graphs = [Graph().add("x", each).connect("x", "euclidean", "x").gather(sizes) for each in (student, y)]
        return align(*(each.edges("x", "euclidean", "x") for each in graphs), ALIGNMENTS.get("kl"))

    found: dict[str, Any] = {"second": [second(loss, x)]}
    with distributed.gather_limit(0):
        found["second"].append(second(loss, x))
        for name, each in (("plain", loss), ("compiled", torch.compile(loss, backend="eager"))):
            value = each(x)
            found[name] = value.detach(), torch.autograd.grad(value, x)[0]
        found["empty"] = {case: edges(case, chosen) for case in EDGES}
    with distributed.traffic() as sent, Largest() as gathered:  # 1 GiB is more than these nodes
        loss(x).backward()
    with distributed.gather_limit(0), Largest() as passing:
        loss(x).backward()
    return found | {"below the limit": dict(sent.calls), "largest": (gathered.entries, passing.entries)}


def second(loss: Callable[[torch.Tensor], torch.Tensor], x: torch.Tensor) -> str:
    """A gradient that is to be differentiated again, or what is said against it."""
    try:
        return str(torch.autograd.grad(loss(x), x, create_graph=True))
    except GraphError as error:
        return str(error)


class Largest(TorchDispatchMode):
    """Entries of the largest tensor that is made inside."""

    entries = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = function(*args, **(kwargs or {}))
        sizes = [each.numel() for each in tree_leaves(made) if isinstance(each, torch.Tensor)]
        self.entries = max([self.entries, *sizes])
        return made


def every_distiller(split: str) -> dict[str, Any]:
    """Every method on this rank's share, blocks passing wherever they will do."""
    with distributed.gather_limit(0):
        return test_every_distiller.every_outcome(split)


def every_option() -> tuple[dict[Any, Any], list[Any]]:
    """PRG's and EIKD's options."""
    with distributed.gather_limit(0):
        return prg_cases.every_outcome(), test_eikd_ranks.every_outcome()


IN_DDP = {"edges": "sample", "edge_alignment": "huber"}


def wrapped(split: str) -> dict[str, Any]:
    """Two training steps of PRG in DistributedDataParallel."""
    before = prg_cases.SPLITS[split][: distributed.rank() + 1]
    with distributed.gather_limit(0), distributed.traffic() as sent:
        found = prg_cases.step_outcome(IN_DDP, slice(sum(before[:-1]), sum(before)))
    return {"shared": found["shared"], "values": found["values"], "calls": dict(sent.calls)}


def raising(rank: int, world: int, folder: str, seconds: float) -> None:
    """A rank that fails while blocks pass, in a process of its own; each writes how it ended."""
    store = dist.FileStore(f"{folder}/store", world)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=world, timeout=timedelta(seconds=seconds))

    def values(own: Rows, theirs: Rows, first: int, start: int) -> Rows:
        if rank == 1:  # with its own block: the next one never leaves it
            raise ValueError("this rank's graphics memory is full")
        return (own[0] @ theirs[0].T,)

    began = time.monotonic()
    try:
        Pairs((torch.ones(1, 3),), (torch.ones(1, 3),), (1,) * world, values, rank).sum(lambda x: x)
        ended = "finished"
    except (RuntimeError, ValueError) as error:
        ended = f"{type(error).__name__}: {error}"
    Path(folder, f"{rank}.txt").write_text(f"{time.monotonic() - began}\n{ended}")
    os._exit(0)
