"""Which implementation of an operation runs: one asked for by name runs or raises, ``auto`` picks, never from data."""

import inspect
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from graphkd_kernels import _blocked, _triton, machine_plan, reference
from graphkd_kernels.autograd import OLD_COMPILER
from graphkd_kernels.errors import BackendUnavailableError as BackendUnavailableError
from graphkd_kernels.plans import PLANNERS, Plan, Shape, Signature, Where
from graphkd_kernels.precision import in_float64, rounds, widen, widened

Operation = Callable[..., Any]

log = logging.getLogger("graphkd_kernels")

_PARTS = ("ROW_MAPS", "rkd_angles")
"""Of the reference, what is no operation."""
_PRODUCTS = ("gram", "squared_distances")
"""Matrices that the caller wants whole: plain PyTorch, and its own rules where the process lets products round."""

_REFERENCE = {name: getattr(reference, name) for name in reference.__all__ if name not in _PARTS}
_EAGER = {name: widened(function) for name, function in _REFERENCE.items()}
_SHARED = {name: _blocked.OPERATIONS[name] for name in _PRODUCTS}
_BACKENDS: dict[str, dict[str, Operation]] = {
    "eager": _REFERENCE | _SHARED,
    "blocked": {"safe_sqrt": _REFERENCE["safe_sqrt"]} | _blocked.OPERATIONS,
}
_ASKED: ContextVar[str] = ContextVar("graphkd_backend", default="auto")
_PRECISION: ContextVar[str] = ContextVar("graphkd_precision", default="high")
_PICKED: dict[Any, Operation] = machine_plan.PICKED  # what the plans picked, by operation, type, device and shapes
_MOST_CHOICES = 4096


def available() -> list[str]:
    """Names that ``backend`` accepts here."""
    found = set(_BACKENDS) if _triton.missing() else {"triton", *_BACKENDS}
    return ["auto", *sorted(found)]


@contextmanager
def backend(name: str, precision: str = "high") -> Iterator[None]:
    """Use one backend inside the ``with`` block.

    Args:
        name: ``"auto"`` or one of :func:`available`.
        precision: ``"high"`` (16-bit tensors are read as they are, everything else is float32), ``"float32"`` (they are
            widened first), or ``"exact"`` (float64 inside every operation).

    Raises: BackendUnavailableError for a backend that is not there, or another precision.
    """
    if precision not in ("high", "float32", "exact"):
        raise BackendUnavailableError(f"unknown precision {precision!r}; known: exact, float32, high")
    if name not in available():
        why = _triton.missing() if name == "triton" else "no such backend is known"
        raise BackendUnavailableError.because(name, f"{why}; available here: {', '.join(available())}")
    token, inner = _ASKED.set(name), _PRECISION.set(precision)
    try:
        yield
    finally:
        _ASKED.reset(token)
        _PRECISION.reset(inner)


def asked() -> str:
    """The backend asked for by name, or ``"auto"``."""
    return _ASKED.get()


def _precision() -> str:
    return _PRECISION.get()


if OLD_COMPILER:  # a graph keeps what it was compiled with
    asked._dynamo_marked_constant = _precision._dynamo_marked_constant = True  # type: ignore[attr-defined]


def run(operation: str, *args: Any) -> Any:
    """Call an operation on the backend asked for, or on the one that its plan picks.

    Raises: BackendUnavailableError for a backend asked for by name that does not have the operation.
    """
    precision = _precision()
    if precision == "exact":
        return in_float64(_run, operation, *args)
    if precision == "float32":
        return _run(operation, *[widen(each) for each in args])
    return _run(operation, *args)


def _run(operation: str, *args: Any) -> Any:
    name = asked()
    if name != "auto":
        _require_verified(operation, name, args[0])
        return _of(operation, name)(*args)
    planned = operation in PLANNERS
    if not planned or torch.compiler.is_compiling():  # shapes may be symbols, and remembering would be a side effect
        return _of(operation, _picked(operation, args) if planned else "eager")(*args)
    first: Tensor = args[0]
    rounded = rounds(first.device.type)
    key = operation, first.dtype, first.device, rounded, *[x.shape if isinstance(x, Tensor) else x for x in args]
    implementation = _PICKED.get(key)
    if implementation is None:
        if len(_PICKED) >= _MOST_CHOICES:
            _PICKED.clear()
        implementation = _PICKED[key] = _of(operation, _picked(operation, args))
    return implementation(*args)


def _picked(operation: str, args: tuple[Any, ...]) -> str:
    first: Tensor = args[0]
    signature = tuple([each.shape if isinstance(each, Tensor) else each for each in args])
    return choose(operation, signature, first.dtype, str(first.device)).backend


