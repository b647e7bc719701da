"""Every backend of an operation against the reference in float64: values, gradients, and whether twice is the same.

A backend's error may be the limit of its type, or twice that of the reference in that type: near convergence a loss is
a small difference, and no form of it has all digits.
"""

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial
from math import inf
from typing import Any

import torch
from torch import Tensor

from graphkd_kernels import _triton, dispatch, reference
from graphkd_kernels.plans import PLANNERS
from graphkd_kernels.tuning.measure import derive, error, exact, poisoned
from graphkd_kernels.tuning.problems import OPERATIONS, Problem, of

Row = dict[str, Any]
LIMIT = {torch.float32: 1e-3, torch.bfloat16: 3e-2, torch.float16: 1e-2, torch.float64: 1e-9}
"""Relative errors that pass."""
NEAR_LIMIT = 50
"""Times larger near convergence, where all that is compared is a small difference."""
NOISE = 1e-3
_INTERPRETED = 97  # nodes at most in Triton's interpreter, which takes seconds for what a GPU does in microseconds


@dataclass(frozen=True)
class Case:
    """One input: nodes, width, what is done to the tensors, and how they are called."""

    name: str
    nodes: int
    width: int
    change: Callable[[Problem, list[Any]], list[Any]] = lambda problem, tensors: tensors
    how: str = "plain"


def _near(problem: Problem, tensors: list[Any]) -> list[Any]:
    noise = problem.tensors(tensors[0].shape[-2:], tensors[0].device, seed=1)
    for teacher, student in problem.near.items():
        if tensors[teacher] is not None:
            tensors[teacher] = tensors[student] + NOISE * noise[student]
    return tensors


def _each(change: Callable[[Tensor], Tensor], problem: Problem, tensors: list[Any]) -> list[Any]:
    return [change(x) if isinstance(x, Tensor) and x.is_floating_point() else x for x in tensors]


def _zero_row(x: Tensor) -> Tensor:
    x[..., 0, :] = 0
    return x


def _duplicate_row(x: Tensor) -> Tensor:
    x[..., -1, :] = x[..., 0, :]
    return x


def _strided(x: Tensor) -> Tensor:
    """Every row apart from the next and out of alignment."""
    wide = x.new_full((*x.shape[:-1], x.shape[-1] + 3), float("nan"))
    wide[..., 1:-2] = x
    return wide[..., 1:-2]


CASES = (
    Case("97x65", 97, 65),
    Case("256x512", 256, 512),
    Case("2050x130", 2050, 130),
    Case("near", 256, 512, _near),
    Case("zero row", 97, 65, partial(_each, _zero_row)),
    Case("duplicate row", 97, 65, partial(_each, _duplicate_row)),
    Case("non-contiguous", 97, 65, partial(_each, _strided)),
    Case("one node", 1, 65),
    Case("another stream", 256, 512, how="stream"),
    Case("CUDA graph", 97, 65, how="graph"),
    Case("compiled", 97, 65, how="compiled"),
)


def backends(operation: str, device: torch.device) -> list[str]:
    """What there is to verify on a device, the reference first."""
    found = [name for name in ("eager", "blocked") if operation in dispatch._table(name)]
    if operation not in PLANNERS:
        return found[:1]  # all share the reference
    kernels = device.type == "cuda" or _triton.interpreting()
    return [*found, "triton"] if kernels and _triton.missing() is None and dispatch.has_kernels(operation) else found


def verify(operation: str, device: torch.device) -> Iterator[Row]:
    """A row for each check, and before and after those of a backend and a type one that ``begins`` or ``ends`` them.

    Backends come in order of trust: what dies then costs least.
    """
    checks = [Check(problem, case, device) for problem in of(operation) for case in _cases(problem, device)]
    for backend in backends(operation, device):
        for dtype in LIMIT:
            about = {"kind": "verify", "operation": operation, "backend": backend, "dtype": str(dtype)[6:]}
            yield about | {"begins": True}
            wrong = []
            for check in checks:
                if check.applies(backend, dtype):
                    row = check.row(backend, dtype)
                    yield about | {"case": check.case.name, "problem": check.problem.name} | row
                    wrong += [row["why"]] if "why" in row else []
                    if row.get("fatal"):  # nothing that a process says of a GPU after such an error can be believed
                        yield about | {"ends": True, "verdict": wrong[0]}
                        return
            yield about | {"ends": True, "verdict": wrong[0] if wrong else True}


def _cases(problem: Problem, device: torch.device) -> Iterator[Case]:
    for case in CASES:
        if case.name == "near" and not problem.near:
            continue
        if case.how in ("stream", "graph") and device.type != "cuda":
            continue
        nodes, large = case.nodes, case.nodes > 256
        if problem.operation == "knn":
            nodes = max(nodes, problem.options[0] + 1)
        if problem.cubic:
            nodes = min(nodes, 256 if large else 97)
        if _triton.interpreting():
            nodes = min(nodes, _INTERPRETED)
        yield replace(case, nodes=nodes)


