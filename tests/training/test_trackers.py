"""Trackers: those of others are told names, options and numbers; one that is missing is told before a run begins."""

import importlib.util

import pytest
from accelerate import Accelerator
from accelerate.tracking import GeneralTracker

from graphkd.errors import OptionError, UnknownNameError
from graphkd.training import devices
from tests.training import tiny


class Kept(GeneralTracker):
    """Keeps what it is told."""

    name, requires_logging_directory = "kept", False

    def __init__(self):
        super().__init__()
        self.options, self.lines, self.ended = {}, [], 0

    @property
    def tracker(self):
        return self

    def start(self):
        pass

    def store_init_configuration(self, values):
        self.options |= values

    def log(self, values, step, **kwargs):
        self.lines.append((step, values))

    def finish(self):
        self.ended += 1


def test_a_tracker_of_ones_own_sees_every_number(tmp_path):
    kept = Kept()
    accelerator = Accelerator(log_with=[kept], cpu=True)
    tiny.trainer(tmp_path, scored=True, freeze=("body",), accelerator=accelerator).fit()
    terms = [(step, values) for step, values in kept.lines if "loss" in values]
    assert [step for step, _ in terms] == [2, 4, 5, 6, 8, 10]
    assert {"mimic/ce", "mimic/feature", "lr", "gradient", "images_per_second"} <= set(terms[0][1])
    assert [step for step, values in kept.lines if "top1" in values] == [5, 10]
    assert kept.options["lr"] == 0.01
    assert kept.options["freeze"] == "body"
    assert kept.ended == 1


@pytest.mark.parametrize(
    ("name", "error", "message"),
    [
        ("wandb", OptionError, "the tracker 'wandb' is not installed: run pip install wandb, or leave wandb out"),
        ("comet_ml", OptionError, "run pip install comet-ml"),
        ("wandbb", UnknownNameError, "unknown tracker 'wandbb'; did you mean 'wandb'"),
    ],
)
def test_one_that_is_not_installed_is_told_before_anything_is_written(tmp_path, monkeypatch, name, error, message):
    monkeypatch.setattr(devices, "known_trackers", lambda: (["wandb", "comet_ml", "tensorboard"], ["tensorboard"]))
    with pytest.raises(error, match=message):
        tiny.trainer(tmp_path / "run", trackers=("tensorboard", name))
    assert not (tmp_path / "run").exists()


def present(package):
    return pytest.mark.skipif(importlib.util.find_spec(package) is None, reason=f"pip install {package}")


@present("wandb")
def test_weights_and_biases_offline(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    tiny.trainer(tmp_path, trackers=("wandb",)).fit()
    assert list(tmp_path.glob("wandb/offline-run-*/*.wandb"))


@present("mlflow")
def test_mlflow_in_a_local_file(tmp_path, monkeypatch):
    import mlflow

    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    tiny.trainer(tmp_path / "run", trackers=("mlflow",)).fit()
    found = mlflow.search_runs(experiment_names=["run"], output_format="list")
    assert found[0].data.params["lr"] == "0.01"
    assert {"loss", "mimic/ce"} <= set(found[0].data.metrics)
