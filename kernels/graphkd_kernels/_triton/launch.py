"""The one place where kernels are launched and their outputs allocated: tests poison, the check records."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, TypeVar

import torch
import triton.language as tl
from torch import Tensor

from graphkd_kernels._triton import interpreting

T = TypeVar("T")
Watcher = Callable[["Launch"], Any]
Allocator = Callable[[tuple[int, ...], torch.dtype, torch.device], Tensor]
_TYPES = {torch.float32: tl.float32, torch.float64: tl.float64}


@dataclass(frozen=True)
class Config:
    """Tile (rows, columns, depth of one step of a product), warps and pipeline stages.

    Args:
        chunk: columns of a gradient that one program accumulates.
    """

    rows: int
    columns: int
    depth: int
    warps: int
    stages: int
    chunk: int = 0

    def __str__(self) -> str:
        return f"[{self.rows}x{self.columns}x{self.depth}, {self.warps} warps, {self.stages} stages]"


@dataclass(frozen=True)
class Math:
    """How products are formed: the operands' type, that of the sums, Triton's ``input_precision``.

    Args:
        terms: matrices of the operands' type that an operand is the sum of.
    """

    name: str
    storage: torch.dtype
    sums: torch.dtype
    precision: str
    terms: int = 1

    @property
    def tiny(self) -> float:
        """Squared distances within this part of both sizes are rounding."""
        return 16 * torch.finfo(self.sums).eps

    @property
    def close(self) -> float:
        """Squared distances within this part of both sizes have lost digits that differences keep."""
        return 2**17 * torch.finfo(self.sums).eps


@dataclass(frozen=True)
class Launch:
    """A kernel with everything a call needs; arguments are tensors, numbers, or ``None`` for a pointer not used."""

    kernel: Any
    grid: tuple[int, ...]
    args: dict[str, Tensor | float | None]
    constants: dict[str, Any]
    config: Config
    math: str = ""  # kind of its products, see configs.MATHS; "" where it has none

    def __call__(self, args: Mapping[str, Tensor] | None = None) -> Any:
        """Make it, on other tensors where given. Returns the compiled kernel, ``None`` in the interpreter."""
        given = {**self.args, **(args or {})}
        device = next(each.device for each in given.values() if isinstance(each, Tensor))
        # Fusing a*b+c is stated: its default changes with Triton 3.10.
        return on(
            device,
            lambda: self.kernel[self.grid](
                **given,
                **self.constants,
                num_warps=self.config.warps,
                num_stages=self.config.stages,
                enable_fp_fusion=True,
            ),
        )


def on(device: torch.device, make: Callable[[], T]) -> T:
    """Make launches on a device: left alone, Triton takes the current one, whatever tensors it is given."""
    if device.type != "cuda" or device.index == torch.cuda.current_device():
        return make()
    with torch.cuda.device(device):
        return make()


@dataclass
class Record:
    """Launches made while recording, as if for one architecture."""

    arch: int
    launches: list[Launch] = field(default_factory=list)


_RECORD: ContextVar[Record | None] = ContextVar("graphkd_triton_record", default=None)
_ALLOCATE: ContextVar[Allocator | None] = ContextVar("graphkd_triton_allocate", default=None)
_WATCH: ContextVar[Watcher | None] = ContextVar("graphkd_triton_watch", default=None)


@contextmanager
def recording(arch: int) -> Iterator[Record]:
    """Note launches instead of making them. Launchers then take meta tensors: what is compiled is what runs."""
    token = _RECORD.set(record := Record(arch))
    try:
        yield record
    finally:
        _RECORD.reset(token)


def recorded() -> bool:
    """Whether launches are noted instead of made."""
    return _RECORD.get() is not None


@contextmanager
def allocating(allocate: Allocator) -> Iterator[None]:
    """Allocate the kernels' outputs in another way: poisoned, between guards."""
    token = _ALLOCATE.set(allocate)
    try:
        yield
    finally:
        _ALLOCATE.reset(token)


@contextmanager
def watching(watch: Watcher) -> Iterator[None]:
    """Hand each launch to somebody, who makes it."""
    token = _WATCH.set(watch)
    try:
        yield
    finally:
        _WATCH.reset(token)


def observed() -> bool:
    """Whether somebody records, allocates or watches."""
    return _RECORD.get() is not None or _ALLOCATE.get() is not None or _WATCH.get() is not None


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


def launch(kernel: Any, grid: tuple[int, ...], config: Config, math: Math, **arguments: Any) -> None:
    """Launch a kernel, or record it. A grid without programs is no launch.

    Args:
        config, math: fill the kernel's constants ROWS, COLUMNS, BK (the tile), SUMS, PRECISION, TERMS and UPCAST.
        arguments: the others, constants in capitals.
    """
    settled = {
        "ROWS": config.rows, "COLUMNS": config.columns, "BK": config.depth, "SUMS": _TYPES[math.sums],
        "PRECISION": math.precision, "TERMS": math.terms, "UPCAST": interpreting() and math.name.startswith("bf16"),
    }  # fmt: skip
    constants = {name: value for name, value in settled.items() if name in kernel.arg_names}
    constants |= {name: value for name, value in arguments.items() if name.isupper()}
    args = {name: value for name, value in arguments.items() if not name.isupper()}
    call = Launch(kernel, grid, args, constants, config, math.name if "PRECISION" in constants else "")
    record = _RECORD.get()
    if record is not None:
        record.launches.append(call)
    elif 0 not in grid:
        watch = _WATCH.get()
        call() if watch is None else watch(call)
