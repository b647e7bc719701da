"""Every registered distiller as a benchmark: from features to the gradient of the student's, beside its published form.

Both networks' features are tensors of their own; adapters and projectors are the distiller's and take part. It runs in
evaluation mode, so that memories and running means stay and every call does the same work. A method that ``PUBLISHED``
lacks is measured all the same, on all parts of the features.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, mse_loss, normalize

from benchmarks.case import Case, Shape, random
from benchmarks.official import logits, maps, samples
from benchmarks.official.samples import rows
from graphkd.distillers.base import Distiller
from graphkd.distillers.factory import create_distiller, distillers
from graphkd.features import Features

CLASSES, STUDENT, TEACHER, SAMPLES = 100, 512, 768, 4096
SHAPES: tuple[Shape, ...] = ((64,), (256,))
Official = Callable[[Any, Any, Any, Tensor], Tensor]  # of (distiller, student, teacher, target)
_SHAPES: dict[str, Callable[[int, int], list[tuple[int, ...]]]] = {  # samples, embedding width -> shapes of a part
    "embedding": lambda b, d: [(b, d)],
    "logits": lambda b, d: [(b, CLASSES)],
    "proxies": lambda b, d: [(CLASSES, d)],
    "proxy_logits": lambda b, d: [(CLASSES, CLASSES)],
    "maps": lambda b, d: [(b, 32, 8, 8), (b, 64, 4, 4)],
    "tokens": lambda b, d: [(b, 8, 192)],
}


@dataclass(frozen=True)
class Published:
    """A method's published form.

    Args:
        parts: of the features that it reads.
        total: with the distiller's default weights, or why there is none.
        options: of the distiller.
    """

    parts: str = " ".join(_SHAPES)
    total: Official | str = "benchmarks/methods.py has no published form of it"
    options: Mapping[str, Any] = field(default_factory=dict)


def _over_maps(weight: float, term: Callable[[Tensor, Tensor], Tensor], mean: bool = False) -> Official:
    """A weighted sum (or mean) over pairs of maps, the student's through the distiller's adapters if it has some."""

    def total(distiller: Any, student: Any, teacher: Any, target: Tensor) -> Tensor:
        pairs = zip(student.maps.values(), teacher.maps.values(), strict=True)
        adapters = getattr(distiller, "adapters", None) or [lambda x: x] * len(student.maps)
        found = torch.stack([term(adapt(s), t) for adapt, (s, t) in zip(adapters, pairs, strict=True)])
        return weight * (found.mean() if mean else found.sum())

    return total


def _rkd(s: Any, t: Any) -> Tensor:
    angle = samples.rkd_angle(s.embedding, t.embedding) / len(s.embedding) ** 3
    return 25 * samples.rkd_distance(s.embedding, t.embedding) + 50 * angle


def _ega(distiller: Any, s: Any, t: Any, target: Tensor) -> Tensor:
    """With the cross-entropy of the teacher's head, which is trained online; every sample has a label."""
    with torch.no_grad():
        teacher = distiller.teacher_head(t.embedding)
    head, _ = distiller.teacher_head.losses(t.embedding, target)
    return samples.ega(distiller.project(s.embedding), teacher, 0.8, 0.24) + head.mean()


def _mimic(distiller: Any, s: Any, t: Any, target: Tensor) -> Tensor:
    apart = normalize(distiller.projector(s.embedding), dim=1) - normalize(t.embedding, dim=1)
    return cross_entropy(s.logits, t.logits.argmax(1)) + apart.square().sum(1).mean()


def _prg(distiller: Any, s: Any, t: Any, target: Tensor) -> Tensor:
    """The equations of docs/methods/prg.md."""

    def edges(x: Any) -> Tensor:
        return (rows(x.embedding) @ rows(x.proxies).T + rows(x.logits) @ rows(x.proxy_logits).T) / 2

    f = distiller.projector(s.embedding)
    node = (rows(t.embedding) @ rows(f).T + rows(t.logits) @ rows(s.logits).T) / 2
    difference = edges(t) - edges(s)
    labels = cross_entropy(s.logits, t.logits.argmax(1)) + logits.kd(s.logits, t.logits)
    return labels + (1 - node.diagonal()).mean() + difference.norm() / difference.numel() ** 0.5


