"""A Step in DDP or FSDP2 on several ranks has the gradients of one process: every method, with a task, to the student."""

from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor

from graphkd.distillers.factory import create_distiller
from graphkd.step import Step, labelled_cross_entropy
from graphkd.training.gradient_shares import gradient_shares
from tests.distiller_laws import NAMES, OPTIONS
from tests.distributed.ranks import SAMPLES, own_rows
from tests.test_chunks import F64, WithTokens, beside, images, network, with_tokens

CASES = [("DDP", 2), ("DDP", 4), ("FSDP2", 2), pytest.param("FSDP2", 4, marks=pytest.mark.slow)]
PASSES = 2  # DDP complains of a parameter without gradient at the next pass


def sharded(step: Step) -> nn.Module:
    """FSDP2: the stages, the classifier and the student each on their own, and the rest with the whole."""
    first, deeper, *_, classifier = step.student.tap.model
    for part in (first, deeper, classifier, step.student, step):
        fully_shard(part, mesh=init_device_mesh("cpu", (dist.get_world_size(),)))
    return step


WRAPPERS = {"DDP": nn.parallel.DistributedDataParallel, "FSDP2": sharded, "": lambda step: step}


def made_step(name: str) -> tuple[Step, Any]:
    """A student with this method's parts and a task, and the teacher's features of all samples."""
    torch.manual_seed(0)
    student, teacher = WithTokens(network()), with_tokens(network(width=10).eval()(images(SAMPLES))).detach()
    distiller = create_distiller(name, student(images(SAMPLES)), teacher, **OPTIONS.get(name, {}))
    return Step(student, distiller.to(F64).eval(), task=labelled_cross_entropy), teacher


def losses_and_gradients(name: str, wrapper: str, chosen: slice) -> dict[str, Any]:
    """Of the second of two passes with an update between them, from this process's share of the batch."""
    step, teacher = made_step(name)
    wrapped = WRAPPERS[wrapper](step)
    optimizer = torch.optim.SGD(step.parameters(), lr=0.01)
    given = {key: value[chosen] for key, value in beside(SAMPLES).items()}
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


def every_outcome(wrapper: str, split: str) -> dict[str, Any]:
    return {name: losses_and_gradients(name, wrapper, own_rows(split)) for name in NAMES}


@pytest.fixture(scope="module")
def outcomes(on_ranks):
    found = {}

    def of(world, wrapper, split):
        if (world, wrapper, split) not in found:
            found[world, wrapper, split] = on_ranks(world, every_outcome, wrapper, split)
        return found[world, wrapper, split]

    return of


@pytest.fixture(scope="module")
def whole():
    return every_outcome("", "")


@pytest.mark.parametrize(("wrapper", "world"), CASES)
@pytest.mark.parametrize("split", ["even", "uneven"])
@pytest.mark.parametrize("name", NAMES)
def test_a_wrapped_step_has_the_gradients_of_one_process(outcomes, whole, same, name, wrapper, split, world):
    for rank in outcomes(world, wrapper, split):
        expects = {what: x for what, x in whole[name].items() if wrapper != "FSDP2" or not what.startswith("share of ")}
        assert rank[name].keys() == expects.keys()
        for what, expected in expects.items():
            same(rank[name][what], expected, what)
