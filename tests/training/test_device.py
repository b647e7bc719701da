"""A run on a device that is asked for by name."""

import pytest
import torch

from graphkd.errors import OptionError, UnknownNameError
from graphkd.training.config import TrainConfig
from graphkd.training.devices import device_of, make_accelerator


def test_the_device_is_the_one_asked_for_and_the_next_run_chooses_again(tmp_path):
    named = make_accelerator(TrainConfig(device="cpu", trackers=()), tmp_path)
    assert named.device == torch.device("cpu")
    assert make_accelerator(TrainConfig(trackers=()), tmp_path).device.type == device_of("auto").type


def test_a_device_that_is_not_there_is_refused_before_anything_is_made(tmp_path):
    with pytest.raises(OptionError, match="there is no device 'cuda:99': torch finds .* GPUs: give device='auto'"):
        make_accelerator(TrainConfig(device="cuda:99"), tmp_path)
    with pytest.raises(UnknownNameError, match="unknown device 'gpu'; did you mean 'cpu'"):
        TrainConfig(device="gpu")


def test_several_processes_take_devices_of_their_own(tmp_path, monkeypatch):
    made = make_accelerator(TrainConfig(trackers=()), tmp_path)
    monkeypatch.setattr(type(made), "num_processes", 2)
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(OptionError, match="each of several processes takes a device of its own: leave device="):
        make_accelerator(TrainConfig(device="cpu", trackers=()), tmp_path)


def test_a_resumed_run_may_go_on_elsewhere():
    one, two = TrainConfig(device="cpu").to_dict(), TrainConfig().to_dict()
    TrainConfig.check_resume(one, two, "run")
