"""Training curves: the loss terms by their names, accuracy, learning rate."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from graphkd.errors import MissingFeatureError
from graphkd.pictures.canvas import COLOURS, TEACHER, canvas, drawn, label

_OTHERS = {"update", "epoch", "loss", "gradient", "skipped", "refused", "lr", "images_per_second"}
_SCORES = {"top1": "top-1", "top5": "top-5", "agreement": "agreement with the teacher"}
_DASHES = ("-", "--", ":", "-.")
_INSIDE = 5  # terms up to which there is room for their names among the curves
_WIDE = 50  # ratio of the largest to the smallest loss from which the axis is logarithmic


@drawn
def draw_curves(lines: Sequence[Mapping[str, Any]], teacher: float | None = None) -> Any:
    """Loss terms, accuracy, agreement with the teacher and learning rate over the epochs of a run.

    Args:
        lines: of the run's ``metrics.jsonl``; see :func:`graphkd.training.run_folder.read_metrics`.
        teacher: the teacher's top-1 as a fraction, drawn as a line to reach.

    Returns: a ``matplotlib.figure.Figure`` of two or three panels: there is no accuracy without images to score on.
    Raises: MissingFeatureError where no loss was read yet.
    Example: ``draw_curves(read_metrics(run / "metrics.jsonl")).savefig("curves.svg")``
    """
    losses = [line for line in lines if "loss" in line]
    scores = [line for line in lines if _SCORES.keys() & line.keys()]
    if not losses:
        raise MissingFeatureError("no loss was read yet: the run ended before log_every updates were made")
    terms = sorted({name for line in losses for name in line} - _OTHERS)
    height = 3.8 + (0.17 * len(terms) if len(terms) > _INSIDE else 0)
    figure, axes = canvas(11.5 if scores else 8, height, 1, 3 if scores else 2)
    _losses(axes[0], losses, terms)
    if scores:
        _scores(axes[1], scores, teacher)
    axes[-1].plot(*_series(losses, "lr"), color="black")
    axes[-1].set(title="Learning rate", xlabel="epoch", ylabel="learning rate", ylim=(0, None))
    for axis in axes:
        axis.grid(alpha=0.3)
    return figure


def _losses(axis: Any, lines: Sequence[Mapping[str, Any]], terms: Sequence[str]) -> None:
    for number, name in enumerate(terms):
        style = {"color": COLOURS[number % len(COLOURS)], "linestyle": _DASHES[number // len(COLOURS) % len(_DASHES)]}
        axis.plot(*_series(lines, name), label=label(name, 48), **style)
    if len(terms) != 1:
        axis.plot(*_series(lines, "loss"), color="black", linewidth=2, label="total", zorder=0)
    values = [value for name in (*terms, "loss") for value in _series(lines, name)[1] if math.isfinite(value)]
    if values and min(values) > 0 and max(values) > _WIDE * min(values):
        axis.set_yscale("log")
    axis.set(title="Training loss", xlabel="epoch", ylabel="loss (weights inside)")
    if len(terms) <= _INSIDE:
        axis.legend(fontsize=9)
    else:
        axis.legend(fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.16))


def _scores(axis: Any, lines: Sequence[Mapping[str, Any]], teacher: float | None) -> None:
    there = {name: series for key, name in _SCORES.items() if (series := _series(lines, key))[0]}
    for number, (name, (at, values)) in enumerate(there.items()):
        style = {"color": COLOURS[number + 1], "linestyle": _DASHES[number]}
        axis.plot(at, [100 * value for value in values], marker="o", markersize=3, label=name, **style)
    if teacher is not None:
        axis.axhline(100 * teacher, color=TEACHER, linewidth=1, label="teacher, top-1")
    what = "Accuracy" if any("top1" in line for line in lines) else "Agreement"
    axis.set(title=f"{what} on held-out images", xlabel="epoch", ylabel="share of the images (%)")
    axis.legend(loc="lower right", fontsize=9)


def _series(lines: Sequence[Mapping[str, Any]], name: str) -> tuple[list[float], list[float]]:
    """Epochs and values of one number."""
    there = [line for line in lines if line.get(name) is not None]
    return [line["epoch"] for line in there], [line[name] for line in there]
