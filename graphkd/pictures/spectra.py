"""Spectra: eigenvalues of the Laplacians of student's and teacher's graphs."""

from collections.abc import Mapping
from itertools import zip_longest
from typing import Any

import torch

from graphkd.errors import MissingFeatureError, ShapeError
from graphkd.pictures.canvas import STUDENT, TEACHER, canvas, drawn, finite, label
from graphkd.typing import Float, Tensor

_COLUMNS = 3


@drawn
def draw_spectra(
    student: Mapping[str, Float[Tensor, "b c"]], teacher: Mapping[str, Float[Tensor, "b c"]] | None = None
) -> Any:
    """Eigenvalues from the smallest to the largest, a panel for each level; good is a student's curve on its teacher's.

    Graphs of different sizes share an axis: the place of an eigenvalue is its rank over the number of nodes. The line
    is the mean over the images, the band holds the middle 80 % of them.

    Args:
        student, teacher: eigenvalues, ascending, of b graphs by name of the level; the levels are paired in order.

    Returns: a ``matplotlib.figure.Figure``.
    Raises: MissingFeatureError where there is no level; ShapeError for eigenvalues that are no matrix;
        NonFiniteError for NaN.
    Example: ``draw_spectra({"layer2": channel_spectrum(maps)})``
    """
    pairs = list(zip_longest(student.items(), (teacher or {}).items()))
    if not pairs:
        raise MissingFeatureError("there is no spectrum to draw: no maps were kept (--student-maps, --teacher-maps)")
    columns = min(_COLUMNS, len(pairs))
    rows = -(-len(pairs) // columns)
    figure, axes = canvas(max(4.6 * columns, 7), 3.7 * rows + 0.6, rows, columns)
    good = "" if not teacher or not student else ". Good: the student's curve lies on the teacher's"
    figure.suptitle(f"Eigenvalues of the graph Laplacians{good}", fontsize=11)
    for axis, (ours, theirs) in zip(axes, pairs, strict=False):
        _level(axis, "teacher", theirs, TEACHER, "--")
        _level(axis, "student", ours, STUDENT, "-")
        names = dict.fromkeys(label(each[0], 32) for each in (ours, theirs) if each is not None)
        axis.set(xlabel="rank of the eigenvalue / number of nodes", ylabel="eigenvalue", ylim=(0, None))
        axis.set_title(" / ".join(names), fontsize=10)
        axis.set_xscale("log")  # the small ones tell most
        axis.grid(alpha=0.3)
        axis.legend(loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=2, fontsize=9)
    for axis in axes[len(pairs) :]:
        axis.set_visible(False)
    return figure


def _level(axis: Any, side: str, level: tuple[str, Tensor] | None, colour: str, dash: str) -> None:
    if level is None:
        return
    values = finite(f"{side}'s spectrum of {level[0]}", level[1])
    if values.ndim != 2 or values.shape[0] == 0:
        raise ShapeError(f"expected eigenvalues (graphs, nodes), found {tuple(values.shape)}")
    count, nodes = values.shape
    at = (torch.arange(1, nodes + 1) / nodes).numpy()
    style = {"marker": "o"} if nodes < 3 else {}
    axis.plot(at, values.mean(0).numpy(), dash, color=colour, label=f"{side}, {nodes} nodes", **style)
    if count > 1:
        low, high = values.quantile(torch.tensor([0.1, 0.9]), dim=0)
        axis.fill_between(at, low.numpy(), high.numpy(), color=colour, alpha=0.18, linewidth=0)
