r"""Class dropping: which classes of a sample the teacher is believed on, and the KD loss over those only.

On images from another domain the tail of the teacher's probabilities is noise. Each part here chooses the kept classes
:math:`K_i` of sample i from the teacher's logits and gives, for each sample,

.. math:: l_i = T^2\, \mathrm{KL}\big(\mathrm{softmax}_{K_i}(z^T_i / T) \,\|\, \mathrm{softmax}_{K_i}(z^S_i / T)\big)

The teacher's best class is always kept, equal logits are ranked by class index, and a class outside :math:`K_i` gets a
gradient of exactly 0 (but for ``teacher_only``).
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import NamedTuple, final

import torch
from torch import nn

from graphkd import ops
from graphkd.checks import same_logits, same_shape, tensor_loss
from graphkd.distillers.base import mean_over_batch
from graphkd.errors import MissingFeatureError, OptionError, ShapeError
from graphkd.ops import expectation
from graphkd.registry import Registry
from graphkd.typing import Bool, Float, Int, Tensor

_BITS = 0xFFFFFFFF


@tensor_loss
def class_dropped_kd(
    student_logits: Float[Tensor, "b c"],
    teacher_logits: Float[Tensor, "b c"],
    kept: Bool[Tensor, "b c"],
    temperature: float = 4.0,
    student_keeps_all: bool = False,
) -> Float[Tensor, ""]:
    r"""KD over the kept classes of each sample only; with all classes kept it is :func:`kd`.

    .. math:: L = \frac{T^2}{N} \sum_i \mathrm{KL}(\mathrm{softmax}_{K_i}(z^T_i / T) \,\|\,
              \mathrm{softmax}_{K_i}(z^S_i / T))

    EIKD-style: reconstructed from the abstract and the DFND protocol; not a reproduction.
    Args:
        student_logits, teacher_logits: over the same classes.
        kept: the classes :math:`K_i`, from :func:`top_classes`, :func:`mass_classes`, :func:`dataset_classes` or
            :func:`random_classes`; a sample that keeps none leaves the mean.
        temperature: T > 0; default 4.
        student_keeps_all: the student's softmax runs over all classes (reading ``teacher_only``); default no.
    Shapes: (b, c) three times -> scalar; 0, with a gradient of 0, when no sample keeps a class.
    Raises: ShapeError for other classes, samples or mask; OptionError for a temperature <= 0.
    Example: ``class_dropped_kd(z, z, top_classes(z, 2))`` is 0.
    """
    parts = class_dropped_parts(student_logits, teacher_logits, kept, temperature, student_keeps_all)
    return mean_over_batch(*parts)


def class_dropped_parts(
    student_logits: Float[Tensor, "b c"],
    teacher_logits: Float[Tensor, "b c"],
    kept: Bool[Tensor, "b c"],
    temperature: float = 4.0,
    student_keeps_all: bool = False,
) -> tuple[Float[Tensor, " b"], Float[Tensor, " b"]]:
    """Loss of each sample, and 1 for each that counts (0 for one without a class), in the precision given."""
    same_logits(student_logits, teacher_logits)
    same_shape(kept, teacher_logits, "mask", "give one truth value for each logit")
    ops.positive_temperature(temperature)
    kept = kept & (teacher_logits != float("-inf"))  # a class that the teacher masks counts nothing
    used = kept.any(-1)
    kept = kept | ~used.unsqueeze(-1)  # a sample without classes is computed over all, then multiplied by 0
    hidden = torch.where(kept, 0.0, float("-inf"))
    log_t = (teacher_logits / temperature + hidden).log_softmax(-1)
    log_s = (student_logits / temperature + (0.0 if student_keeps_all else hidden)).log_softmax(-1)
    weight = used.to(log_t.dtype)
    return temperature**2 * weight * expectation(log_t.exp(), log_t - log_s), weight


def top_classes(teacher_logits: Float[Tensor, "b c"], k: int) -> Bool[Tensor, "b c"]:
    """The k best classes of each sample; equal logits are taken in class order.

    Raises: OptionError for k < 1.
    """
    if k < 1:
        raise OptionError(f"at least 1 class is kept, k = {k} was asked for")
    return _rank(teacher_logits) < k


def mass_classes(teacher_logits: Float[Tensor, "b c"], share: float, temperature: float = 4.0) -> Bool[Tensor, "b c"]:
    """The smallest set of best classes whose probabilities reach ``share``; the best is always kept.

    Args:
        teacher_logits: of each sample.
        share: in (0, 1].
        temperature: of the softmax, > 0; default 4, that of :func:`class_dropped_kd`.
    Raises: OptionError for a share outside (0, 1], or a temperature <= 0.
    """
    if not 0 < share <= 1:
        raise OptionError(f"the share of probability is in (0, 1], found {share}")
    ops.positive_temperature(temperature)
    if share == 1:
        return torch.ones_like(teacher_logits, dtype=torch.bool)
    logits = teacher_logits.detach().to(torch.promote_types(teacher_logits.dtype, torch.float32))
    probabilities = (logits / temperature).softmax(-1)
    ranked, order = probabilities.sort(dim=-1, descending=True, stable=True)
    before = ranked.cumsum(-1) - ranked  # what better classes hold
    return torch.zeros_like(before, dtype=torch.bool).scatter(-1, order, before < share)


def dataset_classes(teacher_logits: Float[Tensor, "b c"], classes: Bool[Tensor, " c"]) -> Bool[Tensor, "b c"]:
    """The classes of a whole data set that are kept; a sample whose best class is dropped keeps none.

    Raises: ShapeError for other classes.
    """
    same_shape(classes, teacher_logits[0], "classes", "give one truth value for each class")
    return classes & classes[teacher_logits.argmax(-1)].unsqueeze(-1)


def random_classes(
    teacher_logits: Float[Tensor, "b c"], rate: float, generator: torch.Generator | None = None
) -> Bool[Tensor, "b c"]:
    """Every class but the best is dropped with probability ``rate``.

    Raises: OptionError for a rate outside [0, 1].
    """
    if not 0 <= rate <= 1:
        raise OptionError(f"the rate of dropping is in [0, 1], found {rate}")
    chance = torch.rand(teacher_logits.shape, generator=generator, device=teacher_logits.device)
    return (chance >= rate) | (_rank(teacher_logits) == 0)


def _rank(logits: Tensor) -> Tensor:
    """Place of each class, 0 the best; equal logits in class order."""
    return logits.detach().argsort(dim=-1, descending=True, stable=True).argsort(-1)


class Dropped(NamedTuple):
    """Loss of each sample, whether it counts (1 or 0), and how many classes it kept."""

    losses: Float[Tensor, " b"]
    counted: Float[Tensor, " b"]
    classes: Int[Tensor, " b"]


class ClassDropping(nn.Module, ABC):
    """One way to choose the kept classes. Shapes: logits (b, c) twice, rows (b,) -> one loss for each sample.

    ``needs_index``: samples' positions in the data set are needed; ``student_keeps_all``: its softmax has all classes.
    """

    needs_index = False
    student_keeps_all = False

    @abstractmethod
    def kept(self, teacher: Float[Tensor, "b c"], rows: Int[Tensor, " b"]) -> Bool[Tensor, "b c"]:
        """Which classes each sample keeps; none for a sample that leaves the loss.

        Args:
            teacher: logits.
            rows: what names a sample: its position in the data set, or else in the global batch.
        """

    def forward(
        self, student: Float[Tensor, "b c"], teacher: Float[Tensor, "b c"], temperature: float, rows: Int[Tensor, " b"]
    ) -> Dropped:
        """KD over the kept classes at temperature T > 0, times T^2."""
        kept = self.kept(teacher, rows)
        losses, counted = class_dropped_parts(student, teacher, kept, temperature, self.student_keeps_all)
        return Dropped(losses, counted, kept.sum(-1))

    def advance(self) -> None:
        """One training step is over; a random choice draws anew."""


@final
class AllClasses(ClassDropping):
    """Nothing is dropped: plain KD."""

    def kept(self, teacher: Float[Tensor, "b c"], rows: Int[Tensor, " b"]) -> Bool[Tensor, "b c"]:
        """Every class."""
        return torch.ones_like(teacher, dtype=torch.bool)


@final
class TopK(ClassDropping):
    """The k best classes of each sample, gathered: no masked logit exists that could make a NaN.

    Args: k: classes kept, >= 1; all of them where there are fewer.
    """

    def __init__(self, k: int) -> None:
        super().__init__()
        self.k = _positive(k)

    def kept(self, teacher: Float[Tensor, "b c"], rows: Int[Tensor, " b"]) -> Bool[Tensor, "b c"]:
        """The k best classes."""
        return top_classes(teacher, self.k)

    def forward(
        self, student: Float[Tensor, "b c"], teacher: Float[Tensor, "b c"], temperature: float, rows: Int[Tensor, " b"]
    ) -> Dropped:
        """KD over the gathered classes."""
        best = top_class_indices(ops.same_width(student, teacher), self.k)
        losses = temperature**2 * ops.row_kl(student.gather(1, best), teacher.gather(1, best), temperature)
        return Dropped(losses, torch.ones_like(losses), torch.full_like(best[:, 0], best.shape[1]))


@final
class TopKOnce(ClassDropping):
    """The k best classes as they were when the sample was selected, whatever the teacher says of today's view.

    Args:
        classes: kept classes of each sample of the data set, best first, such as
            ``top_class_indices(logits_at_selection, k)``.

    Shapes: classes (n, k).
    """

    needs_index = True
    classes: Tensor

    def __init__(self, classes: Int[Tensor, "n k"]) -> None:
        super().__init__()
        if classes.ndim != 2 or classes.dtype != torch.int64 or not classes.numel():
            raise ShapeError(
                f"expected class indices (samples, k) as int64, found {tuple(classes.shape)} {classes.dtype}"
            )
        self.register_buffer("classes", classes)

    def kept(self, teacher: Float[Tensor, "b c"], rows: Int[Tensor, " b"]) -> Bool[Tensor, "b c"]:
        """The remembered classes."""
        return torch.zeros_like(teacher, dtype=torch.bool).scatter(1, self.classes[rows], True)


@final
class Mass(ClassDropping):
    r"""The smallest set of best classes with probability >= share, or every class with probability >= floor.

    Args:
        share: rho in (0, 1]; 1 keeps all. A teacher so certain that one class reaches it leaves a loss of 0.
        floor: eps in [0, 1); in place of share.
        temperature: of the softmax that gives the probabilities, > 0; default 4. It should be that of the KD term: at
            1 a certain teacher keeps a single class of most samples.
    """

    def __init__(self, share: float | None = None, floor: float | None = None, temperature: float = 4.0) -> None:
        super().__init__()
        if (share is None) == (floor is None):
            raise OptionError("Mass takes either share=... or floor=...: a cumulative probability, or one of a class")
        if not 0 < (1 if share is None else share) <= 1 or not 0 <= (floor or 0) < 1:
            raise OptionError(f"share is in (0, 1] and floor in [0, 1), found {share} and {floor}")
        self.share, self.floor, self.temperature = share, floor, ops.positive_temperature(temperature)

    def kept(self, teacher: Float[Tensor, "b c"], rows: Int[Tensor, " b"]) -> Bool[Tensor, "b c"]:
        """The classes that hold the mass, the best in any case."""
        if self.share is not None:
            return mass_classes(teacher, self.share, self.temperature)
        assert self.floor is not None
        return ((teacher.detach() / self.temperature).softmax(-1) >= self.floor) | top_classes(teacher, 1)


@final
class DatasetClasses(ClassDropping):
    """Some classes of the whole data set; a sample whose best class is not among them leaves the loss.

    Args: classes (c,): which to keep, such as ``selection.trusted_classes(min_samples=10)``.
    """

    classes: Tensor

    def __init__(self, classes: Bool[Tensor, " c"]) -> None:
        super().__init__()
        self.register_buffer("classes", classes)

    def kept(self, teacher: Float[Tensor, "b c"], rows: Int[Tensor, " b"]) -> Bool[Tensor, "b c"]:
        """The trusted classes, or none."""
        return dataset_classes(teacher, self.classes)


@final
class RandomClasses(ClassDropping):
    r"""Every class but the best is dropped with probability ``rate``, anew in each training step.

    The draw is a hash of (seed, step, sample, class): no generator object, so it compiles, resumes with its buffer, and
    does not depend on the batch's order or on the number of ranks.

    Args:
        rate: in [0, 1].
        seed: of the hash.
    """

    step: Tensor

    def __init__(self, rate: float, seed: int = 0) -> None:
        super().__init__()
        if not 0 <= rate <= 1:
            raise OptionError(f"the rate of dropping is in [0, 1], found {rate}")
        self.rate, self._key = rate, (seed * 0x9E3779B97F4A7C15 >> 32) & _BITS
        self.register_buffer("step", torch.zeros((), dtype=torch.int64))

    def kept(self, teacher: Float[Tensor, "b c"], rows: Int[Tensor, " b"]) -> Bool[Tensor, "b c"]:
        """The best class, and the others that chance leaves."""
        state = _mix(self.step + _mix(rows + self._key))
        draws = _mix(state.unsqueeze(1) + torch.arange(teacher.shape[1], device=teacher.device))
        return (draws >= self.rate * (_BITS + 1)) | top_classes(teacher, 1)

    def advance(self) -> None:
        """Draw anew."""
        self.step += 1


@final
class TeacherOnly(ClassDropping):
    """The teacher's tail is zeroed and the rest renormalised; the student is compared over all classes.

    Args: k: classes of the teacher kept, >= 1.
    """

    student_keeps_all = True

    def __init__(self, k: int) -> None:
        super().__init__()
        self.k = _positive(k)

    def kept(self, teacher: Float[Tensor, "b c"], rows: Int[Tensor, " b"]) -> Bool[Tensor, "b c"]:
        """The k best classes."""
        return top_classes(teacher, self.k)


CLASS_DROPPINGS: Registry[Callable[[int, float], ClassDropping]] = Registry("class dropping")
"""Name -> the part for a number of classes and the temperature of the KD term."""

CLASS_DROPPINGS.register("off")(lambda classes, temperature: AllClasses())
CLASS_DROPPINGS.register("topk")(lambda classes, temperature: TopK(min(classes, 10)))
CLASS_DROPPINGS.register("mass")(lambda classes, temperature: Mass(share=0.95, temperature=temperature))
CLASS_DROPPINGS.register("stochastic")(lambda classes, temperature: RandomClasses(0.5))
CLASS_DROPPINGS.register("teacher_only")(lambda classes, temperature: TeacherOnly(min(classes, 10)))


@CLASS_DROPPINGS.register("dataset")
def _dataset(classes: int, temperature: float) -> ClassDropping:
    raise MissingFeatureError(
        "drop='dataset' needs to know the classes: drop=DatasetClasses(selection.trusted_classes(min_samples=...))"
    )


def top_class_indices(logits: Float[Tensor, "n c"], k: int) -> Int[Tensor, "n k"]:
    """The k best classes of each sample, best first; equal logits in class order."""
    return logits.detach().argsort(dim=-1, descending=True, stable=True)[:, : _positive(k)]


def _positive(k: int) -> int:
    if k < 1:
        raise OptionError(f"at least 1 class is kept, k = {k} was asked for")
    return k


def _mix(x: Int[Tensor, "*any"]) -> Int[Tensor, "*any"]:
    """Integers to well-mixed ones in [0, 2^32); the products stay below 2^63."""
    x = x & _BITS
    for _ in range(2):
        x = ((x ^ (x >> 16)) * 0x45D9F3B) & _BITS
    return x ^ (x >> 16)