def _require_verified(operation: str, name: str, first: Tensor) -> None:
    """Raises: BackendUnavailableError for what gave wrong results on this machine; ``eager`` is never refused."""
    why = None if name == "eager" else machine_plan.failure(operation, name, first.dtype, str(first.device))
    if why is not None:
        raise BackendUnavailableError.because(
            name,
            f"{operation} failed its verification on this machine for {first.dtype}: {why}. "
            "Let 'auto' choose, or run graphkd tune again after an update",
        )


def _of(operation: str, name: str) -> Operation:
    implementation = _table(name).get(operation)
    if implementation is None:
        have = ", ".join(each for each in available() if each != "auto" and operation in _table(each))
        raise BackendUnavailableError(f"backend {name!r} has no {operation!r}; those that have it: {have}, or 'auto'")
    return _EAGER[operation] if implementation is _REFERENCE.get(operation) else implementation


def find(operation: str) -> Operation | None:
    """The implementation of the backend asked for (of ``eager`` where none is), or ``None``."""
    name = asked()
    return _table("eager" if name == "auto" else name).get(operation)


def choose(operation: str, signature: Signature, dtype: torch.dtype, device: str) -> Plan:
    """The plan of an operation for arguments with their tensors replaced by shapes. Raises: KeyError if unknown."""
    plan = _plan(operation, signature, dtype, device)
    if plan.backend == "eager" and rounds(device.partition(":")[0]) and operation in _blocked.OPERATIONS:
        plan = replace(plan, backend="blocked", why="eager products would be rounded: set_float32_matmul_precision")
    if not torch.compiler.is_compiling():
        log.debug("%s%s: %s, %s (%s)", operation, signature, plan.backend, plan.path, plan.why)
    return plan


def _plan(operation: str, signature: Signature, dtype: torch.dtype, device: str) -> Plan:
    planner = PLANNERS.get(operation)
    if planner is None:
        if operation not in _table("eager"):
            raise KeyError(f"no backend has an operation {operation!r}; known: {', '.join(sorted(_table('eager')))}")
        return Plan("eager", "dense", float("nan"), float("nan"), "no other backend has it")
    names = [
        each for each in _backends_of(operation, device) if not machine_plan.failure(operation, each, dtype, device)
    ]
    return planner(signature, Where(dtype, device, frozenset(names)))


def _table(name: str) -> dict[str, Operation]:
    if name != "triton" or name in _BACKENDS:
        return _BACKENDS[name]
    from graphkd_kernels._triton.table import OPERATIONS  # a statement, which Dynamo can run; loads triton

    return _BACKENDS["blocked"] | OPERATIONS  # what no kernel of ours is for, PyTorch's own products do


def _backends_of(operation: str, device: str) -> frozenset[str]:
    names = [name for name in _BACKENDS if operation in _BACKENDS[name]]
    if device.startswith("cuda") and _triton.missing() is None and has_kernels(operation):
        names.append("triton")
    return frozenset(names)


def has_kernels(operation: str) -> bool:
    """Whether ``triton`` is more than another name of ``blocked``. Loads triton."""
    return _table("triton").get(operation) not in (None, _BACKENDS["blocked"].get(operation))


@dataclass(frozen=True)
class Explanation:
    """A plan in words.

    Args:
        operation: its name.
        plan: what dispatch would run.
        notes: what else is to be known of the choice.
    """

    operation: str
    plan: Plan
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        plan = self.plan
        return (
            f"{self.operation}: {plan.backend}, {plan.path} "
            f"({f'size {plan.size}: ' if plan.curve else ''}{', '.join([plan.why, *self.notes])}); "
            f"{plan.flops / 1e9:.3g} GFLOP, {plan.bytes / 1e6:.3g} MB"
        )


def explain(
    operation: str,
    shapes: Sequence[Shape | None],
    *options: Any,
    dtype: torch.dtype = torch.float32,
    device: str = "cpu",
) -> Explanation:
    """Which path runs for inputs of these shapes, its work, and why. The function dispatch uses.

    Args:
        operation: such as ``"edge_sum"``.
        shapes: of the tensor arguments, ``None`` for one left out.
        options: the arguments after the tensors, such as ``"pearson", "square"``.
        dtype, device: of the first tensor.

    Raises: KeyError for an operation that no backend has, ValueError for shapes that it does not take.
    Example: ``print(explain("edge_sum", [(4096, 512), None, (4096, 512), None], "pearson", "square"))``
    """
    signature = (*(None if each is None else tuple(each) for each in shapes), *options)
    try:
        plan = choose(operation, signature, dtype, device)
    except (IndexError, TypeError, ValueError) as error:
        takes = ", ".join(inspect.signature(_table("eager")[operation]).parameters)
        raise ValueError(
            f"{operation} takes ({takes}), found {signature}: give the shape of each tensor (None for one left out), "
            "then the options"
        ) from error
    notes = [machine_plan.in_force(device).other_threads]
    if device.startswith("cuda") and not torch.cuda.is_available():
        notes = ["torch finds no CUDA device here, so this is the rule for a GPU without a plan"]
    return Explanation(operation, plan, tuple(each for each in notes if each))
