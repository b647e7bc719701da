"""Distillation of a CLIP by the similarities of images and texts; a function only, as texts are no features."""

from graphkd.checks import same_samples, same_shape, tensor_loss
from graphkd.graphs.alignments import CROSS_ENTROPY
from graphkd.graphs.relations import cosine
from graphkd.typing import Float, Tensor


@tensor_loss
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
    return (CROSS_ENTROPY(student, teacher) + CROSS_ENTROPY(student.mT, teacher.mT)) / 2
