"""Trainer with sharded parameters (FSDP2): the weights of one process, interrupted and resumed on other numbers too."""

import os
import signal

import pytest
import torch
from torch import nn
from torch.distributed.tensor import DTensor

from graphkd import distributed
from graphkd.distillers.factory import create_distiller
from graphkd.distillers.prg.distiller import PRGDistiller
from graphkd.models.tap import Tap
from graphkd.step import Step
from graphkd.training.failures import Interrupted
from graphkd.training.loop import Trainer
from tests.training import tiny

IMAGES, STOP = 32, 5
ONE = (1, False)
MANNERS = {"DDP": (2, False), "FSDP2": (2, True), "FSDP2 on 4": (4, True), "one process": ONE}


class Double(nn.Module):
    def forward(self, images):
        return images.double()


def network(width):
    """In float64, so that only rounding is left between the ways to train it; a block, a convolution, a classifier."""
    torch.manual_seed(width)
    block = nn.Sequential(nn.Conv2d(3, width, 3, padding=1), nn.Tanh())
    head = nn.Linear(2 * width, tiny.CLASSES)
    deeper = nn.Conv2d(width, 2 * width, 3, stride=2)
    model = nn.Sequential(Double(), block, deeper, nn.Tanh(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), head).double()
    return Tap(model, maps=["1"])


def train(folder, shard, stop=0):
    """Train to the end, or until a signal at batch ``stop``; what is left as whole tensors."""
    student, teacher = network(4), network(6).eval()
    seen = teacher(torch.zeros(2, 3, 8, 8)).detach()
    methods = (
        PRGDistiller(8, 12, tiny.CLASSES),
        create_distiller("fitnet", student(torch.zeros(2, 3, 8, 8)), seen, adapter="conv"),
    )
    step = Step(student, *(each.double() for each in methods))
    if distributed.rank():  # another start than the first process's: it must not matter
        nn.init.normal_(student.classifier.weight)

    def features(batch):
        with torch.no_grad():
            return teacher(batch.teacher)

    config = tiny.config(accumulate=2, ema=0.9, clip=1.0, shard=shard)
    made = Trainer(step, tiny.views(IMAGES), features, config, folder, scored=tiny.views(15, labels=True))
    tiny.at_batch(made, stop, lambda: os.kill(os.getpid(), signal.SIGTERM))
    sharded = {isinstance(each, DTensor) for each in made.step.parameters()}
    try:
        result = made.fit(resume=True)
    except Interrupted:
        return {"stopped": made.at.update}
    state = made.updater.state()
    moments = {
        f"{number}/{name}": value
        for number, values in state["optimizer"]["state"].items()
        for name, value in values.items()
    }
    found = {"model": dict(result.model.state_dict()), "step": state["step"], "moments": moments}
    return {**found, "top1": result.scores.top1, "images": result.scores.images, "sharded": sharded}


@pytest.fixture(scope="module")
def trained(on_ranks, tmp_path_factory):
    """By the ways to train up to the signal, and from there to the end; what every process has."""
    kept = {}

    def of(*manners):
        if manners not in kept:
            folder = str(tmp_path_factory.mktemp("run") / "run")
            for number, (world, shard) in enumerate(manners, start=1):
                given = folder, shard, 0 if number == len(manners) else STOP
                found = [train(*given)] if world == 1 else on_ranks(world, train, *given)
            kept[manners] = found
        return kept[manners]

    return of


def assert_same(same, found, expected):
    for part in ("model", "step", "moments"):
        assert found[part].keys() == expected[part].keys()
        for name, value in expected[part].items():
            same(found[part][name].double(), value.double(), f"{part} {name}")
    assert (found["top1"], found["images"]) == (expected["top1"], expected["images"]) == (expected["top1"], 15)


@pytest.mark.parametrize("manner", ["DDP", "FSDP2", "FSDP2 on 4"])
def test_training_gives_the_weights_of_one_process(trained, same, manner):
    world, shard = MANNERS[manner]
    for found in trained((world, shard)):
        assert found["sharded"] == {shard}
        assert_same(same, found, trained(ONE)[0])


@pytest.mark.parametrize("after", MANNERS)
@pytest.mark.parametrize("before", ["FSDP2", "DDP"])
def test_an_interrupted_run_goes_on_in_any_manner(trained, same, before, after):
    for found in trained(MANNERS[before], MANNERS[after]):
        assert_same(same, found, trained(ONE)[0])


@pytest.mark.parametrize("manner", ["FSDP2", "FSDP2 on 4"])
def test_sharded_training_resumes_bit_for_bit(trained, manner):
    how = MANNERS[manner]
    for found, expected in zip(trained(how, how), trained(how), strict=True):
        for part in ("model", "step", "moments"):
            for name, value in expected[part].items():
                assert torch.equal(found[part][name], value), name
