"""Penalties of the differences of two blocks of rows, with derivatives: what no D x D matrices express.

Huber penalties, distances and Gaussians, and unit rows of unequal widths.
"""

from collections.abc import Callable

from torch import Tensor

from graphkd_kernels._blocked.rows import map_rows, unmap_rows
from graphkd_kernels.reference.edges import penalty_sum

Found = tuple[Tensor, Tensor | None, Tensor | None]
Needs = tuple[bool, bool]


def square_rows(student: Tensor, teacher: Tensor, needs: Needs) -> Found:
    """Squared differences and the derivatives of their sum. Shapes: (*b, n, m) twice -> (*b, n, m) each."""
    apart = student - teacher
    ds = 2 * apart if needs[0] else None
    dt = -2 * apart if needs[1] else None
    return apart.square_(), ds, dt


def huber_rows(student: Tensor, teacher: Tensor, needs: Needs) -> Found:
    """The sum of smooth-L1 differences and its derivatives. Shapes: (*b, n, m) twice -> (), (*b, n, m)."""
    apart = student - teacher
    slope = apart.clamp(-1, 1) if any(needs) else None
    return penalty_sum(apart, "huber"), slope if needs[0] else None, -slope if slope is not None and needs[1] else None


def unit_rows(student: Tensor, teacher: Tensor, needs: Needs) -> Found:
    """Squared differences of rows of unit length, and the derivatives of their sum. Shapes: of :func:`square_rows`."""
    (s, inverse_s), (t, inverse_t) = (map_rows(each, "cosine") for each in (student, teacher))
    values, ds, dt = square_rows(s, t, needs)
    return (
        values,
        None if ds is None else unmap_rows(ds, s, inverse_s, "cosine"),
        None if dt is None else unmap_rows(dt, t, inverse_t, "cosine"),
    )


PENALTIES: dict[str, Callable[[Tensor, Tensor, Needs], Found]] = {
    "square": square_rows,
    "huber": huber_rows,
    "unit": unit_rows,
}
