"""What was taken from a pool and what was left: scores, classes, and a few images of both."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from graphkd.data.pool import PoolScores
from graphkd.data.selection import Selection
from graphkd.data.sources import ImageSource
from graphkd.data.store.format import Array
from graphkd.data.transforms import CenterView
from graphkd.errors import DataError
from graphkd.pictures.canvas import NEUTRAL, TEACHER, canvas, drawn, label

_CLASSES = 30  # that have a bar
_IMAGES, _COLUMNS = 10, 5  # of each kind
_SIDE, _GAP, _CAPTION = 96, 6, 22  # pixels of an image, between two, and of the text below one
_BINS = 40
_AXES = {"confidence": "confidence", "margin": "margin of the two best classes", "entropy": "entropy (nats)"}


@drawn
def draw_selection(scores: PoolScores, chosen: Selection, source: ImageSource | None = None) -> Any:
    """Histogram of the scores, classes, and a few images; what was taken is blue, what was left is grey.

    The images stand at equal steps of the ranking, the best first; those that cannot be read are passed over.

    Args:
        scores: of the pool.
        chosen: from it.
        source: the pool; without it there are no images.

    Returns: a ``matplotlib.figure.Figure`` of two panels, or four.
    Example: ``save_picture(draw_selection(scores, chosen, source), "list.png")``
    """
    score, read = str(chosen.options["score"]), scores.label >= 0
    taken = np.zeros(len(scores), bool)
    taken[chosen.indices] = True
    left, values = read & ~taken, scores.values(score)
    rows = 1 if source is None else 2
    bars = min(_CLASSES, sum(count > 0 for count in np.bincount(scores.label[read], minlength=1)))
    height = max(3.4, 1.2 + 0.19 * bars)
    ratios = (height, 2.9)[:rows]
    figure, axes = canvas(11, sum(ratios), rows, 2, height_ratios=ratios)
    colours = {"color": [TEACHER, NEUTRAL], "label": [f"taken: {taken.sum()}", f"left: {left.sum()}"]}
    axes[0].hist([values[taken], values[left]], bins=_BINS, stacked=True, **colours)
    axes[0].set(title="Scores", xlabel=_AXES[score], ylabel="images")
    axes[0].grid(axis="y", alpha=0.3)
    _classes(axes[1], scores, taken, left, chosen.class_names)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper left", ncols=2)
    if source is not None:
        order = np.argsort(-scores.rank(score), kind="stable")
        for axis, kind, members in ((axes[2], "Taken", taken), (axes[3], "Left", left)):
            _images(axis, kind, order[members[order]], scores, values, source, chosen.class_names)
    return figure


def _classes(axis: Any, scores: PoolScores, taken: Array, left: Array, names: Sequence[str]) -> None:
    """Images of each class, the largest first; of many classes, those of which most were left or taken."""
    counts = [np.bincount(scores.label[which], minlength=len(names)) for which in (taken, left)]
    total = counts[0] + counts[1]
    shown = np.argsort(-total, kind="stable")[:_CLASSES]
    shown = shown[total[shown] > 0]
    at = np.arange(len(shown))
    axis.barh(at, counts[0][shown], color=TEACHER)
    axis.barh(at, counts[1][shown], left=counts[0][shown], color=NEUTRAL)
    present = int((total > 0).sum())
    of = "" if len(shown) == present else f": the {len(shown)} largest of {present}"
    axis.set(title=f"Classes, as the teacher sees them{of}", xlabel="images")
    axis.set_yticks(at, [label(names[number]) for number in shown], fontsize=9 if len(shown) <= 15 else 7.5)
    axis.set_ylim(len(shown) - 0.4, -0.6)
    axis.grid(axis="x", alpha=0.3)
    axis.set_axisbelow(True)


def _images(
    axis: Any, kind: str, ranked: Array, scores: PoolScores, values: Array, source: ImageSource, names: Sequence[str]
) -> None:
    """Some of the images at equal steps of their ranking, side by side, with class and score below each."""
    axis.set(xticks=[], yticks=[], title=f"{kind}, the best first")
    axis.spines[:].set_visible(False)
    steps = np.unique(np.linspace(0, len(ranked) - 1, min(_IMAGES, len(ranked))).round().astype(int))
    wide, high = _SIDE + _GAP, _SIDE + _GAP + _CAPTION
    paper = np.full((high * 2, wide * _COLUMNS, 3), 255, np.uint8)
    for place, at in enumerate(ranked[steps].tolist()):
        picture = _thumbnail(source, at)
        if picture is None:
            continue
        y, x = high * (place // _COLUMNS), wide * (place % _COLUMNS)
        paper[y : y + _SIDE, x : x + _SIDE] = picture
        text = f"{label(names[scores.label[at]], 11)} {values[at]:.2f}"
        axis.text(x + _SIDE / 2, y + _SIDE + 4, text, ha="center", va="top", fontsize=6.5)
    axis.imshow(paper, interpolation="nearest")


def _thumbnail(source: ImageSource, index: int) -> Array | None:
    try:
        pixels = CenterView(_SIDE)(source.image(index))
    except DataError:
        return None
    return (pixels * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()
