"""EIKD's terms as functions, and which classes a sample keeps.

EIKD-style: reconstructed from the abstract and the DFND protocol; not a reproduction
(Wang et al., arXiv 2302.08771). No formula of the paper is known: all are our choice.
"""

import torch

from graphkd import ops
from graphkd.checks import same_embeddings, same_logits, same_samples, same_shape, tensor_loss
from graphkd.distillers.base import mean_over_batch
from graphkd.distillers.parts import align_within
from graphkd.errors import OptionError
from graphkd.graphs.alignments import ROW_SQUARES
from graphkd.ops import expectation
from graphkd.typing import Bool, Float, Tensor


@tensor_loss
def explicit_features(student: Float[Tensor, "b d"], teacher: Float[Tensor, "b d"]) -> Float[Tensor, ""]:
    r"""EIKD's explicit term: the squared distance of the embeddings, which the distiller scales to unit length first.

    .. math:: L = \mathrm{mean}_i \lVert h^S_i - h^T_i \rVert^2

    EIKD-style: reconstructed from the abstract and the DFND protocol; not a reproduction.
    Shapes: (b, d) twice, the student's projected where the widths differ -> scalar.
    Raises: ShapeError for other samples or widths.
    Example: ``explicit_features(torch.zeros(1, 2), torch.ones(1, 2))`` is 2.
    """
    same_embeddings(student, teacher)
    return mean_over_batch((student - teacher).square().sum(-1))


@tensor_loss
def implicit_relations(student: Float[Tensor, "b d"], teacher: Float[Tensor, "b e"]) -> Float[Tensor, ""]:
    r"""EIKD's implicit term: the squared distance of each sample's cosines with all samples, rows of unit length.

    .. math:: L = \frac{1}{N} \lVert R^S - R^T \rVert_F^2, \qquad R = \mathrm{unit\ rows}(\cos(h_i, h_j))

    A mean over samples, as :func:`explicit_features`; over all N^2 entries its gradient would vanish in large batches.

    EIKD-style: reconstructed from the abstract and the DFND protocol; not a reproduction.
    Shapes: (b, d), (b, e) -> scalar.
    Raises: ShapeError for other samples.
    Example: ``implicit_relations(2 * h, h)`` is 0.
    """
    same_samples(student, teacher, 2)
    return align_within(student, teacher, "cosine", ROW_SQUARES, "unit")


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
        student_keeps_all: the student's softmax runs over all classes; default no.
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
