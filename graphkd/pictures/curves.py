"""Training curves: the loss terms by their names, accuracy, learning rate."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from graphkd.errors import MissingFeatureError
from graphkd.pictures.canvas import COLOURS, STUDENT, TEACHER, canvas, drawn, label

_OTHERS = {"update", "epoch", "loss", "gradient", "skipped", "refused", "lr", "images_per_second"}
_SCORES = {"top1": "top-1", "top5": "top-5", "agreement": "agreement with the teacher"}
_DASHES = ("-", "--", ":", "-.")
_LINE = 0.19  # inches of a line of a legend
_WIDE = 20  # ratio of the largest to the smallest loss from which the axis is logarithmic


@drawn
def draw_curves(lines: Sequence[Mapping[str, Any]], teacher: float | None = None) -> Any:
    """Loss terms, accuracy, agreement with the teacher and learning rate over the epochs of a run.

    Where most lines end an epoch, the losses between are left out: each is a mean of few updates, and a kink.

    Args:
        lines: of the run's ``metrics.jsonl``; see :func:`graphkd.training.run_folder.read_metrics`.
        teacher: the teacher's top-1 as a fraction, drawn as a line to reach.

    Returns: a ``matplotlib.figure.Figure`` of two or three panels: there is no accuracy without images to score on.
    Raises: MissingFeatureError where no loss was read yet.
    Example: ``draw_curves(read_metrics(run / "metrics.jsonl")).savefig("curves.svg")``
    """
    losses = _even([line for line in lines if "loss" in line])
    scores = [line for line in lines if _SCORES.keys() & line.keys()]
    if not losses:
        raise MissingFeatureError("no loss was read yet: the run ended before log_every updates were made")
    terms = sorted({name for line in losses for name in line} - _OTHERS)
    named = max(len(terms) + 1, len(_SCORES) + 1 if scores else 0)
    figure, axes = canvas(12 if scores else 8.5, 3.7 + _LINE * named, 1, 3 if scores else 2)
    _losses(axes[0], losses, terms)
    if scores:
        _scores(axes[1], scores, teacher)
    axes[-1].plot(*_series(losses, "lr"), color="black")
    axes[-1].set(title="Learning rate", ylabel="learning rate", ylim=(0, None))
    for axis in axes:
        over_epochs(axis)
    for axis in axes[:-1]:
        axis.legend(fontsize=9, loc="upper center", bbox_to_anchor=(0.5, -0.16))  # below, where it hides no curve
    return figure


def _even(lines: list[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The lines that end an epoch if they are most of them, else all."""
    whole = [line for line in lines if float(line["epoch"]).is_integer()]
    return whole if 2 * len(whole) > len(lines) else lines


def over_epochs(axis: Any) -> None:
    """Whole epochs from left to right, and a grid."""
    axis.set_xlabel("epoch")
    axis.xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)
    axis.grid(alpha=0.3)


def _losses(axis: Any, lines: Sequence[Mapping[str, Any]], terms: Sequence[str]) -> None:
    own = COLOURS[1:]  # the first is the teacher's
    for number, name in enumerate(terms):
        style = {"color": own[number % len(own)], "linestyle": _DASHES[number // len(own) % len(_DASHES)]}
        axis.plot(*_series(lines, name), label=label(name, 48), **style)
    if len(terms) != 1:
        axis.plot(*_series(lines, "loss"), color="black", linewidth=2, label="total", zorder=0)
    _stretch(axis, {name: _series(lines, name)[1] for name in (*terms, "loss")})
    axis.set(title="Training loss", ylabel="loss (weights inside)")


def _stretch(axis: Any, losses: Mapping[str, Sequence[float]]) -> None:
    """A logarithmic axis where small losses would lie flat at the bottom; linear about 0 if some are not positive."""
    known = {name: [value for value in values if math.isfinite(value)] for name, values in losses.items()}
    values = [value for each in known.values() for value in each]
    peaks = [peak for each in known.values() if (peak := max(map(abs, each), default=0))]
    if values and min(values) > 0:
        if max(values) > _WIDE * min(values):
            axis.set_yscale("log")
    elif peaks and max(peaks) > _WIDE * min(peaks):
        axis.set_yscale("symlog", linthresh=min(peaks))


def _scores(axis: Any, lines: Sequence[Mapping[str, Any]], teacher: float | None) -> None:
    there = {name: series for key, name in _SCORES.items() if (series := _series(lines, key))[0]}
    for number, (name, (at, values)) in enumerate(there.items()):
        style = {
            "color": COLOURS[COLOURS.index(STUDENT) + number],
            "linestyle": _DASHES[number],
            "linewidth": 3 - number,
        }  # one may hide one
        axis.plot(at, [100 * value for value in values], marker="o", markersize=3, label=name, **style)
    if teacher is not None:
        axis.axhline(100 * teacher, color=TEACHER, linewidth=1, label="teacher, top-1", zorder=0)
    what = "Accuracy" if any("top1" in line for line in lines) else "Agreement"
    axis.set(title=f"{what} on held-out images", ylabel="share of the images (%)")


def _series(lines: Sequence[Mapping[str, Any]], name: str) -> tuple[list[float], list[float]]:
    """Epochs and values of one number."""
    there = [line for line in lines if line.get(name) is not None]
    return [line["epoch"] for line in there], [line[name] for line in there]
