r"""Quality without labels: how far a student says what its teacher says, of images that were not trained on."""

from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import closing
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeAlias

import torch

from graphkd.data.views import Batch, Views
from graphkd.errors import MissingFeatureError, NonFiniteError, ShapeError
from graphkd.features import Features
from graphkd.training.embedding_quality import EmbeddingQuality, compare_embeddings
from graphkd.training.metrics import Counts, Scores, class_scores, evaluate
from graphkd.typing import Float, Int, Tensor

_BINS = 15  # of confidence
_COLLAPSED = 0.5  # share of the teacher's classes in effect
_UNSURE = 0.05  # of the way from chance to certainty


@dataclass(frozen=True)
class Answers:
    """What a network says of each image, in short: two of them are all that a comparison needs.

    Args:
        guess: class with the highest score.
        confidence: its probability, the highest of the softmax.
        entropy: of the class probabilities, nats.
        classes: how many there are.

    Shapes: guess, confidence and entropy (n,).
    Example: ``Answers.of(torch.tensor([[0.0, 2.0]])).guess`` is ``[1]``
    """

    guess: Int[Tensor, " n"]
    confidence: Float[Tensor, " n"]
    entropy: Float[Tensor, " n"]
    classes: int

    @classmethod
    def of(cls, logits: Float[Tensor, "n c"]) -> "Answers":
        """The answers that class scores hold. Raises: ShapeError, MissingFeatureError, NonFiniteError."""
        asked = Answering(len(logits), logits.device)
        asked.add(torch.arange(len(logits)), logits)
        return asked.read()

    def __len__(self) -> int:
        return len(self.guess)

    @property
    def histogram(self) -> Int[Tensor, " c"]:
        """Images guessed to be of each class."""
        return self.guess.bincount(minlength=self.classes)

    @property
    def effective_classes(self) -> float:
        r"""Classes in effect, :math:`\exp H(h)` of the histogram's shares h: c if all are equal, 1 if one has all."""
        shares = self.histogram.double() / len(self)
        return float(torch.special.entr(shares).sum().exp())


def collapse_warning(student: float, teacher: float, images: float) -> str:
    """A sentence about a collapse, given the classes in effect of both networks."""
    return (
        f"the student uses {student:.1f} classes in effect and its teacher {teacher:.1f} on {images:g} images: it "
        "collapses onto few classes. Try more epochs, a lower lr, or warmup_epochs"
    )


def unsure_warning(confidence: float, classes: float) -> str | None:
    """A sentence about a teacher that hardly knows the images, ``None`` for one that does.

    Args:
        confidence: its mean confidence.
        classes: how many there are; chance is 1 in so many.
    """
    chance = 1 / classes
    if confidence >= chance + _UNSURE * (1 - chance):
        return None
    return (
        f"the teacher's mean confidence is {100 * confidence:.1f} %, and chance of {classes:g} classes "
        f"{100 * chance:.1f} %: the teacher is hardly surer than chance. Check its weights, class names and prompts"
    )


class Answering:
    """Answers by position in the data set, taken down batch by batch, without a host sync until :meth:`read`.

    Args:
        count: images in all.
        device: where the class scores are.
    """

    def __init__(self, count: int, device: torch.device | str = "cpu") -> None:
        self.rows = torch.zeros(count, 4, device=device)  # guess, confidence, entropy, how often told
        self.classes: int | None = None

    def add(self, index: Int[Tensor, " b"], logits: Float[Tensor, "b c"]) -> None:
        """Take down one batch. Raises: ShapeError for class scores of another shape."""
        classes = logits.shape[-1] if self.classes is None else self.classes
        if logits.shape != (len(index), classes):
            raise ShapeError(f"expected logits ({len(index)}, {classes}), found {tuple(logits.shape)}")
        self.classes, scores = classes, logits.detach().float().log_softmax(1)
        highest, guess = scores.max(1)
        entropy = -(scores.exp() * scores).sum(1)
        row = torch.stack([guess.float(), highest.exp(), entropy, torch.ones_like(highest)], 1)
        self.rows[index.to(self.rows.device)] = row.to(self.rows)

    def read(self, total: Callable[[Tensor], Any] | None = None) -> Answers:
        """The answers, on the host.

        Args:
            total: sums a tensor over processes, where each has seen some of the images.

        Raises: MissingFeatureError if an image was not asked about, NonFiniteError for NaN and infinite scores.
        """
        rows = (self.rows if total is None else total(self.rows)).cpu()
        seen = int((rows[:, 3] == 1).sum())
        if self.classes is None or seen < len(rows):
            raise MissingFeatureError(f"{seen} of {len(rows)} images were asked about once: ask about each of them")
        if broken := int((~rows.isfinite()).any(1).sum()):
            raise NonFiniteError(f"{broken} of {len(rows)} rows of logits are not finite: the network is damaged")
        return Answers(rows[:, 0].long(), rows[:, 1], rows[:, 2], self.classes)


