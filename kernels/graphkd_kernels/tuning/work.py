"""What runs in a process of its own: one operation verified, or timed."""

from collections.abc import Iterator, Mapping
from typing import Any

import torch

from graphkd_kernels.tuning import problems, timing, verify

Row = dict[str, Any]


def verified(operation: str, device: str, threads: int) -> Iterator[Row]:
    """Rows of :func:`graphkd_kernels.tuning.verify.verify`."""
    yield _begun(device, threads)
    yield from verify.verify(operation, torch.device(device))


def timed(operation: str, device: str, threads: int, allowed: Mapping[str, list[str]], seconds: float) -> Iterator[Row]:
    """Rows of :func:`graphkd_kernels.tuning.timing.times`.

    Args:
        allowed: name of a dtype -> backends. seconds: at each size.
    """
    yield _begun(device, threads)
    for problem in (each for each in problems.of(operation) if each.grid):
        for dtype, names in allowed.items():
            about = {"kind": "time", "operation": operation, "problem": problem.name}
            for row in timing.times(problem, names, getattr(torch, dtype), torch.device(device), seconds):
                yield about | row


def _begun(device: str, threads: int) -> Row:
    """Whether the device answers at all, before any kernel ran in this process."""
    torch.set_num_threads(threads)
    try:
        torch.ones(1, device=device).sum().item()
    except RuntimeError as why:
        return {"kind": "device", "lost": " ".join(str(why).split())[:200]}
    return {"kind": "device"}
