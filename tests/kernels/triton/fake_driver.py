"""A CUDA driver without CUDA: kernels are compiled for it by the real compiler, and their launches are noted, not made.

It answers what Triton 3.6 to 3.9 ask of a driver: the current device and its stream, the target, a binary's handle, a
launcher. Needs a process in which TRITON_INTERPRET is unset.

Example::

    with fake_cuda() as driver:
        with fake_tensors():  # shapes and devices without numbers
            x = torch.empty(64, 32, device="cuda:1")
            OPERATIONS["row_kl"](x, x)
    assert driver.launches[0].device == 1
"""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from unittest import mock

import torch
from graphkd_kernels import machine_plan
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from triton.backends.compiler import GPUTarget
from triton.runtime import driver as triton_driver

ALLOCATIONS = ("empty", "empty_strided", "empty_like", "new_empty", "new_empty_strided")
REGISTERS, THREADS, SHARED = 128, 1024, 227 * 1024  # of one program, as the driver reports them


@dataclass(frozen=True)
class Noted:
    """A launch: the kernel's name, its grid, device and stream, and the values of its arguments."""

    kernel: str
    grid: tuple[int, int, int]
    device: int
    stream: int
    arguments: tuple[Any, ...]


class Launcher:
    """What Triton calls to launch a compiled kernel: made once for each kernel and device."""

    def __init__(self, source: Any, metadata: Any) -> None:
        self.driver, self.name = triton_driver.active, metadata.name
        self.driver.kernels.add(source.fn)

    def __call__(self, x: int, y: int, z: int, stream: int, handle: int, *others: Any) -> None:
        self.driver.note(self.name, (x, y, z), stream, handle, others[4:])


class _Utils:
    """Loads binaries: a handle holds the number of the device that has it. Triton compares their shared memory."""

    def load_binary(self, name: str, binary: bytes, shared: int, device: int) -> tuple[None, int, int, int, int]:
        return None, 1000 + device, REGISTERS, 0, THREADS  # without a module there is nothing to unload

    def get_device_properties(self, device: int) -> dict[str, int]:
        return {"max_shared_mem": SHARED, "multiprocessor_count": 132}


@dataclass
class FakeDriver:
    """Devices, the stream of each, and the launches made so far."""

    count: int
    arch: int
    current: int = 0
    streams: dict[int, int] = field(default_factory=dict)
    launches: list[Noted] = field(default_factory=list)
    kernels: set[Any] = field(default_factory=set)
    utils: Any = field(default_factory=_Utils)
    launcher_cls: Any = Launcher

    def get_current_device(self) -> int:
        return self.current

    def set_current_device(self, device: int) -> None:
        assert 0 <= device < self.count, f"no device {device}"
        self.current = device

    def exchange(self, device: int) -> int:
        """Make a device current (a negative one changes nothing) and tell the one before, as ``torch.cuda`` does."""
        before = self.current
        if device >= 0:
            self.set_current_device(device)
        return before

    def get_current_stream(self, device: int) -> int:
        return self.streams.get(device, 0)

    def get_device_capability(self, device: Any = None) -> tuple[int, int]:
        return divmod(self.arch, 10)

    def get_current_target(self) -> GPUTarget:
        return GPUTarget("cuda", self.arch, 32)

    def note(self, name: str, grid: tuple[int, int, int], stream: int, handle: int, arguments: tuple[Any, ...]) -> None:
        """A launch as the hardware would take it: a kernel of another device's, or on its stream, is an error there."""
        assert handle == 1000 + self.current, f"{name}: loaded on device {handle - 1000}, launched on {self.current}"
        self.launches.append(Noted(name, grid, self.current, stream, arguments))


@contextmanager
def fake_cuda(count: int = 2, arch: int = 90) -> Iterator[FakeDriver]:
    """Triton and the parts of ``torch.cuda`` that launchers ask see so many devices of one architecture."""
    driver, before = FakeDriver(count, arch), triton_driver._active
    replaced = {
        "is_available": lambda: True,
        "device_count": lambda: count,
        "current_device": driver.get_current_device,
        "get_device_capability": driver.get_device_capability,
        "set_device": lambda device: driver.set_current_device(torch.device(device).index),
        "_exchange_device": driver.exchange,
        "_maybe_exchange_device": driver.exchange,
    }
    triton_driver.set_active(driver)
    try:
        with mock.patch.multiple(torch.cuda, **replaced):
            yield driver
    finally:
        triton_driver._active = before
        machine_plan.forget()
        for kernel in driver.kernels:
            kernel.device_caches.clear()  # handles of a driver that is gone


class Count(TorchDispatchMode):
    """PyTorch's own operations that would launch on a GPU (not views, not allocations), and allocations."""

    def __init__(self) -> None:
        super().__init__()
        self.operations: list[str] = []
        self.allocations = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func._schema.name.removeprefix("aten::")
        if name in ALLOCATIONS:
            self.allocations += 1
        elif not func.is_view and name not in ("detach", "lift_fresh"):
            self.operations.append(name)
        return func(*args, **(kwargs or {}))


@contextmanager
def fake_tensors() -> Iterator[None]:
    """Tensors of any device without numbers; every address is 0. They cannot be indexed: that asks CUDA itself."""
    start = mock.patch("torch._subclasses.fake_tensor.init_gpu_context")  # which would start a real device
    with start, FakeTensorMode(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Accessing the data pointer of FakeTensor")
        yield


@contextmanager
def host_tensors() -> Iterator[None]:
    """The kernels take CPU tensors, which stand for those of the current device: for counts, and for host time."""
    with mock.patch("graphkd_kernels._triton.kernel_rule.unfit", _fit):
        yield


def _fit(tensor: torch.Tensor) -> None:
    """No reason against any tensor (a mock would take longer than what is measured)."""
