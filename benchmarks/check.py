"""No time of a wrong form: values and gradients are compared with the reference in float64 first."""

from functools import lru_cache
from typing import Any

import torch
from graphkd_kernels.tuning.verify import LIMIT, NEAR_LIMIT
from torch import Tensor

from benchmarks.case import Case, Shape, cases
from benchmarks.forms import Runner


class WrongResultError(AssertionError):
    """A form whose result is not that of float64; it is not timed."""


def parts(result: tuple[Any, tuple[Tensor | None, ...]]) -> list[Tensor]:
    """Everything of a result that is a real number: the value (or values), then the gradients."""
    value, gradients = result
    values = [x for x in (value if isinstance(value, tuple) else (value,)) if x.is_floating_point()]
    return [*values, *(x for x in gradients if x is not None)]


@lru_cache(maxsize=2)
def truth(name: str, shape: Shape, near: bool, device: str, dtype: torch.dtype) -> list[Tensor]:
    """Value and gradients of the reference in float64, on inputs that were rounded to ``dtype``."""
    case = cases()[name]
    with torch.device(device):
        inputs = [x.to(dtype) if x.is_floating_point() else x for x in case.tensors(shape, near)]
    exact = Runner(case, shape, "eager", device, torch.float64, tensors=inputs)
    return parts(exact.tried())


def errors(case: Case, shape: Shape, form: str, near: bool, device: str, dtype: torch.dtype) -> tuple[float, float]:
    """Largest difference of the value and of the gradients from float64, relative to the largest entry."""
    shape = case.check_at(shape)
    found = parts(Runner(case, shape, form, device, dtype, near).tried())
    exact = truth(case.name, shape, near, device, dtype)
    each = [
        float((a.double() - b).abs().max() / b.abs().max().clamp_min(1e-300)) for a, b in zip(found, exact, strict=True)
    ]
    return each[0], max(each[1:], default=0.0)


def check(case: Case, shape: Shape, form: str, device: str, dtype: torch.dtype = torch.float32) -> dict[str, float]:
    """Errors of a form on random inputs and near convergence.

    Near convergence the published forms lose digits, which is reported; the library's own are held to a limit there.
    Raises: WrongResultError; UnavailableError.
    """
    value, gradient = errors(case, shape, form, False, device, dtype)
    found, limit = {"value_error": value, "gradient_error": gradient}, LIMIT[dtype]
    if not max(value, gradient) <= limit:
        raise WrongResultError(f"value off by {value:.1e}, gradient by {gradient:.1e} of float64 (limit {limit:g})")
    if case.near:
        value, gradient = errors(case, shape, form, True, device, dtype)
        found |= {"near_value_error": value, "near_gradient_error": gradient}
        ours = form not in ("official", *case.peers)
        if ours and not gradient <= NEAR_LIMIT * limit:
            raise WrongResultError(f"near convergence the gradient is off by {gradient:.1e} of float64")
    return found
