"""A call costs what its launches cost: what the second call of a kind does is written down, later ones repeat it.

Calls are of one kind if their tensors have the same types, shapes, strides, alignment and device, and their options are
equal. Launchers decide from these alone, so allocations, launches and PyTorch's own operations are the same in the same
order, on other addresses. Repeating them spares the launchers' arithmetic and Triton's binding of arguments. The
interpreter, large inputs, poisoned outputs and tensors of other classes take the plain way.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import wraps
from typing import Any, ParamSpec, TypeVar, cast

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from triton import knobs
from triton.runtime import driver

from graphkd_kernels._triton import interpreting
from graphkd_kernels._triton.launch import Launch, observed, on, watching
from graphkd_kernels.machine_plan import REMEMBERED

P = ParamSpec("P")
T = TypeVar("T")

LARGEST = 2**22
"""Numbers of the inputs together: beyond it arithmetic takes longer than the host."""
MOST_BYTES = 2**28
"""That a call may allocate, since a repeated one frees nothing before its end."""
MOST_KINDS = 1024
ALIGNED = 256  # bytes, between parts of one allocation
INTERPRETER_TOO = False
"""For tests."""
_INTERPRETED = interpreting()
_CLASSES = (Tensor, torch.nn.Parameter)
_ALLOCATIONS = ("aten::empty", "aten::empty_strided", "aten::empty_like", "aten::new_empty", "aten::new_empty_strided")
_NEW, _SEEN = object(), object()


class Unfit(Exception):  # noqa: N818  # nobody's error
    """A call that cannot be repeated."""


class Ref:
    """A tensor of a call, as a view of the one with which its memory came."""

    __slots__ = ("bytes", "offset", "size", "slot", "stride", "whole")

    def __init__(self, slot: int, owner: Tensor, tensor: Tensor) -> None:
        if owner.dtype != tensor.dtype:
            raise Unfit("memory read as another type")
        self.slot, self.size, self.stride = slot, tensor.shape, tensor.stride()
        self.offset = tensor.storage_offset() - owner.storage_offset()
        self.bytes = self.offset * tensor.element_size()
        self.whole = self.offset == 0 and self.size == owner.shape and self.stride == owner.stride()

    def __call__(self, tensors: Sequence[Any]) -> Tensor:
        owner: Tensor = tensors[self.slot]
        return owner if self.whole else owner.as_strided(self.size, self.stride, owner.storage_offset() + self.offset)


def changed(value: Any, kind: Any, change: Callable[[Any], Any]) -> Any:
    """The value with everything of a kind in it changed."""
    if isinstance(value, kind):
        return change(value)
    if isinstance(value, (tuple, list)):
        return tuple([changed(each, kind, change) for each in value])
    return value


def restored(value: Any, tensors: list[Any]) -> Any:
    """The value with its references followed, as fast as can be."""
    kind = type(value)
    if kind is Ref:
        return value(tensors)
    return tuple([restored(each, tensors) for each in value]) if kind is tuple else value


class Operation:
    """One of PyTorch's; ``first`` is the slot of its first new tensor, negative where it makes none."""

    def __init__(self, function: Any, args: Any, kwargs: dict[str, Any], first: int) -> None:
        self.function, self.args, self.kwargs, self.first = function, args, kwargs, first

    def __call__(self, tensors: list[Any], addresses: list[int], stream: int) -> None:
        found = self.function(*restored(self.args, tensors), **self.kwargs)
        if self.first >= 0:
            for slot, each in enumerate(found if isinstance(found, (tuple, list)) else (found,), self.first):
                tensors[slot], addresses[slot] = each, each.data_ptr()


class Launched:
    """A launch of a compiled kernel; addresses go to their places among its arguments."""

    def __init__(self, launch: Launch, compiled: Any, refs: dict[str, Ref]) -> None:
        own = {name: each for name, each in launch.args.items() if name not in refs}  # no tensor of the written call
        self.launch, self.refs, self.compiled = replace(launch, args=own), refs, compiled
        self.arguments = [(own | launch.constants).get(name) for name in launch.kernel.arg_names]
        self.grid = (*launch.grid, 1, 1)[:3]
        self.places = [
            (place, refs[name].slot, refs[name].bytes)
            for place, name in enumerate(launch.kernel.arg_names)
            if name in refs
        ]
        if compiled is not None:  # Triton's launcher takes addresses for tensors
            self.run, self.fixed = compiled.run, (compiled.function, compiled.packed_metadata, None, None, None)

    def __call__(self, tensors: list[Any], addresses: list[int], stream: int) -> None:
        if self.compiled is None:  # interpreted
            self.launch({name: ref(tensors) for name, ref in self.refs.items()})
            return
        arguments = self.arguments.copy()
        for place, slot, offset in self.places:
            arguments[place] = addresses[slot] + offset
        self.run(*self.grid, stream, *self.fixed, *arguments)


