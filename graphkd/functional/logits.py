"""Losses of logits: KD, DKD, DIST, and the similarities of a CLIP."""

import torch
from torch.nn.functional import logsigmoid

from graphkd import ops
from graphkd.errors import ShapeError
from graphkd.functional._precision import graph_loss
from graphkd.functional._shapes import same_logits, same_samples, same_shape
from graphkd.graphs.alignments import CROSS_ENTROPY, KL
from graphkd.graphs.relations import cosine
from graphkd.losses import labelled, only_counted
from graphkd.ops import expectation
from graphkd.typing import Float, Int, Tensor

_DIST_EPS = 1e-8


@graph_loss
def kd(
    student_logits: Float[Tensor, "b c"], teacher_logits: Float[Tensor, "b c"], temperature: float = 4.0
) -> Float[Tensor, ""]:
    r"""Knowledge distillation: the teacher's softened probabilities.

    .. math:: L = \frac{T^2}{N} \sum_i \mathrm{KL}(\mathrm{softmax}(z^T_i / T) \,\|\, \mathrm{softmax}(z^S_i / T))

    Paper: Hinton, Vinyals, Dean, arXiv 1503.02531; default of HobbitLong/RepDistiller@b84f547.
    Args:
        student_logits, teacher_logits: over the same classes.
        temperature: T > 0; default 4.
    Shapes: (b, c) twice -> scalar.
    Raises: ShapeError for other classes or samples, OptionError for a temperature <= 0.
    Example: ``kd(torch.zeros(1, 2), torch.zeros(1, 2))`` is 0.
    """
    same_logits(student_logits, teacher_logits)
    ops.positive_temperature(temperature)
    return temperature**2 * KL.local(student_logits / temperature, teacher_logits / temperature)


@graph_loss
def dkd(
    student_logits: Float[Tensor, "b c"],
    teacher_logits: Float[Tensor, "b c"],
    target: Int[Tensor, " b"],
    alpha: float = 1.0,
    beta: float = 8.0,
    temperature: float = 4.0,
) -> Float[Tensor, ""]:
    r"""Decoupled knowledge distillation: the label's share and the other classes apart.

    .. math:: L = \alpha\, \mathrm{TCKD} + \beta\, \mathrm{NCKD}

    Paper: Zhao et al., "Decoupled Knowledge Distillation", CVPR 2022, eq. 7; megvii-research/mdistiller@a08d46f.
    Args:
        student_logits, teacher_logits: over the same classes, at least 2.
        target: labels in [0, c); a sample whose label is below 0 has none and leaves the mean.
        alpha, beta: weights of :func:`dkd_target` and :func:`dkd_non_target`; defaults 1 and 8.
        temperature: T > 0; default 4.
    Shapes: (b, c), (b, c), (b,) -> scalar.
    Raises: ShapeError for other classes, samples or a single class; OptionError for a temperature <= 0; DataError for
        a label of c or more (on a GPU the loss is NaN).
    Example: ``dkd(torch.zeros(1, 3), torch.zeros(1, 3), torch.tensor([0]))`` is 0.
    Differs from the official code: it hides the label by -1000 and takes the logarithm of a probability, which is NaN
    from a logit gap of some 420 on; here the label is left out of the log-softmax and no underflowed probability is
    read. The official warm-up belongs to the training loop.
    """
    target_part, other_part, counted = dkd_parts(student_logits, teacher_logits, target, temperature)
    return alpha * _mean(target_part, counted) + beta * _mean(other_part, counted)


@graph_loss
def dkd_target(
    student_logits: Float[Tensor, "b c"],
    teacher_logits: Float[Tensor, "b c"],
    target: Int[Tensor, " b"],
    temperature: float = 4.0,
) -> Float[Tensor, ""]:
    r"""DKD's target part: the share of the label against all others.

    .. math:: \mathrm{TCKD} = \frac{T^2}{N} \sum_i \mathrm{KL}(b^T_i \,\|\, b^S_i), \qquad b = [p_y, 1 - p_y]

    Args, Shapes, Raises: as of :func:`dkd`.
    Example: ``dkd_target(torch.zeros(1, 3), torch.zeros(1, 3), torch.tensor([0]))`` is 0.
    """
    part, _, counted = dkd_parts(student_logits, teacher_logits, target, temperature)
    return _mean(part, counted)


