"""On what operations are verified and timed: their arguments, and the sizes at which backends are compared."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from graphkd_kernels.plans import PLANNERS, Shape, Where

Shapes = tuple[Shape | None, ...]


def _pair(n: int, d: int) -> Shapes:
    return (n, d), None, (n, d), None


def _between(n: int, d: int) -> Shapes:
    m = max(n // 2, 1)  # of proxies, say
    return (n, d), (m, d), (n, d), (m, d)


def _two(n: int, d: int) -> Shapes:
    return (n, d), (n, d)


def _graphs(n: int, d: int) -> Shapes:
    return (4, n, d), None, (4, n, d), None


def _half(n: int, d: int) -> Shapes:
    return (n, d), (max(n // 2, 1), d)


def _one(n: int, d: int) -> Shapes:
    return ((n, d),)


_EDGES = tuple((n, 256) for n in (16, 32, 64, 100, 128, 200, 256, 512, 1024, 2048))  # 100, 200: of no power of two
# 200 x 160 is just below 2^15 entries, up to which PyTorch's operations on single entries stay on one thread.
_LOGITS = ((16, 64), (32, 100), (64, 100), (128, 100), (200, 160), (256, 250), (512, 500), (1024, 1000), (4096, 1000))
_CHANNELS = ((32, 49), (64, 49), (128, 49), (256, 49), (512, 49))
_PROXY = ((16, 256), (64, 256), (100, 256), (128, 256), (256, 256), (512, 256), (1024, 256), (2048, 256))
_FEW = ((16, 256), (32, 256), (48, 256), (64, 256), (96, 256), (128, 256), (192, 256))
_ROWS = ((16, 256), (64, 256), (256, 512), (1024, 512), (4096, 512))
_MANY = ((64, 128), (256, 128), (512, 128), (1024, 128), (2048, 128), (4096, 128))


@dataclass(frozen=True)
class Problem:
    """One way to call an operation.

    Args:
        operation: its name.
        shapes: nodes and width -> shapes of its tensors.
        options: arguments after the tensors; ``None`` stands for the number of nodes.
        grid: nodes and widths at which backends are timed; none for what is only verified.
        students: how many leading tensors get a gradient.
        near: position of a teacher's tensor -> position of the student's that it resembles near convergence.
        cubic: memory and work grow with the third power of the nodes.
        positives: a tensor of row numbers follows the others.
    """

    operation: str
    shapes: Callable[[int, int], Shapes]
    options: tuple[Any, ...] = ()
    grid: tuple[Shape, ...] = ()
    students: int = 1
    near: Mapping[int, int] = field(default_factory=dict)
    cubic: bool = False
    positives: bool = False

    @property
    def name(self) -> str:
        """Operation and options."""
        return " ".join(map(str, (self.operation, *self.options)))

    def arguments(self, n: int) -> tuple[Any, ...]:
        """The options for so many nodes."""
        return tuple(n if each is None else each for each in self.options)

    def tensors(self, shape: Shape, device: torch.device, seed: int = 0) -> list[Any]:
        """Random tensors made on the device, float32; every number is one of bfloat16 and of float16 too."""
        draw = torch.Generator(device).manual_seed(seed)
        made: list[Any] = [
            None if each is None else _exact(torch.randn(each, generator=draw, device=device))
            for each in self.shapes(*shape)
        ]
        if self.positives:
            made.append(torch.arange(shape[0], device=device))
        return [each.abs() for each in made] if self.operation == "safe_sqrt" else made

    def size(self, shape: Shape, dtype: torch.dtype, device: str) -> tuple[str, int]:
        """The curve of the machine's plan, and the size on it."""
        shapes = [*self.shapes(*shape), *([shape[:1]] if self.positives else [])]
        plan = PLANNERS[self.operation]((*shapes, *self.arguments(shape[0])), Where(dtype, device, frozenset()))
        return plan.curve, plan.size


def _exact(x: Tensor) -> Tensor:
    """Rounded to bfloat16, without what float16 has no digits for: one truth serves every type."""
    return torch.where(x.abs() < 1e-4, 0.0, x.bfloat16().float())


PAIR, BETWEEN, TWO = {2: 0}, {2: 0, 3: 1}, {1: 0}

PROBLEMS = (  # the most used first
    Problem("edge_sum", _pair, ("pearson", "square"), _EDGES, near=PAIR),
    Problem("edge_sum", _graphs, ("pearson", "square"), _CHANNELS, near=PAIR, cubic=True),
    Problem("edge_sum", _pair, ("cosine", "huber"), _EDGES, near=PAIR),
    Problem("edge_sum", _pair, ("euclidean", "huber"), _EDGES, near=PAIR),
    Problem("edge_sum", _between, ("rbf", "square", 0.01), students=2, near=BETWEEN),
    Problem("edge_kl", _between, ("cosine", 0.1), _PROXY, students=2, near=BETWEEN),
    Problem("edge_kl", _pair, ("squared_euclidean", 4.0), _PROXY, near=PAIR),
    Problem("row_kl", _two, (4.0,), _LOGITS, near=TWO),
    Problem("rkd_distance", _two, (), _EDGES, near=TWO),
    Problem("rkd_angle", _two, (0, None), _FEW, near=TWO, cubic=True),
    Problem("ega_sums", _two, ("pearson",), _EDGES, near=TWO),
    Problem("unit_edge_sum", _pair, (), _EDGES, near=PAIR),
    Problem("similarity", _half, ("cosine",), _PROXY, students=2),
    Problem("similarity", _half, ("euclidean",), _PROXY, students=2),
    Problem("center_normalize", _one, (), _ROWS),
    Problem("unit_rows", _one, (), _ROWS),
    Problem("dist_sums", _two, (4.0, 1e-8), _LOGITS, near=TWO),
    Problem("damped_row_pearson", _two, (1e-8,), _LOGITS, near=TWO),
    Problem("damped_column_pearson", _two, (1e-8,), _LOGITS, near=TWO),
    Problem("row_pearson", _two, (), _LOGITS, near=TWO),
    Problem("edge_pkt", _pair, (), _PROXY, near=PAIR),
    Problem("info_nce", _two, ("cosine", 0.1), _PROXY, students=2, positives=True),
    Problem("info_nce", _two, ("squared_euclidean", 4.0), _PROXY, students=2, positives=True),
    Problem("node_sum", _two, ("pearson", "identity", 0), _EDGES, near=TWO),
    Problem("knn", _one, (10,), _MANY, students=0),
    Problem("joint_gram", _two, ("gram",), _MANY, near=TWO),
    Problem("gram", _half, students=2),
    Problem("squared_distances", _half, students=2),
    Problem("safe_sqrt", _one),
)
OPERATIONS = tuple(dict.fromkeys(each.operation for each in PROBLEMS))


def of(operation: str) -> list[Problem]:
    """The problems of an operation."""
    return [each for each in PROBLEMS if each.operation == operation]
