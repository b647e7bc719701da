"""A Step in DDP or FSDP2 on several ranks has the gradients of one process: every method, with a task, to the student.

Two ranks that go through their shares in chunks have them too.
"""

from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor

from graphkd.distillers.factory import create_distiller
from graphkd.errors import ShapeError
from graphkd.step import Step, labelled_cross_entropy
from graphkd.training.gradient_shares import gradient_shares
from tests.distiller_laws import NAMES, OPTIONS
from tests.distributed.ranks import SAMPLES, own_rows
from tests.test_chunks import F64, WithTokens, beside, images, network, with_tokens

CHUNK, IN_CHUNKS = 4, ("prg", "fitnet")  # relations of the batch, maps of each image
CASES = [(name, *how, None) for name in NAMES for how in (("DDP", 2), ("DDP", 4), ("FSDP2", 2))]
CASES += [(name, wrapper, 2, CHUNK) for name in IN_CHUNKS for wrapper in ("DDP", "FSDP2")]
CASES += [pytest.param(name, "FSDP2", 4, None, marks=pytest.mark.slow) for name in NAMES]
PASSES = 2  # DDP complains of a parameter without gradient at the next pass


def sharded(step: Step) -> nn.Module:
    """FSDP2: the stages, the classifier and the student each on their own, and the rest with the whole."""
    first, deeper, *_, classifier = step.student.tap.model
    for part in (first, deeper, classifier, step.student, step):
        fully_shard(part, mesh=init_device_mesh("cpu", (dist.get_world_size(),)))
    return step


WRAPPERS = {"DDP": nn.parallel.DistributedDataParallel, "FSDP2": sharded, "": lambda step: step}


def made_step(name: str, chunk: int | None) -> tuple[Step, Any]:
    """A student with this method's parts and a task, and the teacher's features of all samples."""
    torch.manual_seed(0)
    student, teacher = WithTokens(network()), with_tokens(network(width=10).eval()(images(SAMPLES))).detach()
    distiller = create_distiller(name, student(images(SAMPLES)), teacher, **OPTIONS.get(name, {}))
    return Step(student, distiller.to(F64).eval(), task=labelled_cross_entropy, chunk=chunk), teacher


def losses_and_gradients(name: str, wrapper: str, chosen: slice, chunk: int | None) -> dict[str, Any]:
    """Of the second of two passes with an update between them, from this process's share of the batch."""
    step, teacher = made_step(name, chunk)
    wrapped = WRAPPERS[wrapper](step)
    optimizer = torch.optim.SGD(step.parameters(), lr=0.01)
    given = {key: value[chosen] for key, value in beside(SAMPLES).items()}
    given["target"] = given["target"].masked_fill(given["index"] % 3 == 0, -1)  # not every image has a label
    for number in range(PASSES):
        optimizer.zero_grad()
        losses = wrapped(images(SAMPLES)[chosen], teacher.rows(chosen), **given)
        shares = {} if wrapper == "FSDP2" else gradient_shares(losses, step.student.parameters())
        losses.total.backward()
        if number + 1 < PASSES:
            optimizer.step()
    found = {"value " + key: value.detach() for key, value in losses.items()}
    found |= {"share of " + key: torch.tensor(value, dtype=F64) for key, value in shares.items()}
    assert all(p.grad is not None for p in step.parameters())
    return found | {
        key: p.grad.full_tensor() if isinstance(p.grad, DTensor) else p.grad for key, p in step.named_parameters()
    }


def every_outcome(wrapper: str, split: str, chunk: int | None) -> dict[str, Any]:
    names = NAMES if chunk is None else IN_CHUNKS
    return {name: losses_and_gradients(name, wrapper, own_rows(split), chunk) for name in names}


def refused(wrapper: str, split: str, chunk: int) -> str:
    try:
        losses_and_gradients("kd", wrapper, own_rows(split), chunk)
    except ShapeError as error:
        return str(error)
    return "nothing"


@pytest.fixture(scope="module")
def whole():
    return every_outcome("", "", None)


@pytest.mark.parametrize(("name", "wrapper", "world", "chunk"), CASES)
@pytest.mark.parametrize("split", ["even", "uneven"])
def test_a_wrapped_step_has_the_gradients_of_one_process(
    once_on_ranks, whole, same, name, wrapper, split, world, chunk
):
    for rank in once_on_ranks(world, every_outcome, wrapper, split, chunk):
        expects = {what: x for what, x in whole[name].items() if wrapper != "FSDP2" or not what.startswith("share of ")}
        assert rank[name].keys() == expects.keys()
        for what, expected in expects.items():
            same(rank[name][what], expected, what)


def test_a_rank_with_fewer_samples_than_chunks_is_refused_on_all(on_ranks):
    for said in on_ranks(2, refused, "DDP", "uneven", 2):
        assert "the ranks hold [9, 3] samples, and chunks of 2 are 5 on each" in said
