"""Feature mimicking: the student's projected embedding follows the teacher's, its head the teacher's pseudo-labels."""

from typing import Any, ClassVar, final

from torch import nn

from graphkd import ops
from graphkd.distillers.base import DISTILLERS, Distiller, Pair, Sized, Term, mean_over_batch, widths
from graphkd.distillers.pseudo_labels import PseudoLabels
from graphkd.distillers.sizes import measure, without_classes
from graphkd.features import Features
from graphkd.graphs.graph import Graph
from graphkd.typing import Float, Side, Tensor


@final
@DISTILLERS.register("mimic")
class MimicDistiller(Distiller):
    r"""Regress the teacher's embedding, of unit length, from the student's; without labels, as the baseline of PRG.

    .. math:: L = \mathrm{CE}(z^S, \hat y) + a\, \mathrm{mean}_i \lVert u(P f^S_i) - u(f^T_i) \rVert^2

    with u the scaling to unit length. Paper: the feature distillation of Yang et al., "CLIP-KD", CVPR 2024 (there with
    unit vectors of both towers and a weight of its own), beside cross-entropy with pseudo-labels.

    Args:
        student_dim, teacher_dim: widths of the embeddings.
        feature_weight: a; default 1. Four times this is the largest value that the term takes.
        ce_weight: of the pseudo-label term; default 1, and 0 for a student without classes.

    Shapes: student embedding (b, student_dim), teacher embedding (b, teacher_dim), logits (b, num_classes).
    Example: ``MimicDistiller.between(student, teacher)(student(images), teacher(images)).total``
    """

    zero_at_teacher: ClassVar[frozenset[str]] = frozenset()

    def __init__(
        self,
        student_dim: int,
        teacher_dim: int,
        *,
        feature_weight: float = 1.0,
        ce_weight: float = 1.0,
    ) -> None:
        super().__init__()
        self.labels = PseudoLabels()
        self.projector = nn.Linear(student_dim, teacher_dim) if feature_weight else None
        feature: tuple[float, Term] = (feature_weight, self._feature)
        self.terms = self.weighted_terms(ce=(ce_weight, self._ce), feature=feature)

    @classmethod
    def between(cls, student: Sized, teacher: Sized, **options: Any) -> "MimicDistiller":
        """A distiller of the right size. Raises: TeacherError, ShapeError, UnknownNameError."""
        cls.check_options(options)
        if without_classes(student):
            options = {"ce_weight": 0.0, **options}
            return cls(**measure(student, teacher, ("student_dim", "teacher_dim"), "mimicking", {}), **options)
        return cls(*widths("mimicking", student, teacher)[:2], **options)

    def build(self, features: Features, side: Side) -> Graph:
        """One node for each sample, of unit length, without edges."""
        embedding = features.blended().tensor("embedding", "mimicking")
        if side == "student" and self.projector is not None:
            embedding = self.projector(embedding)
        return Graph().add("sample", ops.unit_rows(embedding))

    def _feature(self, pair: Pair) -> Float[Tensor, ""]:
        student, teacher = pair.student["sample"].x, pair.teacher["sample"].x
        return mean_over_batch((student - ops.same_width(student, teacher)).square().sum(-1))

    def _ce(self, pair: Pair) -> Float[Tensor, ""]:
        return mean_over_batch(self.labels(pair.student_features, pair.teacher_features, pair.target))
