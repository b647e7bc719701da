"""Two ranks equal one process: every method, values and gradients of the student's features, in one spawn."""

import socket
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch.multiprocessing.spawn import spawn
from torch.testing import assert_close

from graphkd.distillers.base import DISTILLERS
from graphkd.features import Features
from tests.distiller_laws import NAMES, beside, between, gradients, networks, rows, with_gradient

SAMPLES = 12
SPLITS = {"even": (6, 6), "uneven": (9, 3)}
KEPT = [name for name in NAMES if not DISTILLERS.get(name).global_batch.startswith("undefined")]


def losses_and_gradients(name: str, chosen: slice) -> dict[str, Any]:
    """What one process gets from its share of the batch; BatchNorm is in eval mode, as it sees one rank only."""
    student, teacher = networks(SAMPLES)
    distiller = between(name, student, teacher).eval()
    part = with_gradient(rows(student, chosen))
    given = {key: value[chosen] for key, value in beside(SAMPLES).items()}
    losses = distiller(part, rows(teacher, chosen), **given)
    parameters = [each for each in distiller.parameters() if each.requires_grad]
    found = torch.autograd.grad(losses.total, parameters, allow_unused=True, retain_graph=True) if parameters else ()
    return {
        "values": dict(losses.items()),
        "features": gradients(losses, part),
        "parameters": [torch.zeros_like(p) if g is None else g for p, g in zip(parameters, found, strict=True)],
    }


def _work(rank: int, port: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", f"tcp://127.0.0.1:{port}", rank=rank, world_size=2, timeout=timedelta(seconds=120)
    )
    for split, sizes in SPLITS.items():
        start = sum(sizes[:rank])
        for name in KEPT:
            found = losses_and_gradients(name, slice(start, start + sizes[rank]))
            torch.save(found, Path(folder) / f"{name}-{split}-{rank}.pt")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def ranks(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ranks")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    spawn(_work, (port, str(folder)), nprocs=2)
    return folder


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("name", KEPT)
def test_two_ranks_equal_one_process(ranks, name, split):
    one = losses_and_gradients(name, slice(0, SAMPLES))
    two = [torch.load(ranks / f"{name}-{split}-{rank}.pt", weights_only=True) for rank in range(2)]
    for rank in two:
        assert_close(rank["values"], one["values"], rtol=1e-6, atol=1e-9)
    # Each rank's gradient is W dL/d(own rows): the averaging of DDP over W ranks makes it dL/d(theta).
    for leaf, expected in zip(_names(), zip(one["features"], *(each["features"] for each in two), strict=True), strict=True):
        whole, *parts = expected
        found = torch.cat(parts) / 2 if leaf not in ("proxies", "proxy_logits") else sum(parts) / 2
        assert_close(found, whole, rtol=1e-6, atol=1e-9, msg=lambda text, leaf=leaf: f"{leaf}: {text}")
    for whole, *parts in zip(one["parameters"], *(each["parameters"] for each in two), strict=True):
        assert_close(sum(parts) / 2, whole, rtol=1e-6, atol=1e-9)


def _names() -> list[str]:
    """What ``Features.tensors`` holds, in its order."""
    names = {id(value): name for name, value in vars(SAMPLE).items() if isinstance(value, torch.Tensor)}
    return [names.get(id(value), "of a sample") for value in SAMPLE.tensors()]


SAMPLE: Features = networks(SAMPLES)[0]


def test_methods_without_this_law_are_few_and_say_why():
    undefined = {name: DISTILLERS.get(name).global_batch for name in NAMES if name not in KEPT}
    assert len(undefined) <= 3
    assert all(reason.removeprefix("undefined:").strip() for reason in undefined.values())
