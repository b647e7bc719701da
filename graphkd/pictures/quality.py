"""Quality without labels in pictures: classes of both networks, reliability, images on which they differ."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from graphkd.errors import MissingFeatureError, ShapeError
from graphkd.pictures.canvas import NEUTRAL, STUDENT, TEACHER, canvas, drawn, label
from graphkd.typing import Float, Int, Tensor

_CLASSES = 30  # that have a bar
_COLUMNS = 8  # of thumbnails


@drawn
def draw_class_bars(rows: Sequence[Mapping[str, Any]]) -> Any:
    """How often teacher and student guess each class, and the share of the teacher's images on which both agree.

    Args:
        rows: of :func:`graphkd.pictures.facts.class_agreement`; of many classes, those whose counts differ most are
            drawn.

    Returns: a ``matplotlib.figure.Figure`` of two panels.
    Raises: MissingFeatureError where there is no class.
    Example: ``draw_class_bars(class_agreement(quality.pairs, quality.teacher.classes, names))``
    """
    if not rows:
        raise MissingFeatureError("there is no class to draw")
    shown = sorted(rows, key=lambda row: -abs(row["teacher"] - row["student"]))[:_CLASSES]
    shown = sorted(shown, key=lambda row: (-row["teacher"], -row["student"]))
    at, height = list(range(len(shown))), 1.6 + 0.34 * len(shown)
    figure, (counts, shares) = canvas(9.5, max(height, 3), 1, 2, sharey=True, width_ratios=(3, 2))
    for name, colour, shift in (("teacher", TEACHER, -0.2), ("student", STUDENT, 0.2)):
        places, lengths = [place + shift for place in at], [row[name] for row in shown]
        counts.barh(places, lengths, height=0.38, color=colour, label=name)
    of = "" if len(shown) == len(rows) else f": the {len(shown)} of {len(rows)} classes that differ most"
    counts.set(title=f"Guesses by class{of}", xlabel="images")
    counts.set_yticks(at, [label(row["class"]) for row in shown])
    counts.invert_yaxis()
    counts.xaxis.get_major_locator().set_params(integer=True)
    figure.legend(*counts.get_legend_handles_labels(), loc="outside upper left", ncols=2)
    known = [
        (place, 100 * row["agreement"]) for place, row in zip(at, shown, strict=True) if row["agreement"] is not None
    ]
    shares.barh([place for place, _ in known], [share for _, share in known], height=0.6, color=NEUTRAL)
    for place, share in known:
        shares.text(102, place, f"{share:.0f}", va="center", fontsize=9)
    shares.set(title="Agreement", xlabel="share of the teacher's images (%)", xlim=(0, 115), xticks=range(0, 101, 25))
    for axis in (counts, shares):
        axis.grid(axis="x", alpha=0.3)
        axis.set_axisbelow(True)
    return figure


@drawn
def draw_reliability(bins: Float[Tensor, "3 m"]) -> Any:
    """How often the student agrees with its teacher when it is so sure; on the diagonal it is as sure as it is right.

    Args:
        bins: by bin of confidence: images, sum of confidences, images that both guess the same; see
            :class:`graphkd.training.quality.Quality`.

    Shapes: (3, m).
    Returns: a ``matplotlib.figure.Figure`` of two panels: agreement, and how many images are so sure.
    Raises: ShapeError for another shape, MissingFeatureError without an image.
    Example: ``draw_reliability(quality.reliability)``
    """
    if bins.ndim != 2 or len(bins) != 3:
        raise ShapeError(f"expected bins (3, m), found {tuple(bins.shape)}")
    images, confidence, agrees = bins.double().cpu()
    total, seen = float(images.sum()), images > 0
    if total == 0:
        raise MissingFeatureError("there is no image to draw")
    width = 100 / len(images)
    edges = [width * place for place in range(len(images))]
    figure, (axis, below) = canvas(5.2, 5.6, 2, 1, sharex=True, height_ratios=(3, 1))
    heights = 100 * torch.where(seen, agrees / images.clamp(min=1), 0)
    axis.bar(edges, heights.tolist(), width=width, align="edge", color=STUDENT, edgecolor="white", alpha=0.85)
    sure = (100 * confidence[seen] / images[seen]).tolist()
    axis.plot(sure, heights[seen].tolist(), "o", color="black", markersize=3, label="mean confidence of the bin")
    axis.plot([0, 100], [0, 100], "--", color="black", linewidth=1, label="as sure as it agrees")
    error = 100 * float((confidence - agrees).abs().sum()) / total
    axis.set(title=f"Reliability: calibration error {error:.1f} %", ylabel="agrees with the teacher (%)", ylim=(0, 104))
    figure.legend(*axis.get_legend_handles_labels(), loc="outside lower center", ncols=2, fontsize=9)
    below.bar(edges, (100 * images / total).tolist(), width=width, align="edge", color=NEUTRAL, edgecolor="white")
    below.set(xlabel="student's confidence (%)", ylabel="images (%)", xlim=(0, 100))
    for each in (axis, below):
        each.grid(alpha=0.3)
        each.set_axisbelow(True)
    return figure


@drawn
def draw_guesses(
    images: Int[Tensor, "n 3 h w"],
    student: Sequence[tuple[int, float]],
    teacher: Sequence[tuple[int, float]],
    classes: Sequence[str] | None = None,
) -> Any:
    """Images with both guesses below them, the teacher's first, and how sure each network is.

    Args:
        images: uint8.
        student, teacher: class and confidence in [0, 1], of each image.
        classes: names by number.

    Returns: a ``matplotlib.figure.Figure``.
    Raises: MissingFeatureError without an image, ShapeError where there is not one guess each.
    Example: ``draw_guesses(thumbnails[:2], [(0, 0.9), (1, 0.6)], [(1, 0.8), (1, 0.7)], names)``
    """
    if not len(images):
        raise MissingFeatureError("there is no image to draw")
    if not len(images) == len(student) == len(teacher):
        raise ShapeError(f"{len(images)} images, {len(student)} and {len(teacher)} guesses: each image needs both")
    columns = min(_COLUMNS, max(len(images), 4))
    rows = -(-len(images) // columns)
    figure, axes = canvas(1.45 * columns, 0.3 + 1.95 * rows, rows, columns)
    for axis in axes[len(images) :]:
        axis.set_visible(False)
    for axis, image, ours, theirs in zip(axes, images, student, teacher, strict=False):
        axis.imshow(image.cpu().permute(1, 2, 0).numpy(), interpolation="nearest")
        axis.set(xticks=[], yticks=[])
        axis.spines[:].set_visible(False)
        axis.set_title(_guess(theirs, classes), fontsize=8, color=TEACHER, pad=3)
        axis.set_xlabel(_guess(ours, classes), fontsize=8, color=STUDENT, labelpad=3)
    figure.suptitle("above: the teacher's guess and its confidence (%); below: the student's", fontsize=9)
    return figure


def _guess(guess: tuple[int, float], classes: Sequence[str] | None) -> str:
    number, confidence = guess
    return f"{label(classes[number] if classes else number, 14)} {100 * confidence:.0f}"
