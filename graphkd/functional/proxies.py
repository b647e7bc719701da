"""PRG's terms: samples against the teacher's samples, and their edges to class proxies."""

import torch

from graphkd.errors import MissingFeatureError, OptionError
from graphkd.functional._precision import graph_loss
from graphkd.functional._shapes import same_embeddings, same_samples
from graphkd.graphs.alignments import FROBENIUS, RMS, Alignment
from graphkd.graphs.nodes import unmasked
from graphkd.graphs.relations import pearson
from graphkd.ops import diagonal
from graphkd.registry import unknown
from graphkd.typing import Float, Tensor


@graph_loss
def prg_node(
    student: Float[Tensor, "b d"],
    teacher: Float[Tensor, "b d"],
    student_logits: Float[Tensor, "b c"] | None = None,
    teacher_logits: Float[Tensor, "b c"] | None = None,
    rho: float = 0.5,
    target: str = "diagonal",
    alignment: Alignment = FROBENIUS,
) -> Float[Tensor, ""]:
    r"""PRG's node term: a sample's features and logits correlate with the teacher's of the same sample.

    .. math:: L = \mathrm{mean}_i (1 - N_{ii}), \qquad N_{ij} = \rho\, r(f^T_i, f^S_j) + (1 - \rho)\, r(z^T_i, z^S_j)

    PRG-style: reconstructed from the abstract and third-party summaries, with EGA-type node and edge losses; not PRG as
    published (Xu, Liu, Wei, Li, arXiv 2408.12248).
    Args:
        student, teacher: embeddings in one space (the student's projected).
        student_logits, teacher_logits: needed unless rho is 1.
        rho: share of the features in [0, 1]; default 0.5.
        target: ``"diagonal"`` (default); ``"identity"`` compares N with I, ``"teacher_gram"`` with the teacher's own N.
        alignment: of the two matrices; default the un-squared Frobenius norm; unused for the diagonal.
    Shapes: (b, d) twice, (b, c) twice -> scalar.
    Raises: ShapeError for other samples, widths or classes; MissingFeatureError without logits; OptionError for rho
        outside [0, 1] or an unknown target.
    Example: ``prg_node(f, f, z, z)`` is 0.
    Differs from the official code: none has been published.
    """
    same_embeddings(student, teacher)
    nodes = _blend(rho, (teacher, student), (teacher_logits, student_logits))
    if target == "diagonal":
        return (1 - diagonal(nodes)).mean()
    if target == "identity":
        return alignment.local(nodes, torch.eye(len(nodes), dtype=nodes.dtype, device=nodes.device))
    if target == "teacher_gram":
        return alignment.local(nodes, _blend(rho, (teacher, teacher), (teacher_logits, teacher_logits)))
    raise unknown("node target", target, ["diagonal", "identity", "teacher_gram"])


@graph_loss
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
    edges_s = _blend(rho, (student, student_proxies), (student_logits, student_proxy_logits))
    edges_t = _blend(rho, (teacher, teacher_proxies), (teacher_logits, teacher_proxy_logits))
    return alignment.local(edges_s, edges_t)


def _blend(rho: float, features: tuple[Tensor, Tensor], logits: tuple[Tensor | None, Tensor | None]) -> Tensor:
    """Correlations of the features and of the logits, weighed by rho and 1 - rho; a share of 0 is not computed."""
    if not 0 <= rho <= 1:
        raise OptionError(f"rho is the share of the features, a number in [0, 1], found {rho}")
    if rho == 1:
        return pearson(*features)
    source, target = logits
    if source is None or target is None:
        raise MissingFeatureError("PRG compares logits as well: give the logits of both networks, or rho=1.0")
    block = pearson(unmasked(source), unmasked(target))
    return block if rho == 0 else rho * pearson(*features) + (1 - rho) * block