class Check:
    """A problem on one input, and its truth in float64, which is computed once."""

    def __init__(self, problem: Problem, case: Case, device: torch.device) -> None:
        self.problem, self.case, self.device = problem, case, device
        self.truths: dict[Any, list[Tensor]] = {}
        self.of_eager: dict[torch.dtype, list[float]] = {}

    def applies(self, backend: str, dtype: torch.dtype) -> bool:
        """A compiler changes nothing in the types, and the reference is no operator of ours."""
        return self.case.how != "compiled" or (backend != "eager" and dtype == torch.float32)

    def row(self, backend: str, dtype: torch.dtype) -> Row:
        """Errors of value and gradients, or why the check failed."""
        try:
            errors = self._errors(backend, dtype)
        except Exception as why:  # whatever a compiler, a driver or a kernel raises
            text = " ".join(str(why).split())[:300]
            return {"why": f"{self.case.name}: {type(why).__name__}: {text}", "fatal": "CUDA error" in text}
        limit = LIMIT[dtype] * (NEAR_LIMIT if self.case.name == "near" else 1)
        if backend == "eager":
            self.of_eager[dtype] = errors
        own = self.of_eager.get(dtype, [0.0] * len(errors))
        for name, found, least in zip(self._names(), errors, own, strict=True):
            if not found <= max(limit, 2 * least):
                return {"errors": errors, "why": f"{self.case.name}: {name} off by {found:.1e} of float64"}
        return {"errors": errors}

    def _names(self) -> list[str]:
        return ["value", *(f"gradient {i + 1}" for i in range(self.problem.students))]

    def _tensors(self, dtype: torch.dtype) -> list[Any]:
        made = self.case.change(self.problem, self.problem.tensors((self.case.nodes, self.case.width), self.device))
        return [_as(x, dtype) for x in made]

    def _truth(self, tensors: list[Any], dtype: torch.dtype) -> list[Tensor]:
        key = dtype if self.case.name == "near" else None
        if key not in self.truths:
            function = getattr(reference, self.problem.operation)
            self.truths[key] = self._derived(function, exact(tensors))
        return self.truths[key]

    def _derived(self, function: Callable[..., Any], tensors: list[Any]) -> list[Tensor]:
        options, operation = self.problem.arguments(self.case.nodes), self.problem.operation

        def call(*given: Any) -> Tensor:
            found = function(*given, *options)
            if operation == "joint_gram":
                return torch.triu(found)  # the rest is not promised
            return _neighbours(given[0], *found) if operation == "knn" else found

        return derive(call, tensors, [i < self.problem.students for i in range(len(tensors))], _upstream)

    def _errors(self, backend: str, dtype: torch.dtype) -> list[float]:
        tensors = self._tensors(dtype)
        run: Callable[..., Any] = partial(dispatch.run, self.problem.operation)
        if self.case.how == "compiled":
            torch.compiler.reset()
            run = torch.compile(run, backend="aot_eager", fullgraph=True)
        with dispatch.backend(backend):
            with poisoned() if backend == "triton" and self.case.how != "compiled" else nullcontext():
                found = self._way(run, tensors)
            again = self._derived(run, tensors)
        floor = LIMIT[dtype] if self.case.nodes == 1 else 1e-30  # a loss of one node is 0, or rounding
        errors = [error(one, other, floor) for one, other in zip(found, self._truth(tensors, dtype), strict=True)]
        if max(errors) < inf and not all(map(torch.equal, found, again)):
            raise AssertionError("twice is not the same, bit for bit")
        return errors

    def _way(self, run: Callable[..., Any], tensors: list[Any]) -> list[Tensor]:
        """As the case asks for."""
        if self.case.how == "stream":
            stream = torch.cuda.Stream(self.device)  # type: ignore[no-untyped-call]
            stream.wait_stream(torch.cuda.current_stream(self.device))
            with torch.cuda.stream(stream):
                found = self._derived(run, tensors)
            torch.cuda.current_stream(self.device).wait_stream(stream)
            return found
        if self.case.how == "graph":
            self._derived(run, tensors)  # compiled before
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                found = self._derived(run, tensors)
            graph.replay()
            return found
        return self._derived(run, tensors)


def _upstream(value: Tensor) -> Tensor:
    """A gradient that differs from row to row and needs no random numbers."""
    return (2 + torch.arange(value.numel(), dtype=torch.float64, device=value.device).cos()).view(value.shape).to(value)


def _neighbours(x: Tensor, indices: Tensor, squares: Tensor) -> Tensor:
    """Distances that were found, and those to the rows that were named: of equal ones any may be."""
    named = (x.double().unsqueeze(1) - x.double()[indices]).square().sum(-1)
    return torch.stack([squares.double(), named])


def _as(x: Any, dtype: torch.dtype) -> Any:
    """A tensor in another type, with its strides."""
    if not isinstance(x, Tensor) or not x.is_floating_point():
        return x
    return x.to(dtype) if x.is_contiguous() else _strided(x.to(dtype))


assert set(OPERATIONS) >= set(PLANNERS)
