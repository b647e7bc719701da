"""Where launches go: kernels compiled for a driver without hardware, which notes what it is given."""

from importlib.util import find_spec

import pytest
import torch

if find_spec("triton") is None:
    pytest.skip("triton is not installed", allow_module_level=True)

from graphkd_kernels._triton.table import OPERATIONS
from graphkd_kernels.autograd import RULES

from tests.kernels.triton.fake_driver import fake_cuda, fake_tensors


def both_passes(name, options, tensors, needs):
    """The kernels of value and gradients, without autograd's engine, which asks CUDA for streams."""
    rule = RULES[f"triton/{name}"]
    value, kept = rule.gradients(needs, *tensors, *options)
    if rule.finish is not None:
        rule.finish(needs, torch.ones_like(value), tuple(tensors), kept, *options)


@pytest.mark.parametrize("current", [0, 1])
def test_launches_go_to_the_tensors_device_and_its_stream(current):
    with fake_cuda() as driver, fake_tensors():
        driver.set_current_device(current)
        driver.streams |= {0: 70, 1: 71}
        for device in (0, 1):
            driver.launches.clear()
            x = torch.empty(64, 32, device=f"cuda:{device}")
            both_passes("row_kl", (2.0,), (x, x.clone()), (True, False))
            both_passes("similarity", ("euclidean", 1.0), (x, None), (True, False))
            assert {(each.device, each.stream) for each in driver.launches} == {(device, 70 + device)}
            assert driver.get_current_device() == current


def test_tensors_of_two_devices_are_an_error():
    with fake_cuda(), fake_tensors():
        x, y = (torch.empty(64, 32, device=f"cuda:{device}") for device in (0, 1))
        with pytest.raises(ValueError, match="tensors are on cuda:0, cuda:1: move them to one device"):
            OPERATIONS["row_kl"](x, y)