@torch.no_grad()
def ask(
    network: Callable[[Batch], Features | Float[Tensor, "b c"]], views: Views, batch_size: int = 256, workers: int = 0
) -> Answers:
    """Ask a teacher about every image once.

    Args:
        network: from a batch to features with class scores, or to class scores.
        views: plain views, without augmentation.
        batch_size: images per question.
        workers: processes that load images.

    Raises: MissingFeatureError for features without class scores; NonFiniteError.
    Example: ``ask(lambda batch: teacher(batch.teacher), held_out)``, or ``lambda batch: store[batch.index]``
    """
    asked: Answering | None = None
    for batch in views.loader(batch_size, shuffle=False, drop_last=False, workers=workers):
        said = network(batch)
        logits = said.tensor("logits", "a comparison") if isinstance(said, Features) else said
        asked = asked or Answering(len(views), logits.device)
        asked.add(batch.index, logits)
    assert asked is not None  # no views are empty
    return asked.read()


@dataclass(frozen=True)
class Quality:
    r"""A student compared with its teacher on the same n images. No label is read: the teacher's guess stands for it.

    .. math:: \text{agreement} = \frac1n \sum_i [g^s_i = g^t_i], \qquad
        \text{calibration error} = \sum_m \frac{|B_m|}{n}\, |\text{agreement}(B_m) - \text{confidence}(B_m)|

    B_m are the images whose highest student probability lies in the m-th of 15 equal bins.

    Paper: Stanton et al., "Does Knowledge Distillation Really Work?", NeurIPS 2021 (agreement); Guo et al., "On
    Calibration of Modern Neural Networks", ICML 2017, eq. 3, with the agreement as accuracy (calibration error); Hill,
    "Diversity and Evenness", Ecology 54, 1973, the number of order 1 (classes in effect).

    Args:
        student, teacher: what they say.

    Raises: ShapeError for other images or classes.
    Example: ``Quality(Answers.of(student_logits), Answers.of(teacher_logits)).agreement``
    """

    student: Answers
    teacher: Answers

    def __post_init__(self) -> None:
        sizes = [(len(each), each.classes) for each in (self.student, self.teacher)]
        if sizes[0] != sizes[1]:
            said = [f"of {images} images and {classes} classes" for images, classes in sizes]
            raise ShapeError(f"the student answers {said[0]}, the teacher {said[1]}: both need the same ones")

    @property
    def images(self) -> int:
        """How many were compared."""
        return len(self.student)

    @cached_property
    def agrees(self) -> Tensor:
        """Whether both guess the same, of each image."""
        return self.student.guess == self.teacher.guess

    @property
    def agreement(self) -> float:
        """Share of images of which both guess the same class, in [0, 1]."""
        return float(self.agrees.double().mean())

    @cached_property
    def reliability(self) -> Float[Tensor, "3 m"]:
        """By bin of the student's confidence: images, sum of confidences, images that both guess the same."""
        confidence = self.student.confidence.double()
        place = (confidence * _BINS).long().clamp(max=_BINS - 1)
        seen = torch.stack([torch.ones_like(confidence), confidence, self.agrees.double()])
        return torch.zeros(3, _BINS, dtype=torch.float64).scatter_add_(1, place.expand(3, -1), seen)

    @property
    def calibration_error(self) -> float:
        """Gap between the student's confidence and the agreement (ECE), in [0, 1]."""
        _, confidence, agrees = self.reliability
        return float((confidence - agrees).abs().sum() / self.images)

    @property
    def pairs(self) -> list[tuple[int, int, int]]:
        """Teacher's guess, student's guess, and of how many images: the pairs that occur."""
        counted = Counter(zip(self.teacher.guess.tolist(), self.student.guess.tolist(), strict=True))
        return [(teacher, student, count) for (teacher, student), count in sorted(counted.items())]

    @property
    def collapsed(self) -> bool:
        """Whether the student has collapsed onto few classes: its classes in effect are below half of the teacher's."""
        return self.student.effective_classes < _COLLAPSED * self.teacher.effective_classes

    @property
    def warning(self) -> str:
        """A sentence about a collapse."""
        return collapse_warning(self.student.effective_classes, self.teacher.effective_classes, self.images)

    def numbers(self) -> dict[str, float]:
        """The scalars, for a log."""
        sides = {"student": self.student, "teacher": self.teacher}
        found = {"agreement": self.agreement, "calibration_to_teacher": self.calibration_error}
        found |= {f"{name}_confidence": float(each.confidence.double().mean()) for name, each in sides.items()}
        found |= {f"{name}_entropy": float(each.entropy.double().mean()) for name, each in sides.items()}
        return found | {f"{name}_classes": each.effective_classes for name, each in sides.items()}

    def disagreed(self, count: int) -> list[int]:
        """Positions of images with two guesses, first those of which the less sure network is surest."""
        sure = torch.minimum(self.student.confidence, self.teacher.confidence).masked_fill(self.agrees, -1)
        order = sure.argsort(descending=True, stable=True)
        return order[: min(count, int((~self.agrees).sum()))].tolist()

    def least_certain(self, count: int) -> list[int]:
        """Positions of the images of which the student is least sure."""
        return self.student.confidence.argsort(stable=True)[:count].tolist()


