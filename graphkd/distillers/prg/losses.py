"""PRG's terms as functions: samples against the teacher's samples, and their edges to class proxies."""

from math import sqrt

import torch

from graphkd import ops
from graphkd.checks import same_embeddings, same_samples, tensor_loss
from graphkd.distillers.parts import unmasked
from graphkd.errors import MissingFeatureError, OptionError
from graphkd.graphs.align import align, align_nodes
from graphkd.graphs.alignments import FROBENIUS, RMS, Alignment
from graphkd.graphs.edges import Edges
from graphkd.graphs.relations import gram
from graphkd.typing import Float, Tensor


@tensor_loss
def prg_node(
    student: Float[Tensor, "b d"],
    teacher: Float[Tensor, "b d"],
    student_logits: Float[Tensor, "b c"] | None = None,
    teacher_logits: Float[Tensor, "b c"] | None = None,
    rho: float = 0.5,
    target: str = "diagonal",
    alignment: Alignment = FROBENIUS,
    relation: str = "gram",
) -> Float[Tensor, ""]:
    r"""PRG's node term: a sample's features and logits correlate with the teacher's of the same sample.

    .. math:: L = \mathrm{mean}_i (1 - N_{ii}), \qquad N_{ij} = \rho\, r(f^T_i, f^S_j) + (1 - \rho)\, r(z^T_i, z^S_j)

    PRG-style: reconstructed from the abstract and third-party summaries, with EGA-type node and edge losses; not PRG as
    published (Xu, Liu, Wei, Li, arXiv 2408.12248).
    Args:
        student, teacher: embeddings in one space (the student's projected).
        student_logits, teacher_logits: needed unless rho is 1.
        rho: share of the features in [0, 1]; default 0.5.
        target: ``"diagonal"`` (default); ``"identity"`` compares N with I, ``"teacher_gram"`` with the teacher's own N,
            ``"centred_gram"`` likewise row by row of the student, nodes centred by the teachers' mean.
        alignment: of the two matrices; default the un-squared Frobenius norm; unused for the diagonal.
        relation: of the nodes, which have unit length; default ``"gram"``, Pearson's correlation. After centring
            ``"cosine"``.
    Shapes: (b, d) twice, (b, c) twice -> scalar.
    Raises: ShapeError for other samples, widths or classes; MissingFeatureError without logits; OptionError for rho
        outside [0, 1] or an unknown target.
    Example: ``prg_node(f, f, z, z)`` is 0.
    Differs from the official code: none has been published.
    """
    same_embeddings(student, teacher)
    ours, theirs = joined(student, student_logits, rho), joined(teacher, teacher_logits, rho)
    return align_nodes(ours, theirs, relation, target, alignment)


@tensor_loss
def prg_edge(
    student: Float[Tensor, "b d"],
    teacher: Float[Tensor, "b e"],
    student_proxies: Float[Tensor, "c d"],
    teacher_proxies: Float[Tensor, "c e"],
    student_logits: Float[Tensor, "b c"] | None = None,
    teacher_logits: Float[Tensor, "b c"] | None = None,
    student_proxy_logits: Float[Tensor, "c c"] | None = None,
    teacher_proxy_logits: Float[Tensor, "c c"] | None = None,
    rho: float = 0.5,
    alignment: Alignment = RMS,
) -> Float[Tensor, ""]:
    r"""PRG's edge term: each network's correlations between samples and class proxies.

    .. math:: L = \lVert E^T - E^S \rVert_F / \sqrt{BC}, \qquad
              E_{ic} = \rho\, r(f_i, p_c) + (1 - \rho)\, r(z_i, g_c)

    PRG-style: reconstructed from the abstract and third-party summaries, with EGA-type node and edge losses; not PRG as
    published (Xu, Liu, Wei, Li, arXiv 2408.12248).
    Args:
        student, teacher: embeddings; the widths may differ.
        student_proxies, teacher_proxies: classifier rows, text embeddings.
        student_logits, teacher_logits, student_proxy_logits, teacher_proxy_logits: needed unless rho is 1; a proxy's
            logits are what the head says of it.
        rho: share of the features in [0, 1]; default 0.5.
        alignment: of the two edge matrices; default the Frobenius norm over the root of the number of entries.
    Shapes: (b, d), (b, e), (c, d), (c, e), (b, c) twice, (c, c) twice -> scalar.
    Raises: ShapeError, MissingFeatureError, OptionError as of :func:`prg_node`.
    Example: ``prg_edge(f, f, p, p, z, z, g, g)`` is 0.
    Differs from the official code: none has been published.
    """
    same_samples(student, teacher, 2)
    same_samples(student_proxies, teacher_proxies, 2)
    ours = joined(student, student_logits, rho), joined(student_proxies, student_proxy_logits, rho)
    theirs = joined(teacher, teacher_logits, rho), joined(teacher_proxies, teacher_proxy_logits, rho)
    return align(Edges(*ours, gram, name="gram"), Edges(*theirs, gram, name="gram"), alignment)


def joined(embedding: Float[Tensor, "n d"], logits: Float[Tensor, "n c"] | None, rho: float) -> Float[Tensor, "n e"]:
    r"""Nodes of two blocks, :math:`[\sqrt\rho\, n(f)\,;\,\sqrt{1-\rho}\, n(z)]` with n centred and of unit length.

    The inner product of two such nodes is :math:`\rho\, r(f, f') + (1-\rho)\, r(z, z')`: one Gram of the joined nodes
    is the weighted mean of the blocks' correlations, and no block is outvoted by the scale of the other. A block of
    share 0 is not read.
    """
    blocks = []
    if share_of_features(rho):
        blocks.append(sqrt(rho) * ops.center_normalize(embedding))
    if rho < 1:
        if logits is None:
            raise MissingFeatureError("PRG compares logits as well: give the logits of both networks, or rho=1.0")
        blocks.append(sqrt(1 - rho) * ops.center_normalize(unmasked(logits)))
    return torch.cat(blocks, -1)


def share_of_features(rho: float) -> float:
    """The share, once it is known to be one. Raises: OptionError."""
    if not 0 <= rho <= 1:
        raise OptionError(f"rho is the share of the feature block, a number in [0, 1], found {rho}")
    return rho
