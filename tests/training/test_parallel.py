"""BatchNorm over several processes, sharding, and processes that do not see each other."""

from types import SimpleNamespace

import pytest
import timm
import torch
from torch import nn
from torch.testing import assert_close

from graphkd.distillers.factory import create_distiller
from graphkd.errors import DistributedError, OptionError
from graphkd.models.tap import Tap
from graphkd.step import Step, labelled_cross_entropy
from graphkd.training.devices import asks_for_shards, make_accelerator, prepare_step, require_all
from graphkd.training.parallel import shard_student, sync_batchnorm
from tests.training import tiny


def batchnorms(module):
    return {
        name: type(each) for name, each in module.named_modules() if isinstance(each, nn.modules.batchnorm._BatchNorm)
    }


def test_every_batchnorm_of_student_and_adapters_is_converted():
    student = Tap(
        nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3)),
        maps=["0"],
    )
    images = torch.randn(4, 3, 8, 8)
    fitnet = create_distiller("fitnet", student(images), student(images), adapter="conv_bn")
    step = Step(student, fitnet, task=labelled_cross_entropy)
    before, names = {name: value.clone() for name, value in step.state_dict().items()}, [*batchnorms(step)]
    assert len(names) == 2
    sync_batchnorm(step)
    assert batchnorms(step) == dict.fromkeys(names, nn.SyncBatchNorm)
    assert_close(dict(step.state_dict()), before, rtol=0, atol=0)


def test_activations_of_timm_layers_and_taps_on_them_are_kept():
    torch.manual_seed(0)
    model = timm.create_model("test_efficientnet", num_classes=3)
    path = next(name for name, each in model.named_modules() if type(each).__name__ == "BatchNormAct2d")
    student, images = Tap(model, maps=[path]).eval(), torch.rand(2, 3, 32, 32)
    before = student(images)
    sync_batchnorm(student)
    assert {kind.__name__ for kind in batchnorms(student).values()} == {"SyncBatchNormAct"}
    after = student(images)
    assert_close(after.logits, before.logits, rtol=0, atol=0)
    assert_close(after.maps[path], before.maps[path], rtol=0, atol=0)


class OnGPU(Step):
    def parameters(self, recurse=True):
        return iter([SimpleNamespace(is_cuda=True)])


@pytest.mark.parametrize(
    ("kind", "world", "wanted", "expected"),
    [
        (OnGPU, 2, True, nn.SyncBatchNorm),
        (OnGPU, 2, False, nn.BatchNorm2d),
        (OnGPU, 1, True, nn.BatchNorm2d),
        (Step, 2, True, nn.BatchNorm2d),  # a CPU has no such layer
    ],
)
def test_batchnorm_spans_several_gpus_unless_declined(kind, world, wanted, expected):
    step = kind(tiny.Student(), tiny.Mimic())
    assert not prepare_step(step, tiny.config(sync_batchnorm=wanted), SimpleNamespace(world=world))
    assert batchnorms(step) == {"student.body.1": expected}


def test_a_scalar_parameter_cannot_be_sharded():
    student = tiny.Student()
    student.scale = nn.Parameter(torch.tensor(1.0))
    with pytest.raises(DistributedError, match=r"sharded by rows, and scale has none: make it a vector"):
        shard_student(student, torch.device("cpu"))


@pytest.fixture
def alone(monkeypatch):
    """Two processes were started, and this one knows of no other."""
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.delenv("ACCELERATE_USE_CPU", raising=False)


@pytest.mark.skipif(torch.cuda.is_available(), reason="with GPUs the processes would look for each other")
def test_training_refuses_processes_that_do_not_see_each_other(alone, tmp_path):
    message = r"^2 processes were started, and each sees only itself: set ACCELERATE_USE_CPU=true"
    with pytest.raises(DistributedError, match=message):
        tiny.trainer(tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.skipif(torch.cuda.is_available(), reason="with GPUs the processes would look for each other")
def test_your_own_accelerator_is_asked_as_well(tmp_path, monkeypatch):
    mine = make_accelerator(tiny.config(), tmp_path)
    assert require_all(mine) is mine
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(DistributedError, match="each sees only itself"):
        tiny.trainer(tmp_path / "run", accelerator=mine)


def test_accelerate_asks_for_shards(monkeypatch):
    ranks = SimpleNamespace(world=2)
    assert not asks_for_shards(tiny.config(), ranks)
    assert asks_for_shards(tiny.config(shard=True), ranks)
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    with pytest.raises(OptionError, match="asks for FSDP 1, and this is FSDP 2: launch with --fsdp_version 2"):
        asks_for_shards(tiny.config(), ranks)
    monkeypatch.setenv("FSDP_VERSION", "2")
    assert asks_for_shards(tiny.config(), ranks)
    ranks.world = 1  # nothing to share
    assert not asks_for_shards(tiny.config(shard=True), ranks)
