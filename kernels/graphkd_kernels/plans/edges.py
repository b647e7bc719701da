"""Paths of the edge losses that inner products give: pairs or D x D Gram matrices, whichever is less work."""

from dataclasses import dataclass
from math import prod

from graphkd_kernels.plans.plan import Shape

INNER = ("gram", "cosine", "pearson")


@dataclass(frozen=True, slots=True)
class Sizes:
    """Sizes of an edge loss: graphs, sources, targets (0: the sources themselves), widths."""

    graphs: int
    sources: int
    targets: int
    student: int
    teacher: int

    @classmethod
    def of(cls, xs: Shape, ys: Shape | None, xt: Shape) -> "Sizes":
        """From the shapes of the arguments."""
        return cls(prod(xs[:-2]), xs[-2], 0 if ys is None else ys[-2], xs[-1], xt[-1])

    @property
    def pairs(self) -> int:
        """Entries of one graph's matrix."""
        return self.sources * (self.targets or self.sources)

    @property
    def inputs(self) -> int:
        """Numbers read, of one graph."""
        return (self.sources + self.targets) * (self.student + self.teacher)

    @property
    def same_widths(self) -> bool:
        """Whether the difference form is possible."""
        return self.student == self.teacher


def pairs_work(sizes: Sizes) -> int:
    """Operations by pairs, value and student's gradient, of one graph."""
    if sizes.targets:
        return sizes.pairs * (2 * (sizes.student + sizes.teacher) + 4 * sizes.student)
    edges = 2 * sizes.student if sizes.same_widths else 2 * (sizes.student + sizes.teacher)
    return sizes.pairs * (edges + 2 * sizes.student)


def grams_work(sizes: Sizes) -> int:
    """Operations through Gram matrices of joined rows, half of them spared by symmetry."""
    width, rows = sizes.student + sizes.teacher, sizes.sources + sizes.targets
    gram = width * width * (1 if sizes.same_widths else 2)  # float64 products cost twice
    return rows * (gram + 2 * width * sizes.student)


_STEPS = 2**24
"""Operations that the many small steps of the D x D path cost as much as, whatever the size."""


def square_path(sizes: Sizes) -> str:
    """Of a sum of squares: "pairs" or "D x D"."""
    if sizes.pairs > 4 * sizes.inputs + 2**16:
        return "D x D"
    return "pairs" if pairs_work(sizes) < grams_work(sizes) + _STEPS else "D x D"


def unit_path(sizes: Sizes) -> str:
    """Of unit rows: "D x D" or "rows"; 26 N D^2 operations against 6 or 8 for each pair and feature."""
    if not sizes.same_widths:
        return "rows"
    rows, each = sizes.sources + sizes.targets, 8 if sizes.targets else 6
    return "rows" if each * sizes.pairs * sizes.student < 26 * rows * sizes.student**2 + _STEPS else "D x D"


def ega_path(rows: int, width: int) -> str:
    """Of EGA's two sums: "pairs" or "D x D"; 8 N^2 D or 4 N D (2 D) + 4 N D^2 operations."""
    return "pairs" if 2 * rows < 3 * width and rows <= 4096 else "D x D"


def node_path(students: int, teachers: int, width: int) -> str:
    """Of a node term: "pairs" or "D x D"; 4 N M D operations, or two Gram matrices and a product."""
    return "pairs" if 4 * students * teachers < (4 * students + 2 * teachers) * width else "D x D"
