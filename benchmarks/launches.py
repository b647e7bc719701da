"""What a small call costs the host: launches, PyTorch's own operations, and time, without a GPU.

python -m benchmarks.launches [--nodes 64 256 1024] [--width 128]

Kernels are compiled for sm_90 and "launched" on a driver that only notes them, with CPU tensors, so PyTorch's own
operations do their arithmetic: where a call has none of them, its time is the host's alone. The floor is a bare
``autograd.Function`` that makes as many launches. Time of a call, forward and backward: the median of 200, in us of
this thread's own time, so that a busy machine does not count.
"""

import argparse
from collections.abc import Callable
from statistics import median
from time import thread_time
from typing import Any

import torch
from graphkd_kernels._triton.table import OPERATIONS
from torch import Tensor

from tests.kernels.triton.fake_driver import Count, FakeDriver, fake_cuda, host_tensors

REPEATS = 200
Call = Callable[..., Tensor]


def calls(n: int, d: int) -> dict[str, tuple[Call, list[Tensor]]]:
    """The most used operations, by name: the call and its tensors, of which the first is differentiated."""
    nodes = [torch.randn(n, d) for _ in range(2)]
    of = OPERATIONS

    def edges(relation: str, penalty: str) -> Call:
        return lambda s, t: of["edge_sum"](s, None, t, None, relation, penalty)

    return {
        "edge_sum": (edges("pearson", "square"), nodes),
        "edge_sum, huber": (edges("cosine", "huber"), nodes),
        "ega_sums": (lambda s, t: of["ega_sums"](s, t, "pearson"), nodes),
        "row_kl": (lambda s, t: of["row_kl"](s, t, 2.0), nodes),
        "similarity": (lambda s: of["similarity"](s, None, "euclidean"), nodes[:1]),
        "rkd_distance": (of["rkd_distance"], nodes),
        "rkd_angle": (lambda s, t: of["rkd_angle"](s, t, 0, n), nodes),
        "dist_sums": (lambda s, t: of["dist_sums"](s, t, 4.0), nodes),
        "damped_column_pearson": (lambda s, t: of["damped_column_pearson"](s, t, 1e-8), nodes),
        "knn, forward": (lambda s: of["knn"](s.detach(), 10)[1], nodes[:1]),
    }


def both_passes(call: Call, tensors: list[Tensor]) -> Callable[[], None]:
    """Forward and backward of a call, whose upstream gradient is there already."""
    student = tensors[0].clone().requires_grad_()
    upstream = torch.ones_like(call(student, *tensors[1:]))

    def run() -> None:
        student.grad = None
        value = call(student, *tensors[1:])
        if value.requires_grad:
            value.backward(upstream)

    return run


class Bare(torch.autograd.Function):
    """So many launches in each pass, of one kernel that is ready, and an output for each pass."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, launch: Callable[[], None], forward: int, backward: int) -> Tensor:
        ctx.save_for_backward(x)
        ctx.rest = launch, backward
        for _ in range(forward):
            launch()
        return torch.empty((), device=x.device)

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, None, None, None]:  # type: ignore[override]
        (x,), (launch, count) = ctx.saved_tensors, ctx.rest
        for _ in range(count):
            launch()
        return torch.empty_like(x), None, None, None


def microseconds(*runs: Callable[[], None]) -> list[float]:
    """Median time of each, taken in turns."""
    times: list[list[float]] = [[] for _ in runs]
    for _ in range(REPEATS):
        for each, run in zip(times, runs, strict=True):
            start = thread_time()
            run()
            each.append(1e6 * (thread_time() - start))
    return [median(each) for each in times]


def floor(driver: FakeDriver, forward: int, backward: int) -> Callable[[], None]:
    """A bare function with so many launches of 40 arguments."""
    arguments = (0,) * 40
    x, one = torch.zeros(8, requires_grad=True), torch.ones(())

    def launch() -> None:
        driver.note("bare", (1, 1, 1), 0, 1000, arguments)

    def run() -> None:
        x.grad = None
        Bare.apply(x, launch, forward, backward).backward(one)

    return run


def row(driver: FakeDriver, call: Call, tensors: list[Tensor]) -> str:
    """One line of the table."""
    run = both_passes(call, tensors)
    for _ in range(3):
        run()
    driver.launches.clear()
    with Count() as count:
        run()
    made = len(driver.launches)
    driver.launches.clear()
    with torch.no_grad():
        call(*tensors)
    forward = min(len(driver.launches), made)
    ours, bare = microseconds(run, floor(driver, forward, made - forward))
    torch_ops = len(count.operations)
    return f"{made:>8} {torch_ops:>6} {count.allocations:>6} {ours:>8.0f} {bare:>8.0f} {ours - bare:>8.0f}"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nodes", type=int, nargs="+", default=[64, 256, 1024])
    parser.add_argument("--width", type=int, default=128)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    head = f"{'kernels':>8} {'torch':>6} {'allocs':>6} {'us':>8} {'floor':>8} {'above':>8}"
    with fake_cuda() as driver, host_tensors():
        for n in asked.nodes:
            print(f"{f'N = {n}':<24}{head}")
            for name, (call, tensors) in calls(n, asked.width).items():
                print(f"{name:<24}{row(driver, call, tensors)}", flush=True)


if __name__ == "__main__":
    main()
