"""Operation -> implementation, and shapes that reach every kernel and configuration: what is compiled ahead of time.

Operations have files of their names, as in ``reference/``; ``__all__`` of a file names them.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch

from graphkd_kernels._triton import (
    dist_sums,
    edge_kl,
    edge_sum,
    ega_sums,
    knn,
    rkd_angle,
    rkd_distance,
    row_kl,
    row_pearson,
    similarity,
)
from graphkd_kernels._triton.launch import Launch, recording
from graphkd_kernels.autograd import RULES

MODULES = (dist_sums, edge_kl, edge_sum, ega_sums, knn, rkd_angle, rkd_distance, row_kl, row_pearson, similarity)
OPERATIONS: dict[str, Callable[..., Any]] = {name: getattr(each, name) for each in MODULES for name in each.__all__}
_WIDE = (torch.float32, torch.float64)
"""Types of rules whose inputs were widened before."""


@dataclass(frozen=True)
class Case:
    """A rule (without its prefix "triton/") with options, shapes of its tensors (``None``: left out) and needs.

    Args:
        dtypes: of the inputs. integers: positions of tensors that hold indices.
    """

    rule: str
    options: tuple[Any, ...]
    shapes: tuple[tuple[int, ...] | None, ...]
    needs: tuple[bool, ...]
    dtypes: tuple[torch.dtype, ...] = (torch.bfloat16, torch.float32, torch.float64)
    integers: tuple[int, ...] = ()


def launches(case: Case, arch: int, dtypes: Iterable[torch.dtype] | None = None) -> Iterator[Launch]:
    """What the case would launch on an architecture, in both passes, for each of its types."""
    for dtype in case.dtypes if dtypes is None else dtypes:
        types = [torch.int64 if i in case.integers else dtype for i in range(len(case.shapes))]
        tensors: list[Any] = [
            None if shape is None else torch.empty(shape, dtype=each, device="meta")
            for shape, each in zip(case.shapes, types, strict=True)
        ]
        with recording(arch) as record:
            if case.rule == "nearest":
                knn.search(*tensors, *case.options)
            else:
                rule = RULES[f"triton/{case.rule}"]
                value, kept = rule.gradients(case.needs, *tensors, *case.options)
                if rule.finish is not None and True in case.needs:
                    rule.finish(case.needs, torch.ones_like(value), tuple(tensors), kept, *case.options)
        yield from record.launches


def _pair(x: tuple[int, ...], t: tuple[int, ...]) -> tuple[tuple[int, ...] | None, ...]:
    return x, None, t, None


_S, _ALL, _NONE = (True, False, False, False), (True,) * 4, (False,) * 4
_EVERY = (*_ALL, False)
_PROXIES = ((1000, 256), (500, 256), (1000, 200), (500, 200), None)
_LONG = ((70, 65), (10_000, 65), (70, 33), (10_000, 33), None)
_MANY = ((8192, 256), (1000, 256), (8192, 256), (1000, 256), None)
_TERMS = ((1, (torch.bfloat16,)), (3, (torch.float32,)), (0, (torch.float64,)))
_POSITIVES = ((1000, 128), (500, 128), None, None, (1000,))

CASES = [
    *(
        Case("edge_sum", (relation, penalty, 1.0), shapes, needs)
        for relation, penalty, shapes, needs in (
            ("pearson", "square", _pair((256, 512), (256, 512)), _S),
            ("pearson", "square", _pair((256, 256), (256, 256)), _S),
            ("pearson", "square", _pair((256, 2048), (256, 2048)), _S),
            ("pearson", "square", _pair((256, 512), (256, 512)), _NONE),
            ("cosine", "huber", _pair((8192, 512), (8192, 512)), _S),
            ("cosine", "huber", _pair((8192, 128), (8192, 128)), _S),
            ("gram", "square", _pair((8192, 512), (8192, 512)), _S),
            ("gram", "huber", ((128, 64), (100, 64), (128, 200), (100, 200)), _ALL),
            ("gram", "square", _pair((64, 2048, 49), (64, 2048, 49)), _S),
            ("pearson", "square", _pair((32, 512, 196), (32, 512, 196)), _S),
            ("euclidean", "huber", _pair((8192, 512), (8192, 512)), _S),
        )
    ),
    *(
        Case("edge_sum", (relation, penalty, 1.0), shapes, needs, _WIDE)  # 16-bit nodes: those of the last above
        for relation, penalty, shapes, needs in (
            ("euclidean", "huber", _pair((8192, 128), (8192, 128)), _S),
            ("rbf", "square", ((1024, 64), (1000, 64), (1024, 64), (1000, 64)), _S),
            ("squared_euclidean", "huber", _pair((8192, 256), (8192, 256)), _NONE),
        )
    ),
    *(
        Case("similarity", (relation, 0.5), ((2048, 256), y), (True, y is not None))
        for relation in ("euclidean", "rbf")
        for y in (None, (1000, 256))
    ),
    *(
        Case("inner", (relation,), ((2048, 256), y), (True, y is not None), (torch.bfloat16, torch.float16))
        for relation in ("gram", "cosine", "pearson")
        for y in (None, (1000, 256))
    ),
    Case("ega_sums", ("pearson",), ((8192, 512), (8192, 512)), (True, False)),
    *(
        Case(rule, (1e-8,), (shape, shape), (True, True))
        for rule in ("row_pearson", "column_pearson")
        for shape in ((512, 10), (512, 100), (512, 1000), (64, 50_257))
    ),
    *(
        Case("dist_sums", (4.0, 1e-8), (shape, shape), needs)
        for shape in ((512, 10), (512, 100), (512, 1000), (64, 50_257))
        for needs in ((True, False), (True, True))
    ),
    *(
        Case("edge_kl", (kind, 0.1, 1.0, (terms, 0)), _POSITIVES, (True, True, False, False, False), dtypes, (4,))
        for kind in ("product", "euclidean")
        for terms, dtypes in _TERMS
    ),
    *(
        Case("edge_kl", (kind, 0.1, 1.0, (terms, terms)), shapes, _EVERY, dtypes)
        for kind in ("product", "euclidean", "squared_euclidean", "rbf")
        for shapes in (_PROXIES, _LONG)
        for terms, dtypes in _TERMS
    ),
    Case("edge_kl", ("product", 0.1, 1.0, (2, 2)), _PROXIES, _EVERY, (torch.float32,)),
    Case("edge_kl", ("product", 0.1, 1.0, (2, 2)), _MANY, _EVERY, (torch.float32,)),
    *(Case("nearest", (k,), ((5000, 128),), (False,), (torch.bfloat16, torch.float32)) for k in (1, 10, 16, 32, 64)),
    *(
        Case("rkd_distance", (), ((n, 128), (n, 96)), needs)
        for n in (65, 256, 8192)
        for needs in ((False, False), (True, False), (True, True))
    ),
    *(
        Case("rkd_angle", (0, n), ((n, 128), (n, 96)), needs, _WIDE)
        for n in (65, 500, 2000)
        for needs in ((False, False), (True, False), (True, True))
    ),
    *(
        Case("row_kl", (2.0,), (shape, shape), needs)
        for shape in ((512, 100), (512, 1000), (64, 50_257))
        for needs in ((True, False), (True, True))
    ),
]
