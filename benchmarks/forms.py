"""From a case and the name of a form to something that can be called, again and again, on inputs held ready."""

from contextlib import AbstractContextManager
from copy import copy
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from benchmarks.case import Case, Function, Shape, UnavailableError
from graphkd import ops
from graphkd.errors import GraphKDError

MODES = ("both", "forward", "no_grad")


def scope(form: str) -> AbstractContextManager[None]:
    """The backend in force while a form runs; ``compile`` compiles the reference."""
    if form in ("auto", "blocked", "triton"):
        return ops.backend(form)
    return ops.backend("eager")


def function(case: Case, form: str) -> Function:
    """What a form calls. Raises: UnavailableError with the reason."""
    if form in case.peers:
        try:
            return case.peers[form]()
        except Exception as error:  # whatever an import of a foreign library raises
            raise UnavailableError(_first_line(error)) from None
    if form == "official":
        if isinstance(case.official, str):
            raise UnavailableError(case.official)
        return case.official
    if form == "compile":
        return _compiled(case.name, case.ours)
    return case.ours


@lru_cache(maxsize=1)
def _compiled(name: str, function: Function) -> Function:
    """Compiled once for all runners of a case; what was compiled for another is forgotten."""
    torch._dynamo.reset()
    compiled: Function = torch.compile(function)
    return compiled


class Runner:
    """One form of a case at one shape.

    Args:
        case, shape, form: what runs.
        device, dtype: where and in which precision the inputs are.
        near: whether the teacher resembles the student.
        tensors: inputs made elsewhere; default those of the case.
    Raises: UnavailableError if the form cannot run here.
    """

    def __init__(
        self,
        case: Case,
        shape: Shape,
        form: str,
        device: str = "cpu",
        dtype: torch.dtype = torch.float32,
        near: bool = False,
        tensors: list[Tensor] | None = None,
    ) -> None:
        self.case, self.form, self.device = case, form, torch.device(device)
        self.function = function(case, form)
        with self.device:  # inputs of 65536 x 10000 take 15 s on a CPU
            given = case.tensors(shape, near) if tensors is None else tensors
        self.inputs = [x.to(self.device, dtype) if x.is_floating_point() else x.to(self.device) for x in given]
        self.students = [x.detach().requires_grad_() for x in self.inputs[: case.students]]
        self.inputs[: case.students] = self.students
        self.upstream: Tensor | None = None

    @property
    def modes(self) -> tuple[str, ...]:
        """What can be timed: without a gradient there is but one mode."""
        return MODES if self.students else ("no_grad",)

    def scope(self) -> AbstractContextManager[None]:
        """Enter once around all calls. Raises: UnavailableError for a backend that is not here."""
        try:
            return scope(self.form)
        except (GraphKDError, RuntimeError) as error:
            raise UnavailableError(_first_line(error)) from None

    def __call__(self, mode: str = "both") -> tuple[Any, tuple[Tensor | None, ...]]:
        """The result, and the gradients of the students' tensors (none unless the mode is ``both``)."""
        if mode == "no_grad" or not self.students:
            with torch.no_grad():
                return self.function(*self.inputs), ()
        value = self.function(*self.inputs)
        if mode == "forward":
            return value, ()
        if value.ndim and self.upstream is None:  # not ones: the gradient of a sum of centred rows is 0
            draw = torch.Generator(value.device).manual_seed(7)
            self.upstream = torch.randn(value.shape, generator=draw, device=value.device).to(value)
        return value.detach(), torch.autograd.grad(value, self.students, self.upstream, allow_unused=True)

    def tried(self, mode: str = "both") -> tuple[Any, tuple[Tensor | None, ...]]:
        """Like a call; what a backend, a compiler or a peer cannot do becomes a reason."""
        try:
            with self.scope():
                return self(mode)
        except UnavailableError:
            raise
        except torch.OutOfMemoryError:
            size = torch.cuda.get_device_properties(self.device).total_memory / 2**30
            raise UnavailableError(f"out of memory: needs more than {size:.0f} GiB") from None
        except Exception as error:  # whatever a foreign library or a compiler raises
            if self.form in ("eager", "auto") and not isinstance(error, GraphKDError):
                raise
            raise UnavailableError(_first_line(error)) from error

    def rotation(self, size: int) -> list["Runner"]:
        """This runner and copies with inputs of their own, 4 to 16, so that together they fill ``size`` bytes."""
        each = sum(x.nbytes for x in self.inputs)
        found = [self]
        for _ in range(min(max(-(-size // max(each, 1)), 4), 16) - 1):
            other = copy(self)
            other.inputs = [x.detach().clone() for x in self.inputs]
            other.students = [x.requires_grad_() for x in other.inputs[: self.case.students]]
            found.append(other)
        return found

    def synchronize(self) -> None:
        """Wait for the device."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


def _first_line(error: BaseException) -> str:
    text = (str(error).strip().splitlines() or [""])[0]
    ours = type(error).__module__.startswith("graphkd")
    return text.partition("; ")[0] if ours else f"{type(error).__name__}: {text}"[:160]
