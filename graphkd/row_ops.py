"""The part of ``ops`` that compares row by row: matrices, rows of edges, distances, neighbours, a Laplacian."""

from graphkd_kernels import dispatch

from graphkd.edge_ops import RELATIONS, check_known, check_nodes, same_width
from graphkd.errors import OptionError, ShapeError
from graphkd.typing import Float, Int, Tensor


def row_kl(
    student: Float[Tensor, "*b n m"], teacher: Float[Tensor, "*b n m"], temperature: float = 1.0
) -> Float[Tensor, "*b n"]:
    """KL divergence of the rows' softmax, teacher's from student's."""
    result: Tensor = dispatch.run("row_kl", student, teacher, temperature)
    return result


def row_pearson(student: Float[Tensor, "*b n m"], teacher: Float[Tensor, "*b n m"]) -> Float[Tensor, "*b n"]:
    """Correlation of corresponding rows."""
    result: Tensor = dispatch.run("row_pearson", student, teacher)
    return result


def damped_row_pearson(
    student: Float[Tensor, "*b n m"], teacher: Float[Tensor, "*b n m"], eps: float
) -> Float[Tensor, "*b n"]:
    """Correlation of corresponding rows with eps added to the denominator (DIST)."""
    result: Tensor = dispatch.run("damped_row_pearson", student, teacher, eps)
    return result


def damped_column_pearson(
    student: Float[Tensor, "*b n m"], teacher: Float[Tensor, "*b n m"], eps: float
) -> Float[Tensor, "*b m"]:
    """Correlation of corresponding columns with eps added to the denominator (DIST), without a transposed copy."""
    result: Tensor = dispatch.run("damped_column_pearson", student, teacher, eps)
    return result


def edge_kl(
    xs: Float[Tensor, "*b n d"],
    ys: Float[Tensor, "*b m d"] | None,
    xt: Float[Tensor, "*b n e"],
    yt: Float[Tensor, "*b m e"] | None,
    relation: str,
    temperature: float = 1.0,
    gamma: float = 1.0,
) -> Float[Tensor, ""]:
    """KL(softmax(teacher's edges / T) || softmax(student's edges / T)), summed over rows; no matrix is kept.

    Args:
        xs, ys: the student's sources and targets; targets ``None`` for the sources themselves.
        xt, yt: the teacher's, as many; the widths of the two networks may differ.
        relation: ``"gram"``, ``"cosine"``, ``"pearson"``, ``"euclidean"``, ``"squared_euclidean"`` or ``"rbf"``.
        temperature: T > 0; default 1.
        gamma: of ``"rbf"``; default 1.

    Raises: ShapeError, OptionError.
    Example: ``edge_kl(x, None, x, None, "cosine", 0.1)`` is 0.
    """
    check_known(relation, RELATIONS, "relation")
    check_nodes(xs, ys, xt, yt)
    result: Tensor = dispatch.run("edge_kl", xs, ys, xt, yt, relation, positive_temperature(temperature), gamma)
    return result


def edge_pkt(
    xs: Float[Tensor, "*b n d"],
    ys: Float[Tensor, "*b m d"] | None,
    xt: Float[Tensor, "*b n e"],
    yt: Float[Tensor, "*b m e"] | None,
) -> Float[Tensor, ""]:
    """PKT's divergence of the rows of (cosine + 1) / 2, summed. Args, Raises: as of :func:`edge_kl`."""
    check_nodes(xs, ys, xt, yt)
    result: Tensor = dispatch.run("edge_pkt", xs, ys, xt, yt)
    return result


def info_nce(
    x: Float[Tensor, "n d"],
    y: Float[Tensor, "m d"] | None,
    positives: Int[Tensor, " n"],
    relation: str = "cosine",
    temperature: float = 1.0,
) -> Float[Tensor, ""]:
    """-log softmax(relation(x, y) / T) at each row's positive, summed over rows; ``y``: ``None`` for x itself.

    Raises: ShapeError if the widths differ, or there is not one positive for each row; OptionError.
    """
    check_known(relation, RELATIONS, "relation")
    same_width(x, x if y is None else y)
    if positives.shape != x.shape[:-1]:
        raise ShapeError(f"{tuple(x.shape)} nodes need one positive each, found {tuple(positives.shape)}")
    result: Tensor = dispatch.run("info_nce", x, y, positives, relation, positive_temperature(temperature))
    return result


