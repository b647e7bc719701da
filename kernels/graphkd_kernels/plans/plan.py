"""What a plan is, and the table of planners."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

Shape = tuple[int, ...]
Signature = tuple[Any, ...]
"""An operation's arguments with each tensor replaced by its shape."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How an operation runs.

    Args:
        backend: ``"eager"``, ``"blocked"`` or ``"triton"``.
        path: of the backend, such as ``"D x D"`` or ``"tiles"``.
        flops: of value and gradient, 2 for each multiply-add of a matrix product.
        bytes: least traffic to memory: inputs read, gradients written, matrices that exist written and read.
        why: one clause.
    """

    backend: str
    path: str
    flops: float
    bytes: float
    why: str


Planner = Callable[[Signature, torch.dtype, str, frozenset[str]], Plan]
"""(signature, dtype, device type, backends that have the operation here) -> plan. Only named backends may be chosen."""

PLANNERS: dict[str, Planner] = {}


def planner(*operations: str) -> Callable[[Planner], Planner]:
    """Register the planner of one or several operations."""

    def add(function: Planner) -> Planner:
        for operation in operations:
            assert operation not in PLANNERS, operation
            PLANNERS[operation] = function
        return function

    return add


def fused(
    backends: frozenset[str], device: str, path: str, flops: float, moved: float, why: str, pays: bool = True
) -> Plan:
    """The plan of a fused operation: Triton on a GPU where it has a kernel, else blocked if it pays, else eager."""
    if device == "cuda" and "triton" in backends:
        return Plan("triton", path, flops, moved, why)
    if "blocked" in backends and (pays or device == "cuda"):
        return Plan("blocked", path, flops, moved, why)
    return Plan(
        "eager", "dense", flops, moved, "too small for the fused form to pay" if not pays else "no other has it"
    )
