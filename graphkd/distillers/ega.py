"""Embedding graph alignment: nodes like their own teacher node, edges like the teacher's edges."""

from typing import Any, ClassVar, Final, final

import torch
from torch import nn

from graphkd import distributed, ops
from graphkd.checks import same_embeddings, same_samples, tensor_loss
from graphkd.distillers.base import DISTILLERS, Distiller, Pair, Term, mean_over_batch
from graphkd.distillers.kd import kd
from graphkd.distillers.parts import align_within, logits
from graphkd.distillers.sizes import without_classes
from graphkd.distillers.terms import EdgesAndIdentity, EdgeTerm, NodeTerm
from graphkd.errors import ShapeError
from graphkd.features import Features
from graphkd.graphs.align import align_edges_and_nodes, align_nodes
from graphkd.graphs.alignments import FROBENIUS, MSE, Alignment
from graphkd.graphs.graph import Graph
from graphkd.graphs.spectral import decomposed
from graphkd.losses import cross_entropy
from graphkd.registry import unknown
from graphkd.typing import Float, Int, Side, Tensor


class SpectralNorm(Alignment):
    r"""Largest singular value of the difference of two blocks of edges, :math:`\lVert E^S - E^T \rVert_2`.

    EGA prints this norm and computes the Frobenius norm. Unlike every other alignment it is no function of a sum over
    entries: it costs a singular value decomposition of the whole matrix.

    Shapes: student (n, m), teacher (n, m), rows of this rank -> scalar.
    Raises: ShapeError if the blocks differ in shape.
    """

    def __call__(self, student: Tensor, teacher: Tensor, weight: Tensor | None = None) -> Float[Tensor, ""]:
        """The norm over the rows of all ranks."""
        self._sum(student, teacher, weight)  # checks the shapes
        difference = student - teacher
        rows = distributed.sizes(len(difference), difference.device)
        (values,) = decomposed(torch.linalg.svdvals, distributed.gather(difference, rows))
        return values.amax()


NORMS: Final[dict[str, Alignment]] = {
    "fro": FROBENIUS,
    "mse": MSE,
    "spectral": SpectralNorm("spectral", MSE.penalty, MSE.outer),
}
TEACHER_HEADS: Final = ("frozen", "joint", "none", "online_ce")


@tensor_loss
def ega(
    student: Float[Tensor, "b d"], teacher: Float[Tensor, "b d"], node_weight: float = 0.8, edge_weight: float = 0.24
) -> Float[Tensor, ""]:
    r"""Embedding graph alignment.

    .. math:: L = w_n \lVert N - I \rVert_F + w_e \lVert E^T - E^S \rVert_F

    Paper: Ma, Chen, Akata, "Embedding Graph Alignment", BMVC 2022, eq. 7; yccm/EGA@0963f8e.
    Args:
        student, teacher: embeddings in one space.
        node_weight, edge_weight: defaults 0.8 and 0.24, the training script's for batches of 64 (its class: 1 and 0.3).
    Shapes: (b, d) twice -> scalar.
    Raises: ShapeError for other samples or widths.
    Example: ``ega(torch.eye(3), torch.eye(3))`` is ``0.8 * sqrt(6) / 2``: the off-diagonal correlations are -1/2.
    Differs from the official code (argument order teacher, student): a constant row gives correlation 0, there NaN.
    """
    same_embeddings(student, teacher)
    edge, node = align_edges_and_nodes(student, teacher, "pearson", FROBENIUS)
    return node_weight * node + edge_weight * edge


@tensor_loss
def ega_node(student: Float[Tensor, "b d"], teacher: Float[Tensor, "b d"]) -> Float[Tensor, ""]:
    r"""EGA's node term: each student node correlates with its own teacher node and with no other.

    .. math:: L = \lVert N - I \rVert_F, \qquad N_{ij} = r(x^T_i, x^S_j)

    Paper: Ma, Chen, Akata, BMVC 2022, eqs. 5-6. Not 0 for student == teacher.
    Shapes: (b, d) twice -> scalar.
    Raises: ShapeError for other samples or widths.
    Example: ``ega_node(torch.eye(3), torch.eye(3))`` is ``sqrt(6) / 2``.
    """
    same_embeddings(student, teacher)
    return align_nodes(student, teacher, "pearson", "identity", FROBENIUS)


