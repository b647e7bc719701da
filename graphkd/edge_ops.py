"""Fused sums over the edges between node sets, which never need the matrix of all pairs; doors to the kernels.

Node sets are checked here and trusted below. A set of targets of ``None`` is the set of sources. Results are sums over
the rows at hand: counts, means and roots are the alignments'.
"""

from typing import Any, Final

import torch
from graphkd_kernels import dispatch

from graphkd.errors import OptionError, ShapeError
from graphkd.typing import Float, Tensor

INNER: Final = frozenset({"gram", "cosine", "pearson"})
"""Relations that are inner products of mapped rows."""
RELATIONS: Final = INNER | {"euclidean", "squared_euclidean", "rbf"}
"""Relations that kernels know by name."""

_Sources = Float[Tensor, "*b n d"]
_Targets = Float[Tensor, "*b m d"]


def same_width(x: _Sources, y: _Targets) -> _Targets:
    """The second node set, once it is known to have the features of the first."""
    if x.shape[-1] != y.shape[-1]:
        raise ShapeError(
            f"source nodes have {x.shape[-1]} features, target nodes {y.shape[-1]}: project one side first"
        )
    return y


def row_map(x: _Sources, relation: str) -> _Sources:
    """Rows whose inner products are the relation "gram", "cosine" or "pearson"."""
    if relation == "gram":
        return x
    result: Tensor = dispatch.run("unit_rows" if relation == "cosine" else "center_normalize", x)
    return result


def similarity(
    x: _Sources, y: _Targets | None = None, relation: str = "cosine", gamma: float = 1.0
) -> Float[Tensor, "*b n m"]:
    """The matrix of a relation; normalisation and product together.

    Args:
        x, y: source and target nodes.
        relation: ``"gram"``, ``"cosine"`` (default), ``"pearson"``, ``"euclidean"``, ``"squared_euclidean"`` or
            ``"rbf"``.
        gamma: inverse squared width of ``"rbf"``.
    Raises: ShapeError, OptionError.
    """
    check_known(relation, RELATIONS, "relation")
    result: Tensor = dispatch.run("similarity", x, None if y is None else same_width(x, y), relation, gamma)
    return result


def edge_sum(
    xs: _Sources,
    ys: _Targets | None,
    xt: Float[Tensor, "*b n e"],
    yt: Float[Tensor, "*b m e"] | None,
    relation: str = "gram",
    penalty: str = "square",
) -> Float[Tensor, ""]:
    r"""Differences of two networks' edges, :math:`\sum_{ij} p(e(x^S_i, y^S_j) - e(x^T_i, y^T_j))`.

    Args:
        xs, ys: the student's source and target nodes.
        xt, yt: the teacher's, as many; the widths of the two networks may differ.
        relation: as of :func:`similarity`.
        penalty: ``"square"`` or ``"huber"`` (quadratic up to 1).
    Raises: ShapeError, OptionError.
    Example: ``edge_sum(x, None, x, None, "pearson")`` is 0.
    """
    check_known(relation, RELATIONS, "relation")
    check_known(penalty, {"square", "huber"}, "penalty")
    check_nodes(xs, ys, xt, yt)
    result: Tensor = dispatch.run("edge_sum", xs, ys, xt, yt, relation, penalty)
    return result


def unit_edge_sum(
    xs: _Sources, ys: _Targets | None, xt: Float[Tensor, "*b n e"], yt: Float[Tensor, "*b m e"] | None
) -> Float[Tensor, ""]:
    r"""Squared difference of two Gram matrices with rows of unit length (SP, ICKD): :math:`\sum_i 2 - 2 c_i`.

    Args:
        xs, ys, xt, yt: as of :func:`edge_sum`.
    Raises: ShapeError.
    """
    check_nodes(xs, ys, xt, yt)
    result: Tensor = dispatch.run("unit_edge_sum", xs, ys, xt, yt)
    return result


def node_sum(
    student: Float[Tensor, "m d"],
    teacher: Float[Tensor, "n d"],
    relation: str = "pearson",
    target: str = "identity",
    offset: int = 0,
    everyone: Float[Tensor, "m d"] | None = None,
) -> Float[Tensor, ""]:
    r"""Squares of the teacher-student node matrix minus a target, :math:`\sum_{ij} (e(t_i, s_j) - E_{ij})^2`.

    Args:
        student: nodes of all ranks.
        teacher: nodes of this rank.
        relation: ``"gram"``, ``"cosine"`` or ``"pearson"``.
        target: ``"identity"``, ``"diagonal"`` (only entries of corresponding nodes), ``"gram"`` (the teacher's own
            relations with ``everyone``).
        offset: position of the first teacher node among the student nodes.
        everyone: teacher nodes of all ranks; ``None``: these.
    Raises: ShapeError, OptionError.
    """
    check_known(relation, INNER, "relation of a node term")
    check_known(target, {"identity", "diagonal", "gram"}, "node target")
    same_width(teacher, student)
    others = len(teacher) if everyone is None else len(everyone)
    if not 0 <= offset <= len(student) - len(teacher) or (target == "gram" and others != len(student)):
        raise ShapeError(
            f"{len(teacher)} teacher nodes from position {offset} do not lie among {len(student)} student nodes: "
            "give the student nodes of all ranks (and for target 'gram' everyone's teacher nodes)"
        )
    _alike(student, teacher, everyone)
    result: Tensor = dispatch.run("node_sum", student, teacher, relation, target, offset, everyone)
    return result


def ega_sums(
    student: Float[Tensor, "n d"], teacher: Float[Tensor, "n d"], relation: str = "pearson"
) -> Float[Tensor, " 2"]:
    """EGA's sums of squares from the same normalised rows: edges, and nodes against the identity.

    Raises: ShapeError for different shapes, OptionError.
    """
    check_known(relation, INNER, "relation of a node term")
    if student.shape != teacher.shape or student.ndim != 2:
        raise ShapeError(f"expected nodes (n, d) twice, found {tuple(student.shape)} and {tuple(teacher.shape)}")
    _alike(student, teacher)
    result: Tensor = dispatch.run("ega_sums", student, teacher, relation)
    return result


def check_nodes(xs: Tensor, ys: Tensor | None, xt: Tensor, yt: Tensor | None) -> None:
    """Raises: ShapeError unless both networks have the same nodes, on one device and in one type."""
    if (ys is None) != (yt is None):
        raise ShapeError("one network has target nodes and the other has none: give both or neither")
    if ys is not None and yt is not None:
        same_width(xs, ys)
        same_width(xt, yt)
        if ys.shape[:-1] != yt.shape[:-1]:
            raise ShapeError(f"student targets {tuple(ys.shape)} and teacher targets {tuple(yt.shape)} are other nodes")
    if xs.shape[:-1] != xt.shape[:-1]:
        raise ShapeError(
            f"student nodes {tuple(xs.shape)} and teacher nodes {tuple(xt.shape)} differ: both graphs need the same "
            "nodes in the same order"
        )
    _alike(xs, ys, xt, yt)


def _alike(first: Tensor, *others: Tensor | None) -> None:
    for each in others:
        if each is not None and (
            each.device != first.device or (each.dtype == torch.float64) != (first.dtype == torch.float64)
        ):
            raise ShapeError(
                f"node sets on {first.device} in {first.dtype} and on {each.device} in {each.dtype}: "
                "move both to one device and one type"
            )


def check_known(name: str, known: Any, what: str) -> None:
    """Raises: OptionError for a name that is none of the known."""
    if name not in known:
        raise OptionError(f"unknown {what} {name!r}; known: {', '.join(sorted(known))}")
