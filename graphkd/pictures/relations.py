"""Relation matrices of teacher and student, and how far they differ, ordered by class."""

from collections.abc import Sequence
from typing import Any, Literal

import torch

from graphkd.errors import OptionError, ShapeError
from graphkd.pictures.canvas import NAMED, canvas, drawn, finite, known_labels, name_columns, name_of, name_size
from graphkd.typing import Float, Int, Tensor

_SIDE = 3.2 * 72  # points of a matrix
_APART = 1.35  # from one name to the next, slanted ones too, as a multiple of their letters' size


@drawn
def draw_relations(
    teacher: Float[Tensor, "n m"],
    student: Float[Tensor, "n m"],
    labels: Int[Tensor, " n"] | None = None,
    classes: Sequence[str] | None = None,
    *,
    columns: Literal["sample", "class"] = "sample",
    relation: str = "cosine",
) -> Any:
    """The edges of teacher and student side by side on one colour scale, and student minus teacher around 0.

    Where there is no room for two names, the class of more samples has its own.

    Args:
        teacher, student: edges between samples, or between samples and class proxies.
        labels: class of each sample, true or guessed; it orders rows (and columns that are samples) and nothing else.
            Default: the order as given.
        classes: names by number.
        columns: what they are: the same ``"sample"``\\ s, or one ``"class"`` each.
        relation: what an edge is, for the colour bars.

    Shapes: samples (n, n), or classes (n, c).
    Returns: a ``matplotlib.figure.Figure`` of three panels and two colour bars; the title of the third tells the mean
        absolute difference.
    Raises: ShapeError for matrices that differ in shape or do not fit labels and classes; NonFiniteError for NaN.
    Example: ``draw_relations(t @ t.T, s @ s.T, labels, names)``
    """
    if teacher.shape != student.shape or teacher.ndim != 2:
        raise ShapeError(
            f"teacher edges {tuple(teacher.shape)} and student edges {tuple(student.shape)} differ: "
            "both need the same samples and classes"
        )
    if columns not in ("sample", "class"):
        raise OptionError(f"columns are 'sample' or 'class', found {columns!r}")
    if columns == "sample" and teacher.shape[0] != teacher.shape[1]:
        raise ShapeError(f"edges between samples are square, found {tuple(teacher.shape)}: say columns='class'")
    given = known_labels(labels, len(teacher), classes)
    order = given.argsort(stable=True)
    sides = [finite(f"{name} edges", each)[order] for name, each in (("teacher", teacher), ("student", student))]
    if columns == "sample":
        sides = [each[:, order] for each in sides]
    return _panels(sides[0], sides[1], given[order] if labels is not None else None, classes, columns, relation)


def _panels(
    teacher: Tensor, student: Tensor, ordered: Tensor | None, classes: Sequence[str] | None, columns: str, relation: str
) -> Any:
    difference = student - teacher
    both = torch.stack([teacher, student])
    scale = {"vmin": float(both.min()), "vmax": float(both.max()), "cmap": "viridis"}
    most = max(float(difference.abs().max()), 1e-6)
    around = {"vmin": -most, "vmax": most, "cmap": "RdBu_r"}
    figure, axes = canvas(13, 4.5, 1, 3)
    square = "equal" if columns == "sample" else "auto"
    titles = "Teacher", "Student", f"Student minus teacher: mean |Δ| = {float(difference.abs().mean()):.3f}"
    images = []
    for axis, values, title, style in zip(axes, (teacher, student, difference), titles, (scale, scale, around)):  # noqa: B905
        images.append(axis.imshow(values.numpy(), aspect=square, interpolation="nearest", **style))
        axis.set(title=title, xticks=[], yticks=[])
        axis.spines[:].set_visible(True)
        if ordered is not None and len(torch.unique_consecutive(ordered)) <= NAMED:
            _classes(axis, ordered, classes, columns, "white" if style is scale else "#555555", rows=axis is axes[0])
        if columns == "class":
            axis.set_xlabel("proxy (class)")
            if (width := values.shape[1]) <= NAMED:
                names = [name_of(classes, number) for number in range(width)]
                name_columns(axis, range(width), _with_room(range(width), names, [1] * width))
    count = len(teacher)
    by = "" if ordered is None else ", ordered by class"
    axes[0].set_ylabel(f"{count} sample{'s' if count != 1 else ''}{by}")
    for axis, image, text in ((axes[1], images[1], relation), (axes[2], images[2], f"difference of {relation}")):
        figure.colorbar(image, cax=axis.inset_axes((1.03, 0.0, 0.045, 1.0)), label=text)  # as high as the matrix
    return figure


def _classes(
    axis: Any, ordered: Tensor, classes: Sequence[str] | None, columns: str, colour: str, *, rows: bool
) -> None:
    """Lines between the classes, and their names at their rows and columns."""
    present, counts = torch.unique_consecutive(ordered, return_counts=True)
    ends = counts.cumsum(0) - 0.5
    middles, names = (ends - counts / 2).tolist(), [name_of(classes, number) for number in present.tolist()]
    for end in ends[:-1].tolist():
        axis.axhline(end, color=colour, linewidth=0.6, alpha=0.7)
        if columns == "sample":
            axis.axvline(end, color=colour, linewidth=0.6, alpha=0.7)
    names = _with_room(middles, names, counts.tolist())
    if rows:
        axis.set_yticks(middles, names, fontsize=name_size(names))
    if columns == "sample":
        name_columns(axis, middles, names)


def _with_room(middles: Sequence[float], names: Sequence[str], counts: Sequence[int]) -> list[str]:
    """The names that do not touch, those of the largest classes first; the others are empty."""
    apart = _APART * name_size(names) * (middles[-1] + counts[-1] / 2 + 0.5) / _SIDE
    shown = dict[int, float]()
    for number in sorted(range(len(names)), key=lambda each: -counts[each]):
        if all(abs(middles[number] - other) >= apart for other in shown.values()):
            shown[number] = middles[number]
    return [name if number in shown else "" for number, name in enumerate(names)]