@graph_loss
def dkd_non_target(
    student_logits: Float[Tensor, "b c"],
    teacher_logits: Float[Tensor, "b c"],
    target: Int[Tensor, " b"],
    temperature: float = 4.0,
) -> Float[Tensor, ""]:
    r"""DKD's other part: the distribution over the classes that are not the label; exactly 0 for two classes.

    .. math:: \mathrm{NCKD} = \frac{T^2}{N} \sum_i \mathrm{KL}(q^T_i \,\|\, q^S_i), \qquad
              q = \mathrm{softmax}_{c \ne y}(z / T)

    Args, Shapes, Raises: as of :func:`dkd`.
    Example: ``dkd_non_target(torch.randn(4, 2), torch.randn(4, 2), torch.zeros(4, dtype=torch.long))`` is 0.
    """
    _, part, counted = dkd_parts(student_logits, teacher_logits, target, temperature)
    return _mean(part, counted)


def dkd_parts(
    student_logits: Float[Tensor, "b c"],
    teacher_logits: Float[Tensor, "b c"],
    target: Int[Tensor, " b"],
    temperature: float = 4.0,
) -> tuple[Float[Tensor, " b"], Float[Tensor, " b"], Float[Tensor, " b"]]:
    """Both parts of DKD for each sample, times T^2, in the precision given, and 1 for each sample with a label.

    Shapes, Raises: as of :func:`dkd`.
    """
    same_logits(student_logits, teacher_logits)
    target, counted = labelled(target, student_logits)
    ops.positive_temperature(temperature)
    if student_logits.shape[1] < 2:
        raise ShapeError(f"DKD splits at least 2 classes, found logits {tuple(student_logits.shape)}: use kd")
    label = torch.arange(student_logits.shape[1], device=target.device) == target.unsqueeze(1)
    target_s, others_s = _split(student_logits / temperature, label)
    target_t, others_t = _split(teacher_logits / temperature, label)
    parts = expectation(target_t.exp(), target_t - target_s), expectation(others_t.exp(), others_t - others_s)
    target_part, other_part = (only_counted(temperature**2 * part, counted) for part in parts)
    return target_part, other_part, counted


def _mean(part: Float[Tensor, " b"], counted: Float[Tensor, " b"]) -> Float[Tensor, ""]:
    return part.sum() / counted.sum().clamp_min(1)


def _split(logits: Tensor, label: Tensor) -> tuple[Float[Tensor, "b 2"], Float[Tensor, "b c"]]:
    """log [p_y, 1 - p_y], and the log-softmax over the other classes (-inf at the label and at masked classes)."""
    logits = logits - logits.detach().amax(-1, keepdim=True)  # as in a softmax: of +inf comes a NaN
    others = logits.masked_fill(label, -torch.inf)
    alone = others.amax(-1, keepdim=True) == -torch.inf  # no other class is left; logsumexp has no gradient there
    rest = torch.where(alone, -torch.inf, others.masked_fill(alone, 0.0).logsumexp(-1, keepdim=True))
    odds = torch.where(label, logits, 0.0).sum(-1, keepdim=True) - rest  # log p_y / (1 - p_y): exact for small p_y
    shares = torch.where(others == -torch.inf, others, others - rest)
    return torch.cat([logsigmoid(odds), logsigmoid(-odds)], -1), shares


@graph_loss
def dist(
    student_logits: Float[Tensor, "b c"],
    teacher_logits: Float[Tensor, "b c"],
    beta: float = 1.0,
    gamma: float = 1.0,
    temperature: float = 1.0,
) -> Float[Tensor, ""]:
    r"""DIST: correlation of predictions within each sample and within each class.

    .. math:: L = \beta\, L_{inter} + \gamma\, L_{intra}

    Paper: Huang et al., "Knowledge Distillation from A Stronger Teacher", NeurIPS 2022, eq. 10;
    hunto/image_classification_sota@6f7a70a.
    Args:
        student_logits, teacher_logits: over the same classes.
        beta, gamma: weights of :func:`dist_inter` and :func:`dist_intra`; defaults 1 and 1.
        temperature: tau > 0; default 1 (CIFAR: 4).
    Shapes: (b, c) twice -> scalar.
    Raises: ShapeError for other classes or samples, OptionError for a temperature <= 0.
    Example: ``dist(logits, logits)`` is 0 up to the eps, for logits of several samples.
    Differs from the official code: rows or columns that are constant up to rounding count as uncorrelated and get no
    gradient. One sample has constant columns: its intra part is 1, as in the official code.
    """
    inter, intra = dist_parts(student_logits, teacher_logits, temperature)
    return beta * inter.mean() + gamma * intra.mean()