@tensor_loss
def ega_edge(student: Float[Tensor, "b d"], teacher: Float[Tensor, "b e"]) -> Float[Tensor, ""]:
    r"""EGA's edge term: correlations between samples, un-squared norm of their difference.

    .. math:: L = \lVert E^S - E^T \rVert_F, \qquad E_{ij} = r(x_i, x_j)

    Paper: Ma, Chen, Akata, BMVC 2022, eqs. 3-4. The widths may differ.
    Shapes: (b, d), (b, e) -> scalar.
    Raises: ShapeError for other samples.
    Example: ``ega_edge(2 * x + 1, x)`` is 0.
    """
    same_samples(student, teacher, 2)
    return align_within(student, teacher, "pearson", FROBENIUS)


class OnlineHead(nn.Module):
    """A linear embedding with a linear classifier on it, trained by its own cross-entropy only.

    Gives a teacher a projection to another width without touching its graph: the nodes are taken without gradient.

    Args:
        dim: width of the teacher's embedding.
        width: width of the nodes; EGA's is 256.
        num_classes: classes of the labels it is trained with.

    Shapes: (b, dim) -> (b, width).
    Paper: the official code of EGA (yccm/EGA@0963f8e) trains its teacher head this way.
    """

    def __init__(self, dim: int, width: int, num_classes: int) -> None:
        super().__init__()
        self.embed = nn.Linear(dim, width)
        self.classify = nn.Linear(width, num_classes)

    def forward(self, embedding: Float[Tensor, "b d"]) -> Float[Tensor, "b w"]:
        """The nodes."""
        nodes: Tensor = self.embed(embedding)
        return nodes

    def losses(
        self, embedding: Float[Tensor, "b d"], labels: Int[Tensor, " b"]
    ) -> tuple[Float[Tensor, " b"], Float[Tensor, " b"]]:
        """Cross-entropy of each sample, the head's only training signal, and which samples have a label."""
        return cross_entropy(self.classify(self.embed(embedding)), labels)


