"""One batch of two views of the same images."""

from dataclasses import dataclass, fields, replace

import torch

from graphkd.typing import Float, Int, Tensor


@dataclass(frozen=True)
class Batch:
    """Student's and teacher's images of the same samples, in [0, 1].

    Args:
        student: images for the student.
        teacher: images for the teacher; the same tensor object where the view is shared.
        index: position of each sample in its data set; a store is asked by it.
        target: labels, only where a run was asked to use or score them.
        view: which of a store's views each image is, where ``Views(replay=store)`` applies what the store drew.

    Shapes: student (b, 3, h, w), teacher (b, 3, h', w'), index (b,), target (b,), view (b,).
    """

    student: Float[Tensor, "b 3 h w"]
    teacher: Float[Tensor, "b 3 h2 w2"]
    index: Int[Tensor, " b"]
    target: Int[Tensor, " b"] | None = None
    view: Int[Tensor, " b"] | None = None

    def to(self, device: torch.device | str) -> "Batch":
        """The same batch on another device; index and view stay on the host, where a store reads them."""
        student = self.student.to(device, non_blocking=True)
        shared = self.teacher is self.student
        return replace(
            self,
            student=student,
            teacher=student if shared else self.teacher.to(device, non_blocking=True),
            target=None if self.target is None else self.target.to(device, non_blocking=True),
        )

    def rows(self, span: slice) -> "Batch":
        """Some samples; a shared view stays one tensor object."""
        parts = {each.name: getattr(self, each.name) for each in fields(self)}
        cut = {name: value[span] for name, value in parts.items() if value is not None}
        if self.teacher is self.student:
            cut["teacher"] = cut["student"]
        return replace(self, **cut)

    def pin_memory(self) -> "Batch":
        """The same batch in page-locked memory; DataLoader calls it."""
        student, shared = self.student.pin_memory(), self.teacher is self.student
        return replace(
            self,
            student=student,
            teacher=student if shared else self.teacher.pin_memory(),
            index=self.index.pin_memory(),
            target=None if self.target is None else self.target.pin_memory(),
        )

    def __len__(self) -> int:
        return len(self.index)
