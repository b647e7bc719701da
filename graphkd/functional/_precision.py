"""What holds for every loss: computed in float32 or float64 whatever autocast says, and the teacher is a constant."""

from collections.abc import Callable
from functools import reduce, wraps
from inspect import signature
from itertools import chain, repeat
from typing import Any, ParamSpec

import torch

from graphkd.errors import ShapeError
from graphkd.features import ordinary
from graphkd.typing import Tensor

P = ParamSpec("P")


def graph_loss(function: Callable[P, Tensor]) -> Callable[P, Tensor]:
    """Give a loss full precision and a teacher without gradient.

    Arguments named ``teacher...`` are detached, all floating ones get the widest dtype among them, at least float32,
    and autocast is off inside. Raises: ShapeError for integer or complex features.
    """
    names = tuple(signature(function).parameters)

    @wraps(function)
    def loss(*args: P.args, **kwargs: P.kwargs) -> Tensor:
        given = [*zip(names, args, strict=False), *kwargs.items()]
        features = [(name, each) for name, part in given if name.startswith(_FEATURES) for each in _tensors(part)]
        for name, each in features:
            if not each.is_floating_point():
                raise ShapeError(f"{name} is {each.dtype}, real floating point was expected: call .float() on it")
        if not features:
            return function(*args, **kwargs)
        dtype = reduce(torch.promote_types, (each.dtype for _, each in features), torch.float32)

        def ready(name: str, part: Any) -> Any:
            return _ready(part, dtype, name.startswith("teacher"))

        with torch.autocast(features[0][1].device.type, enabled=False):
            positional = map(ready, chain(names, repeat("")), args)  # too many are Python's error, as of any function
            return function(*positional, **{name: ready(name, part) for name, part in kwargs.items()})

    return loss


_FEATURES = ("student", "teacher")


def _tensors(part: Any) -> list[Tensor]:
    if isinstance(part, Tensor):
        return [part]
    return [each for each in part if isinstance(each, Tensor)] if isinstance(part, (list, tuple)) else []


def _ready(part: Any, dtype: torch.dtype, constant: bool) -> Any:
    if isinstance(part, (list, tuple)):
        return [_ready(each, dtype, constant) for each in part]
    if not isinstance(part, Tensor):
        return part
    part = ordinary(part.detach() if constant else part)
    return part.to(dtype) if part.is_floating_point() else part
