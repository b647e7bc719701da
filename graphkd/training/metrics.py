"""Accuracy, confusion and calibration, counted on the device; training mode is given back afterwards."""

from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from graphkd.data.views import Batch
from graphkd.errors import MissingFeatureError, NonFiniteError, ShapeError
from graphkd.features import Features
from graphkd.typing import Float, Int, Tensor


@dataclass(frozen=True)
class Scores:
    """What a network scores on labelled images; fractions in [0, 1].

    Args:
        top1: fraction with the right class first.
        top5: fraction with the right class among the first five; ``None`` where there are fewer than six classes.
        mean_class: mean over the classes that occur of the fraction right.
        calibration_error: gap between confidence and accuracy (ECE, 15 bins), weighted by count.
        images: how many were scored.
        confusion: counts, row = label, column = prediction.
    """

    top1: float
    top5: float | None
    mean_class: float
    calibration_error: float
    images: int
    confusion: Int[Tensor, "c c"]

    def numbers(self) -> dict[str, float]:
        """The scalar ones, for a log."""
        found = {"top1": self.top1, "mean_class": self.mean_class, "calibration_error": self.calibration_error}
        return found if self.top5 is None else {**found, "top5": self.top5}


class Counts:
    """Running counts of one scoring, without a host sync until :meth:`scores`.

    Args:
        classes: number of logits.
        bins: bins of confidence for the calibration error.
    """

    def __init__(self, classes: int, device: torch.device | str = "cpu", bins: int = 15) -> None:
        self.classes, self.bins = classes, bins
        self.confusion = torch.zeros(classes * classes, dtype=torch.int64, device=device)
        self.in_five = torch.zeros((), dtype=torch.int64, device=device)
        self.broken = torch.zeros((), dtype=torch.int64, device=device)
        exact = torch.float32 if torch.device(device).type == "mps" else torch.float64  # which mps lacks
        self.bin = torch.zeros(3, bins, dtype=exact, device=device)  # count, confidence, hits

    def update(self, logits: Float[Tensor, "b c"], target: Int[Tensor, " b"]) -> None:
        """Count one batch.

        Args:
            target: best on the host, where their range is looked at.

        Raises: ShapeError if logits and labels do not fit.
        """
        if logits.ndim != 2 or logits.shape[1] != self.classes or len(logits) != len(target):
            raise ShapeError(
                f"expected logits ({len(target)}, {self.classes}) for {len(target)} labels, found {tuple(logits.shape)}"
            )
        if not 0 <= int(target.min()) <= int(target.max()) < self.classes:
            raise ShapeError(
                f"labels {int(target.min())} to {int(target.max())} do not fit {self.classes} logits: "
                "do the class names of the network belong to these images?"
            )
        logits, target = logits.float(), target.to(logits.device)
        self.broken += (~logits.isfinite()).any(1).sum()
        confidence, guess = logits.softmax(1).max(1)
        hit = guess == target
        self.confusion.scatter_add_(0, target * self.classes + guess, torch.ones_like(guess))
        first = logits.topk(min(5, self.classes), dim=1).indices
        self.in_five += (first == target[:, None]).any(1).sum()
        place = (confidence.nan_to_num(0) * self.bins).long().clamp_(max=self.bins - 1)
        seen = torch.stack([torch.ones_like(confidence), confidence, hit.to(confidence)]).to(self.bin)
        self.bin.scatter_add_(1, place.expand(3, -1), seen)

    def reduce(self, total: Callable[[Tensor], Any]) -> None:
        """Sum the counts of all processes."""
        for name in ("confusion", "in_five", "broken", "bin"):
            setattr(self, name, total(getattr(self, name)))

    def scores(self) -> Scores:
        """Read the counts.

        Raises: MissingFeatureError if nothing was counted; NonFiniteError if any row of logits was NaN or infinite.
        """
        confusion = self.confusion.view(self.classes, self.classes).cpu()
        images, broken = int(confusion.sum()), int(self.broken)
        if images == 0:
            raise MissingFeatureError("nothing was scored: the loader of labelled images is empty")
        if broken:
            raise NonFiniteError(f"{broken} of {images} rows of logits are not finite: the network is damaged")
        occurs = confusion.sum(1) > 0
        right = confusion.diag()
        count, confidence, hits = self.bin.cpu()
        return Scores(
            top1=int(right.sum()) / images,
            top5=int(self.in_five) / images if self.classes > 5 else None,
            mean_class=float((right[occurs] / confusion.sum(1)[occurs]).mean()),
            calibration_error=float((confidence - hits).abs().sum() / count.sum()),
            images=images,
            confusion=confusion,
        )


@contextmanager
def evaluating(model: Any) -> Iterator[None]:
    """Eval mode inside; afterwards each part is back in the mode it had (frozen parts stay frozen)."""
    modes = {part: part.training for part in model.modules()} if isinstance(model, nn.Module) else {}
    for part in modes:
        part.training = False
    try:
        yield
    finally:
        for part, mode in modes.items():
            part.training = mode


@torch.no_grad()
def class_scores(
    model: Callable[[Tensor], Any], loader: Iterable[Batch], device: torch.device | str = "cpu"
) -> Generator[tuple[Batch, Float[Tensor, "b c"]], None, None]:
    """Each batch and the class scores of its images: the one loop of scoring and predicting.

    Args:
        model: from images to Features or logits; a module is in eval mode inside and given back in the mode it had.
        loader: batches, with labels or without.
        device: where the model is.

    Shapes: images (b, 3, h, w) -> logits (b, c).

    Raises: MissingFeatureError without logits.

    Example: ``guesses = [logits.argmax(1) for _, logits in class_scores(student, loader)]``
    """
    with evaluating(model):
        for batch in loader:
            output = model(batch.to(device).student)
            yield batch, output.tensor("logits", "scoring") if isinstance(output, Features) else output


@torch.no_grad()
def evaluate(
    model: Callable[[Tensor], Any],
    loader: Iterable[Batch],
    device: torch.device | str = "cpu",
    total: Callable[[Tensor], Any] | None = None,
) -> Scores:
    """Score a student (or any callable from images to Features or logits) on labelled batches.

    Args:
        model: a module is scored in eval mode and given back in the mode it had.
        loader: batches of ``Views(..., labels=True)``; the last one may be smaller.
        device: where the model is.
        total: sums a tensor over processes, for a loader that is split among them.

    Shapes: images (b, 3, h, w) -> logits (b, c), labels (b,).

    Raises: MissingFeatureError without labels or logits; NonFiniteError if logits are NaN or infinite.

    Example: ``evaluate(student, loader).top1``
    """
    counts: Counts | None = None
    with closing(class_scores(model, loader, device)) as found:  # an error, too, gives back the mode at once
        for batch, logits in found:
            if batch.target is None:  # labels are looked at where they are: no wait for the device
                raise MissingFeatureError("scoring needs labels, and these batches have none: Views(..., labels=True)")
            counts = counts or Counts(logits.shape[1], logits.device)
            counts.update(logits, batch.target)
    if counts is None:
        raise MissingFeatureError("nothing was scored: the loader of labelled images is empty")
    if total is not None:
        counts.reduce(total)
    return counts.scores()