@graph_loss
def dist_inter(
    student_logits: Float[Tensor, "b c"], teacher_logits: Float[Tensor, "b c"], temperature: float = 1.0
) -> Float[Tensor, ""]:
    r"""DIST's inter-class part: correlation over the classes of each sample.

    .. math:: L = \tau^2 \, \mathrm{mean}_i \, (1 - r(Y^S_{i,:}, Y^T_{i,:})), \qquad Y = \mathrm{softmax}(z / \tau)

    Args, Shapes, Raises: as of :func:`dist`.
    Example: ``dist_inter(logits, logits)`` is 0 up to the eps.
    """
    return dist_parts(student_logits, teacher_logits, temperature)[0].mean()


@graph_loss
def dist_intra(
    student_logits: Float[Tensor, "b c"], teacher_logits: Float[Tensor, "b c"], temperature: float = 1.0
) -> Float[Tensor, ""]:
    r"""DIST's intra-class part: correlation over the samples of each class.

    .. math:: L = \tau^2 \, \mathrm{mean}_c \, (1 - r(Y^S_{:,c}, Y^T_{:,c})), \qquad Y = \mathrm{softmax}(z / \tau)

    Args, Shapes, Raises: as of :func:`dist`.
    Example: ``dist_intra(logits, logits)`` is 0 up to the eps, for logits of several samples.
    """
    return dist_parts(student_logits, teacher_logits, temperature)[1].mean()


def dist_parts(
    student_logits: Float[Tensor, "b c"], teacher_logits: Float[Tensor, "b c"], temperature: float = 1.0
) -> tuple[Float[Tensor, " b"], Float[Tensor, " c"]]:
    """1 - correlation of each sample and of each class, times tau^2, in the precision given."""
    same_logits(student_logits, teacher_logits)
    ops.positive_temperature(temperature)
    student, teacher = (_softened(each, temperature) for each in (student_logits, teacher_logits))
    inter = 1 - ops.damped_row_pearson(student, teacher, _DIST_EPS)
    intra = 1 - ops.damped_column_pearson(student, teacher, _DIST_EPS)
    return temperature**2 * inter, temperature**2 * intra


def _softened(logits: Float[Tensor, "b c"], temperature: float) -> Float[Tensor, "b c"]:
    scaled = logits if temperature == 1 else logits / temperature  # a pass over both matrices is a tenth of the loss
    return scaled.softmax(-1)


@graph_loss
def clip_distillation(
    student_images: Float[Tensor, "b d"],
    teacher_images: Float[Tensor, "b e"],
    student_texts: Float[Tensor, "b d"],
    teacher_texts: Float[Tensor, "b e"],
    student_scale: float = 100.0,
    teacher_scale: float = 100.0,
) -> Float[Tensor, ""]:
    r"""Distillation of a CLIP's image-text similarities, as in open_clip.

    .. math:: L = \tfrac12 \bigl[\mathrm{CE}(\mathrm{softmax}(l^T), l^S) + \mathrm{CE}(\mathrm{softmax}(l^{T\top}),
              l^{S\top})\bigr], \qquad l = s \cos(x, t)

    Source: mlfoundations/open_clip@89fb801. The teacher's entropy is not subtracted: the least value is not 0.
    Args:
        student_images, teacher_images, student_texts, teacher_texts: embeddings of b image-text pairs, any length.
        student_scale, teacher_scale: logit scales (not their logarithms); default 100.
    Shapes: (b, d), (b, e), (b, d), (b, e) -> scalar.
    Raises: ShapeError for other samples, or images and texts of unequal width.
    Example: ``clip_distillation(x, x, x, x)`` is the mean entropy of the similarities.
    """
    same_samples(student_images, teacher_images, 2)
    same_samples(student_texts, teacher_texts, 2)
    student = student_scale * cosine(student_images, student_texts)
    teacher = teacher_scale * cosine(teacher_images, teacher_texts)
    same_shape(student, teacher, "similarities", "give the same pairs to both networks")
    return (CROSS_ENTROPY.local(student, teacher) + CROSS_ENTROPY.local(student.mT, teacher.mT)) / 2