def knn(x: Float[Tensor, "n d"], k: int) -> tuple[Int[Tensor, "n k"], Float[Tensor, "n k"]]:
    """Each row's k nearest other rows: indices and squared distances, nearest first.

    Raises: ShapeError if there are fewer than k other rows.
    """
    _has_neighbours(x, k)
    indices, distances = dispatch.run("knn", x, k)
    return indices, distances


def knn_graph(x: Float[Tensor, "n d"], k: int) -> tuple[Int[Tensor, "2 e"], Float[Tensor, " e"]]:
    """The k nearest neighbours of each node in PyG's format: edges that point to the node, and squared distances.

    Raises: ShapeError if there are fewer than k other nodes.
    """
    _has_neighbours(x, k)
    edges, squares = dispatch.run("knn_graph", x, k)
    return edges, squares


def rkd_distances(x: Float[Tensor, "n d"]) -> Float[Tensor, "n n"]:
    """Distances within a node set divided by their mean over the pairs (RKD)."""
    result: Tensor = dispatch.run("rkd_distances", x)
    return result


def rkd_distance(student: Float[Tensor, "n d"], teacher: Float[Tensor, "n e"]) -> Float[Tensor, ""]:
    """Mean smooth-L1 difference of both sides' :func:`rkd_distances`; the widths may differ."""
    result: Tensor = dispatch.run("rkd_distance", student, teacher)
    return result


def rkd_angle(
    student: Float[Tensor, "n d"], teacher: Float[Tensor, "n e"], first: int = 0, last: int | None = None
) -> Float[Tensor, ""]:
    """Smooth-L1 differences of the angles at the nodes in [first, last), summed; divide by n^3 for RKD's mean.

    Angles are cosines; those at two equal nodes are 0, without gradient. The widths may differ. Only the eager
    backend asked for by name holds all of them at once.
    """
    result: Tensor = dispatch.run("rkd_angle", student, teacher, first, len(student) if last is None else last)
    return result


def spectral_residual(
    x: Float[Tensor, "*b n d"],
    basis: Float[Tensor, "*b n k"],
    values: Float[Tensor, "*b k"],
    affinity: str = "gram",
    gamma: float = 1.0,
) -> Float[Tensor, "*b"]:
    r"""What a graph's Laplacian does wrong to given eigenvectors, :math:`\lVert L U - U \Lambda \rVert_F^2`.

    :math:`L = I - D^{-1/2} A D^{-1/2}` with :math:`A = x x^\top` (cost b n d k) or a Gaussian; L never exists.

    Args:
        x: nodes.
        basis, values: k eigenvectors (columns) and eigenvalues of the teacher's Laplacian.
        affinity: ``"gram"`` (default; its entries should be >= 0) or ``"rbf"``.
        gamma: of ``"rbf"``; default 1.

    Raises: ShapeError if basis or values do not fit.
    """
    if basis.shape[:-1] != x.shape[:-1] or values.shape != (*basis.shape[:-2], basis.shape[-1]):
        raise ShapeError(
            f"nodes {tuple(x.shape)} need a basis (*b, n, k) and values (*b, k), found {tuple(basis.shape)} and "
            f"{tuple(values.shape)}"
        )
    result: Tensor = dispatch.run("spectral_residual", x, basis, values, affinity, gamma)
    return result


def _has_neighbours(x: Tensor, k: int) -> None:
    if not 0 < k < len(x):
        raise ShapeError(f"a graph of {len(x)} nodes has {len(x) - 1} neighbours for each, {k} were asked for: lower k")


def positive_temperature(temperature: float) -> float:
    """The temperature itself. Raises: OptionError unless it is > 0."""
    if not temperature > 0:
        raise OptionError(f"the temperature of a softmax is > 0, found {temperature}")
    return temperature