@final
@DISTILLERS.register("ega")
class EGADistiller(Distiller):
    r"""Align the correlations of the embeddings, between the networks and within each.

    .. math::
        L = w_n \lVert N - I \rVert_F + w_e \lVert E^T - E^S \rVert_F, \quad
        N_{ij} = r(x^T_i, x^S_j), \quad E_{ij} = r(x_i, x_j), \quad x^T = W_t f^T + b_t

    with r Pearson's correlation over the features. The teacher's layer and a classifier on it are trained online, by
    their own cross-entropy only (term ``teacher_head``); beside this goes the student's cross-entropy (``task=``).

    Paper: Ma, Chen, Akata, "Distilling Knowledge from Self-Supervised Teacher by Embedding Graph Alignment", BMVC 2022,
    eqs. 1-8. Faithful: all equations and the official code were read.
    Args:
        student_dim, teacher_dim: widths of the two embeddings.
        num_classes: of the labels that train the teacher's head.
        node_weight, edge_weight: defaults 0.8 and 0.24, the training script's for batches of 64 (its class: 1 and 0.3).
        norm: ``"fro"`` (un-squared, summed; default), ``"mse"``, or ``"spectral"``.
        teacher_head: ``"online_ce"`` (default), ``"frozen"`` (load it into ``distiller.teacher_head``), ``"joint"``
            (the alignment trains it too), or ``"none"``: the student meets the teacher's own embedding (default for a
            student without classes).
        embed_dim: width of the nodes; default 256 (the teacher's width without a teacher head).
        classifier_on: ``"embedding"``: the student's embedding is the node, as in ``EmbeddingHead(student, 256,
            classes)``, the official recipe; ``"feature"``: it is projected here, by a layer that is not kept. Default:
            the former where the widths agree.
        kl_weight, kl_temperature: of a KL term on the logits, times T^2; defaults 0 and 4.
    Shapes: embedding (b, student_dim) and (b, teacher_dim), target (b,).
    Raises: UnknownNameError, OptionError, ShapeError; MissingFeatureError without ``target`` where a head is trained.
    Example: ``EGADistiller.between(student, teacher)(student(images), teacher(images), target=labels).total``
    Differs from the official code (yccm/EGA@0963f8e): constant rows give 0, there NaN. It trains the teacher's head by
    an optimiser of its own with the constant rate 0.01: give ``teacher_head`` a parameter group.
    """

    zero_at_teacher: ClassVar[frozenset[str]] = frozenset()  # not even the node term: other samples correlate
    required_inputs: ClassVar[frozenset[str]] = frozenset({"target"})
    sized_by: ClassVar[tuple[str, ...]] = ("student_dim", "teacher_dim", "num_classes")

    def __init__(
        self,
        student_dim: int,
        teacher_dim: int,
        num_classes: int,
        *,
        node_weight: float = 0.8,
        edge_weight: float = 0.24,
        norm: str = "fro",
        teacher_head: str = "online_ce",
        embed_dim: int = 256,
        classifier_on: str | None = None,
        kl_weight: float = 0.0,
        kl_temperature: float = 4.0,
    ) -> None:
        super().__init__()
        if norm not in NORMS:
            raise unknown("norm", norm, sorted(NORMS))
        if teacher_head not in TEACHER_HEADS:
            raise unknown("teacher head", teacher_head, list(TEACHER_HEADS))
        width = teacher_dim if teacher_head == "none" else embed_dim
        self.joint = teacher_head == "joint"
        self.teacher_head = None if teacher_head == "none" else OnlineHead(teacher_dim, width, num_classes)
        if self.teacher_head is not None and teacher_head == "frozen":
            self.teacher_head.requires_grad_(False)
        self.project = self._projector(classifier_on, student_dim, width)
        self.kl_temperature = ops.positive_temperature(kl_temperature)
        trains = teacher_head in ("online_ce", "joint")
        edge, node = self._edge_and_node(NORMS[norm], both=node_weight > 0 and edge_weight > 0)
        self.terms = self.weighted_terms(
            node=(node_weight, node),
            edge=(edge_weight, edge),
            kl=(kl_weight, self._kl),
            teacher_head=(float(trains), self._teacher_head),
        )

    @classmethod
    def between(cls, student: Any, teacher: Any, **options: Any) -> "EGADistiller":
        """A distiller of the right size. Raises: as :meth:`Distiller.between`."""
        if without_classes(student) and (without_classes(teacher) or not isinstance(student, Features)):
            options = {"teacher_head": "none", **options}
        if options.get("teacher_head") == "none":
            options = {"num_classes": 0, **options}
        return super().between(student, teacher, **options)

    @property
    def active_inputs(self) -> frozenset[str]:
        """Labels, where the teacher's head is trained."""
        return self.required_inputs if "teacher_head" in self.terms else frozenset()

    def build(self, features: Features, side: Side) -> Graph:
        """Samples in the common space, and their correlations."""
        x = features.blended().tensor("embedding", "EGA")
        if side == "student":
            x = self.project(x)
        elif self.teacher_head is not None:
            with torch.set_grad_enabled(self.joint):  # else a constant: only its cross-entropy trains the head
                x = self.teacher_head(x)
        return Graph().add("sample", x).connect("sample", "pearson", "sample")

    def _kl(self, pair: Pair) -> Float[Tensor, ""]:
        return kd.over_ranks(*logits(pair, "EGA"), self.kl_temperature)

    def _teacher_head(self, pair: Pair) -> Float[Tensor, ""]:
        assert self.teacher_head is not None
        assert pair.target is not None
        teacher = pair.teacher_features.blended().tensor("embedding", "EGA")
        return mean_over_batch(*self.teacher_head.losses(teacher, pair.target))

    @staticmethod
    def _edge_and_node(norm: Alignment, both: bool) -> tuple[Term, Term]:
        if both and norm.kernel == ("square",):
            shared = EdgesAndIdentity("sample", "pearson", norm)
            return shared.edge, shared.node
        return EdgeTerm(("sample", "pearson", "sample"), norm), NodeTerm("sample", "identity", "pearson", norm)

    @staticmethod
    def _projector(classifier_on: str | None, student_dim: int, width: int) -> nn.Module:
        if classifier_on not in (None, "embedding", "feature"):
            raise unknown("place of the classifier", str(classifier_on), ["embedding", "feature"])
        if classifier_on == "feature" or (classifier_on is None and student_dim != width):
            return nn.Linear(student_dim, width)
        if student_dim != width:
            raise ShapeError(
                f"EGA's nodes are {width} wide, and the student's embedding is {student_dim}: use "
                f"EmbeddingHead(student, {width}, classes), or classifier_on='feature'"
            )
        return nn.Identity()
