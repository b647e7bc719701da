"""Two ranks that each go through their share in chunks equal one process with the whole batch at once."""

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor
from torch.testing import assert_close

from graphkd.distillers.factory import create_distiller
from graphkd.distillers.prg.distiller import PRGDistiller
from graphkd.errors import ShapeError
from graphkd.step import Step, labelled_cross_entropy
from tests.test_chunks import CLASSES, images, network

SPLITS = {"even": (6, 6), "uneven": (7, 5)}


def sharded(step):
    """FSDP2, the classifier and a block of the student on their own."""
    for part in (step.student.model[0], step.student.model[5], step):
        fully_shard(part, mesh=init_device_mesh("cpu", (2,)))
    return step


def outcome(rows, chunk, wrap=nn.parallel.DistributedDataParallel):
    """Terms and averaged gradients: relations of the batch, maps of each image, a task; projectors included."""
    torch.manual_seed(0)
    student, teacher = network(), network().eval()
    seen = teacher(images(12)).detach()
    distillers = [PRGDistiller(20, 20, CLASSES), create_distiller("fitnet", student(images(2)), seen.rows(slice(2)))]
    step = Step(student, *(each.double().eval() for each in distillers), task=labelled_cross_entropy, chunk=chunk)
    wrapped = wrap(step) if dist.is_initialized() else step
    losses = wrapped(images(12)[rows], seen.rows(rows), target=torch.arange(12)[rows] % CLASSES)
    losses.total.backward()
    gradients = {
        name: p.grad.full_tensor() if isinstance(p.grad, DTensor) else p.grad for name, p in step.named_parameters()
    }
    return {name: value.detach() for name, value in losses.items()}, gradients


def every_outcome():
    found, rank = {}, dist.get_rank()
    for split, sizes in SPLITS.items():
        for chunk in (2, 4):
            start = sum(sizes[:rank])
            found[split, chunk] = outcome(slice(start, start + sizes[rank]), chunk)
            found[split, chunk, "FSDP2"] = outcome(slice(start, start + sizes[rank]), chunk, sharded)
    try:
        outcome(slice(0, 10) if rank == 0 else slice(10, 12), 2)
    except ShapeError as error:
        found["refused"] = str(error)
    return found


@pytest.fixture(scope="module")
def ranks(on_ranks):
    return on_ranks(2, every_outcome)


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("chunk", [2, 4])
@pytest.mark.parametrize("wrapper", [(), ("FSDP2",)], ids=["DDP", "FSDP2"])
def test_two_ranks_in_chunks_equal_one_process_at_once(ranks, split, chunk, wrapper):
    expected = outcome(slice(None), None)
    for found in ranks:
        assert_close(found[split, chunk, *wrapper], expected, rtol=1e-9, atol=1e-12)


def test_a_rank_with_fewer_samples_than_chunks_is_refused_on_all(ranks):
    for found in ranks:
        assert "the ranks hold [10, 2] samples, and chunks of 2 are 5 on each" in found["refused"]