AnyQuality: TypeAlias = Quality | EmbeddingQuality
"""A student beside its teacher: by class scores, or of a backbone without classes by embeddings."""


def replies(
    model: Callable[[Tensor], Any],
    loader: Iterable[Batch],
    count: int,
    device: torch.device | str = "cpu",
    total: Callable[[Tensor], Any] | None = None,
) -> tuple[Scores | None, Answers]:
    """What a student says of images, and its scores where they have labels, in one pass.

    Args:
        model: a module is asked in eval mode and given back in the mode it had.
        loader: batches of all the images.
        count: how many images there are.
        device: where the model is.
        total: sums a tensor over processes, for a loader that is split among them.

    Raises: as :func:`graphkd.training.metrics.evaluate`, but for labels that are absent.
    Example: ``scores, answers = replies(student, held_out.loader(256, shuffle=False, drop_last=False), len(held_out))``
    """
    counts, asked = None, Answering(count, device)
    with closing(class_scores(model, loader, device)) as found:
        for batch, logits in found:
            asked.add(batch.index, logits)
            if batch.target is not None:
                counts = counts or Counts(logits.shape[1], logits.device)
                counts.update(logits, batch.target)
    if counts is not None and total is not None:
        counts.reduce(total)
    return None if counts is None else counts.scores(), asked.read(total)


def assess(
    model: Callable[[Tensor], Any],
    loader: Iterable[Batch],
    answers: Answers | Float[Tensor, "n d"] | None,
    device: torch.device | str = "cpu",
    total: Callable[[Tensor], Any] | None = None,
) -> tuple[Scores | None, AnyQuality | None]:
    """Score a student in one pass: by labels where the batches have some, by the teacher's answers where there are any.

    Args:
        answers: the teacher's, by position; its embeddings where the student is a backbone without classes.
        model, loader, device, total: as for :func:`replies`.

    Raises: as :func:`graphkd.training.metrics.evaluate`; ShapeError for a student of other classes than the teacher's.
    Example: ``scores, quality = assess(student, held_out.loader(256, shuffle=False, drop_last=False), answers)``
    """
    if answers is None:
        return evaluate(model, loader, device, total), None
    if isinstance(answers, Tensor):
        return None, compare_embeddings(model, loader, answers, device, total)
    scores, own = replies(model, loader, len(answers), device, total)
    return scores, Quality(own, answers)
