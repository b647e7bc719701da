"""Checks at the door of a loss; each message says what was found and the remedy."""

from graphkd.errors import ShapeError
from graphkd.graphs.channels import to_smaller
from graphkd.typing import Tensor


def same_samples(student: Tensor, teacher: Tensor, ndim: int | None = None) -> None:
    """Both sides hold the same samples, at least one, in tensors of ``ndim`` dimensions."""
    if ndim is not None and not student.ndim == teacher.ndim == ndim:
        raise ShapeError(
            f"expected {ndim} dimensions, found student {_show(student)} and teacher {_show(teacher)}: "
            + ("flatten each sample to one row" if ndim == 2 else "maps are (batch, channels, height, width)")
        )
    if len(student) != len(teacher) or len(student) == 0:
        raise ShapeError(
            f"student {_show(student)} and teacher {_show(teacher)} differ in samples (or have none): "
            "give both sides the same batch in the same order"
        )


def same_shape(student: Tensor, teacher: Tensor, what: str, remedy: str) -> None:
    """Both sides have one shape."""
    if student.shape != teacher.shape:
        raise ShapeError(f"student {what} {_show(student)} and teacher {what} {_show(teacher)} differ: {remedy}")


def same_logits(student: Tensor, teacher: Tensor) -> None:
    """Logits (b, c) of the same samples over the same classes."""
    same_samples(student, teacher, 2)
    same_shape(student, teacher, "logits", "both networks need the same classes in the same order")


def same_embeddings(student: Tensor, teacher: Tensor) -> None:
    """Embeddings (b, d) of the same samples in the same space."""
    same_samples(student, teacher, 2)
    same_shape(student, teacher, "embeddings", f"project the student to width {teacher.shape[-1]}")


def same_maps(student: Tensor, teacher: Tensor, channels: bool = False) -> tuple[Tensor, Tensor]:
    """Maps (b, c, h, w) of the same samples, the larger pooled to the smaller; ``channels``: equal ones are needed."""
    same_samples(student, teacher, 4)
    if channels and student.shape[1] != teacher.shape[1]:
        raise ShapeError(
            f"student maps {_show(student)} and teacher maps {_show(teacher)} differ in channels: "
            f"adapt the student by a 1x1 convolution to {teacher.shape[1]} channels"
        )
    return to_smaller(student, teacher)


def _show(tensor: Tensor) -> str:
    return str(tuple(tensor.shape))