class Writer(TorchDispatchMode):
    """Writes down a call while it is made. Its tensors are kept, so that no memory comes twice."""

    def __init__(self, inputs: Sequence[Tensor]) -> None:
        super().__init__()
        self.tensors, self.slots, self.steps = list(inputs), {}, []  # type: ignore[var-annotated]
        self.allocated: list[int] = []
        self.bytes, self.fit, self.launching = 0, True, False
        for slot, each in enumerate(inputs):
            self.slots.setdefault(each.untyped_storage()._cdata, slot)

    def ref(self, tensor: Tensor) -> Ref:
        """Where a tensor's memory came from."""
        slot = self.slots.get(tensor.untyped_storage()._cdata)
        if slot is None:
            raise Unfit("a tensor that came from elsewhere")
        return Ref(slot, self.tensors[slot], tensor)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        if not self.launching:
            self.attempt(lambda: self.write(func, args, kwargs or {}, found))
        return found

    def attempt(self, write: Callable[[], None]) -> None:
        """Write down a step, unless one before was unfit."""
        if self.fit:
            try:
                write()
            except Unfit:
                self.fit, self.tensors = False, []

    def write(self, function: Any, args: Any, kwargs: dict[str, Any], found: Any) -> None:
        """An operation, unless it is a view."""
        outputs = found if isinstance(found, (tuple, list)) else (found,)
        if not any(isinstance(each, Tensor) for each in (*args, *outputs)):
            return  # of types
        if not all(isinstance(each, Tensor) for each in outputs):
            raise Unfit("a number read by the host")
        if any(isinstance(each, Tensor) for each in kwargs.values()):
            raise Unfit("a place for the result")
        new = [each for each in outputs if each.untyped_storage()._cdata not in self.slots]
        if not new and not function._schema.is_mutable:
            return
        if new and len(new) < len(outputs):
            raise Unfit("some of the results are new")
        refs, first = changed(args, Tensor, self.ref), len(self.tensors) if new else -1
        for each in new:
            self.slots[each.untyped_storage()._cdata] = len(self.tensors)
            self.tensors.append(each)
            self.bytes += each.untyped_storage().nbytes()
        if self.bytes > MOST_BYTES:
            raise Unfit("too large")
        if function._schema.name in _ALLOCATIONS:
            self.allocated.append(first)
        else:
            self.steps.append(Operation(function, refs, kwargs, first))

    def launch(self, launch: Launch) -> None:
        """Make a launch and write it down, without what the interpreter does inside."""
        self.launching = True
        compiled = launch()
        self.launching = False
        tensors = {name: each for name, each in launch.args.items() if isinstance(each, Tensor)}
        self.attempt(
            lambda: self.steps.append(Launched(launch, compiled, {k: self.ref(x) for k, x in tensors.items()}))
        )


