"""What would run, at what cost, and why."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from time import perf_counter
from typing import Any

import torch

from graphkd_kernels.plans.plan import Plan, Shape

H200 = 386e12, 4.3e12
"""Planning ceilings of one H200, not measured here: tf32 FLOP/s and copied bytes/s."""


@dataclass(frozen=True)
class Explanation:
    """A plan and its predicted floor.

    Args:
        operation: its name.
        plan: what dispatch would run.
        floor_ms: the larger of FLOPs and bytes over this machine's measured (CPU) or planned (GPU) rates.
    """

    operation: str
    plan: Plan
    floor_ms: float

    def __str__(self) -> str:
        plan = self.plan
        return (
            f"{self.operation}: {plan.backend}, {plan.path} ({plan.why}); {plan.flops / 1e9:.3g} GFLOP, "
            f"{plan.bytes / 1e6:.3g} MB, at least {self.floor_ms:.3g} ms"
        )


def explain(
    operation: str,
    shapes: Sequence[Shape | None],
    *options: Any,
    dtype: torch.dtype = torch.float32,
    device: str = "cpu",
) -> Explanation:
    """Which path runs for inputs of these shapes, its work, its predicted floor, and why. The function dispatch uses.

    Args:
        operation: such as ``"edge_sum"``.
        shapes: of the tensor arguments, ``None`` for one left out.
        options: the arguments after the tensors, such as ``"pearson", "square"``.
        dtype, device: of the first tensor.

    Raises: KeyError for an operation that no backend has.
    Example: ``print(explain("edge_sum", [(4096, 512), None, (4096, 512), None], "pearson", "square"))``
    """
    from graphkd_kernels.dispatch import choose  # dispatch knows the backends, and reads plans from here

    plan = choose(operation, (*(None if each is None else tuple(each) for each in shapes), *options), dtype, device)
    flops, moved = rates() if device == "cpu" else H200
    return Explanation(operation, plan, 1e3 * max(plan.flops / flops, plan.bytes / moved))


@cache
def rates() -> tuple[float, float]:
    """This CPU's float32 FLOP/s of a matrix product and bytes/s of a copy (read and written), measured once."""
    a, big = torch.rand(1024, 1024), torch.rand(2**24)
    target = torch.empty_like(big)
    return 2 * 1024**3 / _best(lambda: a @ a), 2 * big.nbytes / _best(lambda: target.copy_(big))


def _best(function: Any, repeats: int = 5) -> float:
    times = []
    for _ in range(repeats):
        start = perf_counter()
        function()
        times.append(perf_counter() - start)
    return min(times)