NO_FORMULA = "no formula has been published"
PUBLISHED: dict[str, Published] = {
    "at": Published("maps", _over_maps(1000, lambda s, t: mse_loss(maps.attention(s), maps.attention(t)))),
    "cc": Published("embedding", lambda _, s, t, y: 0.02 * samples.cc(s.embedding, t.embedding)),
    "combined": Published(
        "embedding logits",
        lambda _, s, t, y: 0.9 * logits.kd(s.logits, t.logits) + 0.5 * _rkd(s, t),
        {"parts": {"kd": {}, "rkd": {}}, "weights": {"rkd": 0.5}},
    ),
    "crg": Published("maps logits", NO_FORMULA),
    "dist": Published("logits", lambda _, s, t, y: logits.dist(s.logits, t.logits)),
    "dkd": Published("logits", lambda _, s, t, y: logits.dkd(s.logits, t.logits, y)),
    "ega": Published("embedding logits", _ega),
    "eikd": Published("embedding logits", NO_FORMULA),
    "fitnet": Published("maps", _over_maps(100, mse_loss)),
    "fsp": Published("maps", lambda _, s, t, y: 50 * maps.fsp(list(s.maps.values()), list(t.maps.values()))),
    "gkd": Published("maps", _over_maps(25, samples.gkd, mean=True)),
    "hkd": Published(
        "embedding logits",
        "its published code draws negatives anew in each call",
        {"num_samples": SAMPLES, "negatives": 1024},
    ),
    "ickd": Published("maps", _over_maps(2.5, maps.ickd)),
    "irg": Published(
        "embedding logits maps",
        lambda _, s, t, y: maps.irg(*((x.logits, x.embedding, *x.maps.values()) for x in (s, t))),
    ),
    "kd": Published("logits", lambda _, s, t, y: 0.9 * logits.kd(s.logits, t.logits)),
    "mimic": Published("embedding logits", _mimic),
    "nst": Published("maps", _over_maps(50, maps.nst)),
    "pkt": Published("embedding", lambda _, s, t, y: 30000 * samples.pkt(s.embedding, t.embedding)),
    "prg": Published("embedding logits proxies proxy_logits", _prg),
    "rkd": Published("embedding", lambda _, s, t, y: _rkd(s, t)),
    "rkd.distance": Published(
        "embedding", lambda _, s, t, y: 25 * samples.rkd_distance(s.embedding, t.embedding), {"angle_weight": 0}
    ),
    "sp": Published("maps", _over_maps(3000, samples.sp)),
    "trg": Published("tokens", lambda _, s, t, y: maps.trg(*s.tokens.values(), *t.tokens.values())),
}


def method(name: str) -> Case:
    """The case of a distiller, or of a variation with other options, ``rkd.distance``."""
    published = PUBLISHED.get(name, Published())
    parts, official = published.parts.split(), published.total
    count = sum(len(_SHAPES[part](1, 1)) for part in parts)

    @lru_cache(maxsize=4)
    def built(dtype: torch.dtype, device: torch.device) -> Distiller:
        torch.manual_seed(0)
        student, teacher = (pack(parts, make(parts, 2, width)) for width in (STUDENT, TEACHER))
        made = create_distiller(name.partition(".")[0], student, teacher, **published.options)
        return made.to(device, dtype).eval()

    def split(given: Sequence[Tensor]) -> tuple[Distiller, Features, Features, Tensor]:
        first = given[0]
        order = torch.arange(len(first), device=first.device)
        return built(first.dtype, first.device), pack(parts, given[:count]), pack(parts, given[count:]), order

    def ours(*given: Tensor) -> Tensor:
        distiller, student, teacher, order = split(given)
        return distiller(student, teacher, target=order % CLASSES, index=order % SAMPLES).total

    def theirs(*given: Tensor) -> Tensor:
        assert not isinstance(official, str)
        distiller, student, teacher, order = split(given)
        return official(distiller, student, teacher.detach(), order % CLASSES)

    same = not {"embedding", "proxies"} & set(parts)  # else the widths differ, and no teacher is close to the student
    return Case(
        name,
        SHAPES,
        lambda b: (*make(parts, b, STUDENT), *make(parts, b, TEACHER, seed=50)),
        ours,
        official if isinstance(official, str) else theirs,
        None,
        students=count,
        near={count + i: i for i in range(count)} if same else {},
        kind="method",
    )


def make(parts: Sequence[str], b: int, width: int, seed: int = 0) -> list[Tensor]:
    """Tensors of those parts of one network's features."""
    shapes = [shape for part in parts for shape in _SHAPES[part](b, width)]
    return [random(*shape, seed=seed + i) for i, shape in enumerate(shapes)]


def pack(parts: Sequence[str], tensors: Sequence[Tensor]) -> Features:
    """The record of those tensors."""
    rest, found = list(tensors), {}
    for part in parts:
        mine = [rest.pop(0) for _ in _SHAPES[part](1, 1)]
        found[part] = {f"{part}{i}": x for i, x in enumerate(mine)} if part in ("maps", "tokens") else mine[0]
    return Features(**found)


CASES = [method(name) for name in sorted({*distillers().names(), *PUBLISHED})]