class Program:
    """A call that can be repeated."""

    def __init__(self, writer: Writer, inputs: int, result: Any) -> None:
        self.steps, self.result, tensors = writer.steps, changed(result, Tensor, writer.ref), writer.tensors
        self.device, self.count = tensors[0].device, len(tensors)
        self.own: list[tuple[Any, ...]] = []
        self.parts: list[tuple[int, int]] = []
        self.scratch = 0
        shown = self.shown()
        for slot in writer.allocated:
            each = tensors[slot]
            if slot in shown or _INTERPRETED:
                self.own.append((slot, each.shape, each.stride(), each.dtype))
            else:  # only kernels see it
                self.parts.append((slot, self.scratch))
                self.scratch += -(-each.untyped_storage().nbytes() // ALIGNED) * ALIGNED
        owners = [writer.slots[each.untyped_storage()._cdata] for each in tensors[:inputs]]
        self.apart = [
            (owner, slot, tensors[slot].data_ptr() - tensors[owner].data_ptr())
            for slot, owner in enumerate(owners)
            if owner != slot
        ]

    def shown(self) -> set[int]:
        """Slots of the tensors that PyTorch's operations take, or that are returned."""
        found: set[int] = set()
        for each in (self.result, *(step.args for step in self.steps if isinstance(step, Operation))):
            changed(each, Ref, lambda ref: found.add(ref.slot))
        return found

    def fits(self, at: list[int]) -> bool:
        """Whether inputs that share their memory are as far apart as they were."""
        return all(at[slot] - at[owner] == distance for owner, slot, distance in self.apart)

    def __call__(self, inputs: list[Tensor], at: list[int]) -> Any:
        """Repeat it on other inputs."""
        more, new = self.count - len(inputs), torch.empty_strided
        tensors: list[Any] = [*inputs, *[None] * more]
        addresses = [*at, *[0] * more]
        for slot, size, stride, dtype in self.own:
            tensors[slot] = each = new(size, stride, dtype=dtype, device=self.device)
            addresses[slot] = each.data_ptr()
        if self.scratch:
            scratch = torch.empty(self.scratch, dtype=torch.uint8, device=self.device)
            base = scratch.data_ptr()
            for slot, offset in self.parts:
                addresses[slot] = base + offset
        if self.device.type == "cuda":
            on(self.device, lambda: self.make(tensors, addresses))
        else:
            self.make(tensors, addresses)
        return restored(self.result, tensors)

    def make(self, tensors: list[Any], addresses: list[int]) -> None:
        """Its steps, on the current device."""
        stream = 0
        if not _INTERPRETED:
            active = driver.active
            stream = active.get_current_stream(active.get_current_device())
        for step in self.steps:
            step(tensors, addresses, stream)


def written(function: Callable[..., Any], arguments: Any, inputs: list[Tensor]) -> tuple[Any, Program | None]:
    """What a call returns, and the call for repeating."""
    writer = Writer(inputs)
    with watching(writer.launch), writer:
        result = function(*arguments)
    try:
        return result, Program(writer, len(inputs), result) if writer.fit else None
    except Unfit:
        return result, None


def described(arguments: Any) -> tuple[tuple[Any, ...], list[Tensor], list[int]]:
    """The kind of a call, its tensors and their addresses; -1 for tensors of other classes."""
    kind: list[Any] = []
    inputs: list[Tensor] = []
    at: list[int] = []
    for each in arguments:
        for x in each if type(each) in (tuple, list) else (each,):
            if isinstance(x, Tensor):
                address = x.data_ptr() if type(x) in _CLASSES else -1
                kind += x.dtype, x.shape, x.stride(), address % 16, x.device
                inputs.append(x)
                at.append(address)
            else:
                kind.append(x)
    return tuple(kind), inputs, at


def hooked() -> bool:
    """Whether a profiler wants to know of launches."""
    before, after = knobs.runtime.launch_enter_hook, knobs.runtime.launch_exit_hook
    return bool((before is not None and before.calls) or (after is not None and after.calls))


def repeated(function: Callable[P, T]) -> Callable[P, T]:
    """A function of tensors (alone or in tuples) and literals that repeats its calls of one kind."""
    plain = cast(Callable[..., Any], function)
    programs: dict[Any, Any] = {}

    @wraps(function)
    def run(*arguments: Any) -> Any:
        if (_INTERPRETED and not INTERPRETER_TOO) or observed():
            return plain(*arguments)
        kind, inputs, at = described(arguments)
        program = programs.get(kind, _NEW)
        if isinstance(program, Program):
            if program.fits(at) and not hooked():
                return program(inputs, at)
        elif program is _SEEN:
            result, programs[kind] = written(plain, arguments, inputs)
            return result
        elif program is _NEW:
            if len(programs) >= MOST_KINDS:
                programs.clear()
            small = sum([each.numel() for each in inputs]) <= LARGEST
            programs[kind] = _SEEN if small and -1 not in at else None
        return plain(*arguments)

    REMEMBERED.append(programs)  # launchers ask the plan of this machine for their tiles
    return cast(Callable[P, T], run)
