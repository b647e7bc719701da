"""A distiller as a case: features of both networks go in, the sum of its terms comes out.

Distillers are in evaluation mode, so that memories and running means stay and every call does the same work.
"""

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from benchmarks.case import Case, Shape, random
from graphkd.distillers.base import Distiller
from graphkd.distillers.factory import create_distiller
from graphkd.features import Features

CLASSES, STUDENT, TEACHER, SAMPLES = 100, 512, 768, 4096
SHAPES: tuple[Shape, ...] = ((64,), (256,))
Official = Callable[[Distiller, Features, Features, Tensor], Tensor]
_SHAPES: dict[str, Callable[[int, int], list[tuple[int, ...]]]] = {  # samples, embedding width -> shapes of a part
    "embedding": lambda b, d: [(b, d)],
    "logits": lambda b, d: [(b, CLASSES)],
    "proxies": lambda b, d: [(CLASSES, d)],
    "proxy_logits": lambda b, d: [(CLASSES, CLASSES)],
    "maps": lambda b, d: [(b, 32, 8, 8), (b, 64, 4, 4)],
    "tokens": lambda b, d: [(b, 8, 192)],
}


def method(
    name: str,
    parts: str,
    official: Official | str,
    options: Mapping[str, Any] | None = None,
    near: bool = True,
    shapes: tuple[Shape, ...] = SHAPES,
) -> Case:
    """The case of a distiller.

    Args:
        name: in the registry.
        parts: of the features that it reads.
        official: the published form of its total, of (distiller, student, teacher, target), or why there is none.
        options: of its constructor.
        near: whether a teacher close to the student is a test: only where both have the same widths.
        shapes: samples of a batch.
    """
    names = parts.split()
    tensors = sum(len(_SHAPES[part](1, 1)) for part in names)

    @lru_cache(maxsize=4)
    def built(dtype: torch.dtype, device: torch.device) -> Distiller:
        torch.manual_seed(0)
        student, teacher = (pack(names, make(names, 2, width)) for width in (STUDENT, TEACHER))
        return create_distiller(name, student, teacher, **(options or {})).to(device, dtype).eval()

    def split(given: tuple[Tensor, ...]) -> tuple[Distiller, Features, Features, dict[str, Tensor]]:
        first = given[0]
        order = torch.arange(len(first), device=first.device)
        beside = {"target": order % CLASSES, "index": order % SAMPLES}
        student, teacher = pack(names, list(given[:tensors])), pack(names, list(given[tensors:]))
        return built(first.dtype, first.device), student, teacher, beside

    def ours(*given: Tensor) -> Tensor:
        distiller, student, teacher, beside = split(given)
        return distiller(student, teacher, **beside).total

    def published(*given: Tensor) -> Tensor:
        assert not isinstance(official, str)
        distiller, student, teacher, beside = split(given)
        return official(distiller, student, teacher.detach(), beside["target"])

    def inputs(b: int) -> tuple[Tensor, ...]:
        return (*make(names, b, STUDENT), *make(names, b, TEACHER, seed=50))

    same = not {"embedding", "proxies"} & set(names)
    return Case(
        name,
        shapes,
        inputs,
        ours,
        official if isinstance(official, str) else published,
        None,
        students=tensors,
        near={tensors + i: i for i in range(tensors)} if near and same else {},
        kind="method",
    )


def make(parts: list[str], b: int, width: int, seed: int = 0) -> list[Tensor]:
    """Tensors of those parts of one network's features."""
    shapes = [shape for part in parts for shape in _SHAPES[part](b, width)]
    return [random(*shape, seed=seed + i) for i, shape in enumerate(shapes)]


def pack(parts: list[str], tensors: list[Tensor]) -> Features:
    """The record of those tensors."""
    rest, found = list(tensors), {}
    for part in parts:
        mine = [rest.pop(0) for _ in _SHAPES[part](1, 1)]
        found[part] = {f"{part}{i}": x for i, x in enumerate(mine)} if part in ("maps", "tokens") else mine[0]
    return Features(**found)


def map_pairs(student: Features, teacher: Features) -> list[tuple[Tensor, Tensor]]:
    """The maps of both networks, depth by depth."""
    assert student.maps is not None
    assert teacher.maps is not None
    return list(zip(student.maps.values(), teacher.maps.values(), strict=True))
