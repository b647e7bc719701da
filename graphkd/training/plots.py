"""Pictures of a run: curves, edge matrices of both networks, confusion."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from graphkd.errors import ShapeError
from graphkd.training.record import read_metrics
from graphkd.typing import Float, Int, Tensor

_OTHERS = {"update", "epoch", "loss", "gradient", "skipped", "lr", "images_per_second"}
_SCORES = {"top1": "top-1", "top5": "top-5"}
_NAMED, _SHOWN = 40, 16  # classes up to which every one is named, and counts are written into the cells


def _figure(width: float, height: float, columns: int = 1) -> Any:
    """A figure of its own canvas: no global state of pyplot, no display."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=130, layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.subplots(1, columns, squeeze=False)[0]


def _save(figure: Any, path: Path | str) -> Path:
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)
    return path


def _name_classes(axis: Any, classes: Sequence[str]) -> None:
    if len(classes) <= _NAMED:
        size = 9 if len(classes) <= _SHOWN else 6
        slanted = max(map(len, classes), default=0) > 3
        axis.set_xticks(range(len(classes)), classes, rotation=60 if slanted else 0, fontsize=size)
        if slanted:
            for label in axis.get_xticklabels():
                label.set(ha="right", rotation_mode="anchor")


def plot_curves(metrics: Path | str, path: Path | str, teacher: float | None = None) -> Path:
    """Loss terms and accuracy over the epochs of a run.

    Args:
        metrics: the run's ``metrics.jsonl``.
        path: the PNG.
        teacher: the teacher's top-1 as a fraction, drawn as a line to reach.
    """
    lines = read_metrics(Path(metrics))
    losses = [line for line in lines if "loss" in line]
    scores = [line for line in lines if "top1" in line]
    terms = sorted({name for line in losses for name in line} - _OTHERS)
    figure, (left, *right) = _figure(11 if scores else 6, 4, 2 if scores else 1)
    for name in ["loss", *terms] if len(terms) > 1 else terms:
        at = [line["epoch"] for line in losses if name in line]
        values = [line[name] for line in losses if name in line]
        style = {"color": "black", "linewidth": 2, "label": "total"} if name == "loss" else {"label": name}
        left.plot(at, values, **style)
    left.set(title="Training loss", xlabel="epoch", ylabel="loss (weights inside)")
    left.legend()
    for axis in right:
        for key, label in _SCORES.items():
            at = [line["epoch"] for line in scores if key in line]
            if at:
                axis.plot(
                    at, [100 * line[key] for line in scores if key in line], marker="o", markersize=3, label=label
                )
        if teacher is not None:
            axis.axhline(100 * teacher, color="grey", linestyle="--", label="teacher, top-1")
        axis.set(title="Accuracy on held-out images", xlabel="epoch", ylabel="accuracy (%)")
        axis.legend(loc="lower right")
    for axis in (left, *right):
        axis.grid(alpha=0.3)
    return _save(figure, path)


def plot_edges(
    teacher: Float[Tensor, "b c"],
    student: Float[Tensor, "b c"],
    labels: Int[Tensor, " b"],
    classes: Sequence[str],
    path: Path | str,
    relation: str = "correlation",
) -> Path:
    """Sample-proxy edges of both networks side by side, samples ordered by class, on one colour scale.

    Args:
        teacher, student: edges between b samples and c proxies.
        labels: class of each sample, true or the teacher's guess; only the order of the rows depends on it.
        classes: c names.
        path: the PNG.
        relation: what an edge is, for the colour bar.

    Raises: ShapeError if the two matrices differ in shape.
    """
    if teacher.shape != student.shape:
        raise ShapeError(
            f"teacher edges {tuple(teacher.shape)} and student edges {tuple(student.shape)} differ: "
            "both need the same samples and classes"
        )
    labels = labels.cpu()
    order = labels.argsort(stable=True)
    sides = [side.detach().float().cpu()[order] for side in (teacher, student)]
    low, high = min(float(s.min()) for s in sides), max(float(s.max()) for s in sides)
    figure, axes = _figure(11, 6, 2)
    starts = (labels[order].diff() != 0).nonzero().flatten() + 0.5
    for axis, side, title in zip(axes, sides, ("Teacher", "Student"), strict=True):
        image = axis.imshow(side.numpy(), aspect="auto", interpolation="nearest", vmin=low, vmax=high, cmap="viridis")
        if len(classes) <= _NAMED:
            axis.hlines(starts.tolist(), -0.5, len(classes) - 0.5, color="white", linewidth=0.5, alpha=0.6)
        _name_classes(axis, classes)
        axis.set(title=f"{title}: sample-proxy edges", xlabel="proxy (class)")
    present, middle = _middles(labels[order])
    if len(classes) <= _NAMED:
        axes[0].set_yticks(middle, [classes[label] for label in present], fontsize=9 if len(classes) <= _SHOWN else 6)
    axes[0].set_ylabel(f"{len(labels)} samples, ordered by class")
    axes[1].set_yticks([])
    figure.colorbar(image, ax=list(axes), label=relation, shrink=0.9)
    return _save(figure, path)


def _middles(ordered: Int[Tensor, " b"]) -> tuple[list[int], list[float]]:
    """Classes that occur, and the middle row of each."""
    present, counts = torch.unique_consecutive(ordered, return_counts=True)
    middle = counts.cumsum(0) - counts / 2 - 0.5
    return present.tolist(), middle.tolist()


def plot_confusion(confusion: Int[Tensor, "c c"], classes: Sequence[str], path: Path | str) -> Path:
    """Share of each true class that is taken for each class, counts written in where there is room.

    Args:
        confusion: counts, row = label, column = prediction; see :class:`graphkd.training.metrics.Scores`.
    """
    from matplotlib.colors import PowerNorm

    counts = confusion.cpu()
    shares = 100 * counts / counts.sum(1, keepdim=True).clamp(min=1)
    side = 7.0 if len(classes) <= _SHOWN else 9.0
    figure, (axis,) = _figure(side + 1, side)
    scale = PowerNorm(0.5, vmin=0, vmax=100)  # rare confusions stay visible
    image = axis.imshow(shares.numpy(), norm=scale, cmap="Blues", interpolation="nearest")
    if len(classes) <= _SHOWN:
        for row, column in (counts > 0).nonzero().tolist():
            colour = "white" if shares[row, column] > 30 else "black"
            axis.text(column, row, int(counts[row, column]), ha="center", va="center", color=colour, fontsize=9)
    _name_classes(axis, classes)
    if len(classes) <= _NAMED:
        axis.set_yticks(range(len(classes)), classes, fontsize=9 if len(classes) <= _SHOWN else 6)
    right = int(counts.diag().sum())
    axis.set(title=f"Confusion: {right} of {int(counts.sum())} right", xlabel="predicted class", ylabel="true class")
    figure.colorbar(image, ax=axis, label="share of the true class (%)", shrink=0.8)
    return _save(figure, path)
