"""The one place where kernels are launched and their outputs allocated: tests poison, the gate records."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from graphkd_kernels._triton import interpreting
from graphkd_kernels._triton.configs import Config

Allocator = Callable[[tuple[int, ...], torch.dtype, torch.device], Tensor]


@dataclass(frozen=True)
class Launch:
    """A kernel with everything a call needs; arguments are tensors, numbers, or ``None`` for a pointer not used."""

    kernel: Any
    grid: tuple[int, ...]
    args: dict[str, Tensor | float | None]
    constants: dict[str, Any]
    config: Config
    math: str = ""  # kind of its products, see configs.MATHS; "" where it has none

    def __call__(self) -> None:
        # Fusing a*b+c is stated: its default changes with Triton 3.10.
        self.kernel[self.grid](
            **self.args,
            **self.constants,
            num_warps=self.config.warps,
            num_stages=self.config.stages,
            enable_fp_fusion=True,
        )


@dataclass
class Record:
    """Launches made while recording, as if for one architecture."""

    arch: int
    launches: list[Launch] = field(default_factory=list)


_RECORD: ContextVar[Record | None] = ContextVar("graphkd_triton_record", default=None)
_ALLOCATE: ContextVar[Allocator | None] = ContextVar("graphkd_triton_allocate", default=None)


@contextmanager
def recording(arch: int) -> Iterator[Record]:
    """Note launches instead of making them. Launchers then take meta tensors: the gate compiles what runs."""
    token = _RECORD.set(record := Record(arch))
    try:
        yield record
    finally:
        _RECORD.reset(token)


@contextmanager
def allocating(allocate: Allocator) -> Iterator[None]:
    """Allocate the kernels' outputs in another way: poisoned, between guards."""
    token = _ALLOCATE.set(allocate)
    try:
        yield
    finally:
        _ALLOCATE.reset(token)


def empty(shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    """A contiguous output, not initialised."""
    allocate = _ALLOCATE.get()
    return torch.empty(shape, dtype=dtype, device=device) if allocate is None else allocate(shape, dtype, device)


def arch(device: torch.device) -> int:
    """Compute capability times ten of the device; 0 in the interpreter."""
    record = _RECORD.get()
    if record is not None:
        return record.arch
    if interpreting():
        return 0
    major, minor = torch.cuda.get_device_capability(device)
    return 10 * major + minor


def launch(
    kernel: Any,
    grid: tuple[int, ...],
    args: dict[str, Any],
    constants: dict[str, Any],
    config: Config,
    math: str = "",
) -> None:
    """Launch a kernel, or record it. A grid without programs is no launch."""
    call = Launch(kernel, grid, args, constants, config, math)
    record = _RECORD.get()
    if record is not None:
        record.launches.append(call)
    elif 0 not in grid:
        call()
