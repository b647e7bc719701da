"""Where launches go: kernels compiled for a driver without hardware, which notes what it is given."""

from importlib.util import find_spec

import pytest
import torch

if find_spec("triton") is None:
    pytest.skip("triton is not installed", allow_module_level=True)

from graphkd_kernels import machine_plan
from graphkd_kernels._triton import replay
from graphkd_kernels._triton.configs import MATHS
from graphkd_kernels._triton.rows import normalise
from graphkd_kernels._triton.table import OPERATIONS
from graphkd_kernels.autograd import RULES

from tests.kernels.triton.fake_driver import Count, fake_cuda, fake_tensors, host_tensors


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
            normalise(x.unsqueeze(0), None, "cosine", MATHS["tf32x3"])
            assert {(each.device, each.stream) for each in driver.launches} == {(device, 70 + device)}
            assert driver.get_current_device() == current


def test_tensors_of_two_devices_are_an_error():
    with fake_cuda(), fake_tensors():
        x, y = (torch.empty(64, 32, device=f"cuda:{device}") for device in (0, 1))
        with pytest.raises(ValueError, match="tensors are on cuda:0, cuda:1: move them to one device"):
            OPERATIONS["row_kl"](x, y)


TWO = ("dist_sums", "ega_sums")  # whose two sums have upstream gradients of their own


def calls(operation, tensors, options):
    """The launches of the first call (made by the launchers), and of the third (repeated), forward and backward."""
    found = []
    with fake_cuda() as driver, host_tensors():
        student = tensors[0].clone().requires_grad_()
        value = OPERATIONS[operation](*tensors, *options)
        upstream = torch.ones(()).expand_as(value) if value.ndim and operation not in TWO else torch.ones_like(value)

        def run():
            torch.autograd.grad(OPERATIONS[operation](student, *tensors[1:], *options), student, upstream)

        for _ in range(3):
            driver.launches.clear()
            run()
            found.append(list(driver.launches))
        with Count() as count:
            run()
    return found[0], found[2], count


EDGES, EDGES_WIDE = "edges_bwd_kernel", ("edges_fwd_kernel", "terms_product_kernel")
COSTS = [
    ("edge_sum", ("pearson", "square"), (64, 128), ["rows_fwd_kernel", EDGES, "rows_bwd_kernel"], 5),
    ("edge_sum", ("gram", "huber"), (256, 64), ["rows_fwd_kernel", EDGES, "rows_bwd_kernel"], 4),
    ("edge_sum", ("cosine", "square"), (64, 512), ["rows_fwd_kernel", *EDGES_WIDE, "rows_bwd_kernel"], 5),
    (
        "edge_sum",
        ("pearson", "square"),
        (1024, 64),
        ["rows_fwd_kernel", "gram_kernel", "combine_kernel", "terms_product_kernel", "rows_bwd_kernel"],
        5,
    ),
    (
        "ega_sums",
        ("pearson",),
        (64, 128),
        ["rows_fwd_kernel", "gram_kernel", "ega_kernel", "terms_product_kernel", "rows_bwd_kernel"],
        5,
    ),
    ("row_kl", (2.0,), (64, 100), ["row_kl_kernel"] * 2, 3),
    (
        "dist_sums",
        (4.0, 1e-8),
        (64, 100),
        ["dist_rows_kernel", "dist_columns_kernel", "dist_merge_kernel", "dist_bwd_kernel"],
        7,
    ),
    (
        "damped_column_pearson",
        (1e-8,),
        (64, 100),
        ["pearson_parts_kernel", "pearson_merge_kernel", "pearson_bwd_kernel"],
        3,
    ),
]


@pytest.mark.parametrize(("operation", "options", "shape", "kernels", "allocations"), COSTS)
def test_a_call_costs_what_its_launches_cost(operation, options, shape, kernels, allocations):
    """Forward and backward: these kernels, nothing of PyTorch's, so many allocations. An edge difference takes at most
    two launches beside those that map its rows and bring their gradient back."""
    s, t = (torch.randn(shape) for _ in range(2))
    _, repeated, count = calls(operation, [s, None, t, None] if operation == "edge_sum" else [s, t], options)
    assert [each.kernel for each in repeated] == kernels
    assert count.operations == []
    assert count.allocations == allocations


def address(value):
    """Of a tensor, or the number itself: a repeated launch is given addresses."""
    return value.data_ptr() if isinstance(value, torch.Tensor) else value


@pytest.mark.parametrize(
    ("operation", "options", "shape"), [each[:3] for each in COSTS] + [("rkd_angle", (0, 20), (20, 9))]
)
def test_a_repeated_launch_has_the_arguments_of_the_first(operation, options, shape):
    s, t = (torch.randn(shape) for _ in range(2))
    inputs = [s, None, t, None] if operation == "edge_sum" else [s, t]
    first, repeated, _ = calls(operation, inputs, options)
    assert [(each.kernel, each.grid) for each in repeated] == [(each.kernel, each.grid) for each in first]
    for one, again in zip(first, repeated, strict=True):
        for value, found in zip(one.arguments, again.arguments, strict=True):
            if isinstance(value, torch.Tensor):  # an input stays where it is, other memory is new
                assert isinstance(address(found), int)
                assert (address(found) == t.data_ptr()) == (address(value) == t.data_ptr())
            else:
                assert found == value


def test_repeated_launches_go_to_the_current_stream():
    x = torch.randn(64, 32)
    with fake_cuda() as driver, host_tensors():
        for stream in (70, 71, 72, 73):
            driver.launches.clear()
            driver.streams[0] = stream
            OPERATIONS["row_kl"](x, x.clone(), 2.0)
            assert [each.stream for each in driver.launches] == [stream]
        assert any(machine_plan.REMEMBERED)


def test_of_two_kinds_of_alignment_each_has_its_own_launch():
    """A kernel compiled for addresses that 16 divides may load 16 bytes at once: others are another kind."""
    memory, t = torch.randn(64 * 32 + 1), torch.randn(64, 32)
    with fake_cuda() as driver, host_tensors():
        for _ in range(4):
            for start in (0, 1):
                OPERATIONS["row_kl"](memory[start : start + 64 * 32].view(64, 32), t, 2.0)
        assert len({each.kernel for each in driver.launches}) == 1
        kernel = next(iter(driver.kernels))
        assert len(kernel.device_caches[0][0]) == 2
        assert (
            sum(isinstance(each, replay.Program) for kinds in machine_plan.REMEMBERED for each in kinds.values()) == 2
        )
