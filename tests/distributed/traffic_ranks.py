"""What gloo processes do for ``test_traffic.py``: values, gradients and bytes of edges and nodes, results on disk."""

import itertools
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist

from graphkd import distributed
from graphkd.distillers.cc import CCDistiller
from graphkd.distillers.dist import DISTDistiller
from graphkd.distillers.ega import EGADistiller
from graphkd.distillers.sp import SPDistiller
from graphkd.features import Features
from graphkd.graphs.align import align
from graphkd.graphs.alignments import ALIGNMENTS
from graphkd.graphs.graph import Graph
from tests.kernels.inputs import randn

SPLITS = {2: {"even": (10, 10), "uneven": (13, 7)}, 4: {"even": (5, 5, 5, 5), "uneven": (7, 2, 5, 6)}}
SAMPLES = 20
WIDTHS = (4, 6, None)  # of the teacher; None: the student's own nodes, whose edges are at distance 0
EDGES = list(itertools.product(("gram", "cosine", "pearson"), (None, "center", "unit"), WIDTHS, ("frobenius", "mse")))
DISTILLERS = {
    "ega": lambda: EGADistiller(4, 6, 3, embed_dim=4),
    "ega mse": lambda: EGADistiller(4, 6, 3, embed_dim=4, norm="mse"),
    "ega joint": lambda: EGADistiller(4, 6, 3, embed_dim=4, teacher_head="joint"),
    "ega wide": lambda: EGADistiller(4, 6, 3, embed_dim=30, classifier_on="feature"),  # gathered
    "ega nodes": lambda: EGADistiller(4, 6, 3, embed_dim=4, edge_weight=0.0),
    "ega spectral": lambda: EGADistiller(4, 6, 3, embed_dim=4, norm="spectral"),
    "sp": lambda: SPDistiller(on="embedding"),
    "dist": lambda: DISTDistiller(temperature=2.0),
    "cc": lambda: CCDistiller(4, 6, embed_dim=3),  # a teacher's layer that learns
}


def edges(case, chosen):
    """Value and gradients of sample-sample edges."""
    relation, rule, width, alignment = case
    student = randn(SAMPLES, 4, seed=1)[chosen].requires_grad_()
    teacher = randn(SAMPLES, width or 4, seed=2 if width else 1)[chosen].requires_grad_()
    sizes = distributed.sizes(len(student), student.device)
    graphs = [Graph().add("x", x).connect("x", relation, "x", normalise=rule).gather(sizes) for x in (student, teacher)]
    value = align(*(each.edges("x", relation, "x") for each in graphs), ALIGNMENTS.get(alignment))
    value.backward()
    return {"value": value.detach(), "student": student.grad, "teacher": teacher.grad}


def method(name, chosen):
    """Terms, gradients of the student's rows and of what the distiller owns."""
    torch.manual_seed(0)
    distiller = DISTILLERS[name]().double()
    student = randn(SAMPLES, 4, seed=1)[chosen].requires_grad_()
    seen = randn(SAMPLES, 6, seed=2)[chosen]
    given = {"target": (torch.arange(SAMPLES) % 3)[chosen]}
    dead = torch.cat([student[:, :3], student[:, :1] * 0 + 1], 1)  # a class that is never moved
    losses = distiller(Features(student, dead), Features(seen, seen[:, :4]), **given)
    losses.total.backward()
    owned = {name: each.grad for name, each in distiller.named_parameters()}
    return {"value": {k: v.detach() for k, v in losses.items()}, "student": student.grad, "owned": owned}


def bytes_of_ega(rows, width):
    """What a rank hands over for EGA's edges and nodes, forward and backward, its teacher's head left out."""
    distiller = EGADistiller(width, width, 3, embed_dim=width, teacher_head="frozen")
    student = randn(rows, width, seed=1, dtype=torch.float32).requires_grad_()
    with distributed.traffic() as found:
        distiller(Features(student), Features(randn(rows, width, seed=2, dtype=torch.float32))).total.backward()
    return dict(found.handed), dict(found.calls), found.total


def work(rank, world, folder):
    """All cases on one rank."""
    torch.set_num_threads(1)
    store = dist.FileStore(str(Path(folder) / "store"), world)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=world, timeout=timedelta(seconds=120))
    found = {}
    for split, sizes in SPLITS[world].items():
        chosen = slice(sum(sizes[:rank]), sum(sizes[: rank + 1]))
        found |= {(split, case): edges(case, chosen) for case in EDGES}
        found |= {(split, name): method(name, chosen) for name in DISTILLERS}
    found |= {("bytes", rows, width): bytes_of_ega(rows, width) for rows in (64, 256) for width in (16, 1024)}
    torch.save(found, Path(folder) / f"{rank}.pt")
    dist.destroy_process_group()
