"""Embedding graph alignment with the teacher's head trained online."""

import torch
from torch import Tensor

from benchmarks.method import method
from benchmarks.official.samples import ega
from graphkd.distillers.base import Distiller
from graphkd.features import Features


def total(distiller: Distiller, student: Features, teacher: Features, target: Tensor) -> Tensor:
    """Weights 0.8 and 0.24, and the head's cross-entropy."""
    with torch.no_grad():
        t = distiller.teacher_head(teacher.embedding)
    head, _ = distiller.teacher_head.losses(teacher.embedding, target)  # all have a label
    return ega(distiller.project(student.embedding), t, 0.8, 0.24) + head.mean()


CASES = [method("ega", "embedding logits", total)]
