"""The confusion matrix of a network."""

from collections.abc import Sequence
from typing import Any

from graphkd.pictures.canvas import NAMED, canvas, drawn, name_columns, name_of, name_size
from graphkd.typing import Int, Tensor

_SHOWN = 16  # classes up to which counts are written into the cells


@drawn
def draw_confusion(confusion: Int[Tensor, "c c"], classes: Sequence[str] | None = None) -> Any:
    """Share of each true class that is taken for each class, counts written in where there is room.

    Args:
        confusion: counts, row = label, column = prediction; see :class:`graphkd.training.metrics.Scores`.
        classes: names by number.

    Returns: a ``matplotlib.figure.Figure``.
    """
    from matplotlib.colors import PowerNorm

    counts = confusion.cpu()
    count = len(counts)
    shares = 100 * counts / counts.sum(1, keepdim=True).clamp(min=1)
    side = 6.2 if count <= _SHOWN else 8.5
    figure, (axis,) = canvas(side + 1, side)
    scale = PowerNorm(0.5, vmin=0, vmax=100)  # rare confusions stay visible
    image = axis.imshow(shares.numpy(), norm=scale, cmap="Blues", interpolation="nearest")
    if count <= _SHOWN:
        for row, column in (counts > 0).nonzero().tolist():
            colour = "white" if shares[row, column] > 30 else "black"
            axis.text(column, row, int(counts[row, column]), ha="center", va="center", color=colour, fontsize=9)
    if count <= NAMED:
        names = [name_of(classes, number) for number in range(count)]
        axis.set_yticks(range(count), names, fontsize=name_size(names))
        name_columns(axis, range(count), names)
    right = int(counts.diag().sum())
    axis.spines[:].set_visible(True)
    axis.set(title=f"Confusion: {right} of {int(counts.sum())} right", xlabel="predicted class", ylabel="true class")
    figure.colorbar(image, ax=axis, label="share of the true class (%)", shrink=0.8)
    return figure
