"""The only door to the kernels: operations on node sets, run by the backend in force.

``with graphkd.backend("eager"):`` asks for one by name (it runs or raises); by default ``"auto"`` picks.

Tensors go in and tensors come out: of 16-bit tensors results are float32, and their gradients have 16 bits again. Node
sets are checked here and trusted below. A set of targets of ``None`` is the set of sources. Results are sums over the
rows at hand: counts, means and roots are the alignments'.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, Final

import torch
from graphkd_kernels import dispatch
from graphkd_kernels import explain as explain
from graphkd_kernels.grams import Grams as Grams
from graphkd_kernels.grams import diagonal as diagonal
from graphkd_kernels.grams import join_mapped as join_mapped
from graphkd_kernels.grams import split
from graphkd_kernels.machine_plan import Table as Table
from graphkd_kernels.machine_plan import in_force as in_force
from graphkd_kernels.machine_plan import using as using
from graphkd_kernels.precision import widen
from graphkd_kernels.reference.rows import expectation as expectation

from graphkd.errors import BackendError, OptionError, ShapeError
from graphkd.typing import Float, Int, Tensor

INNER: Final = frozenset({"gram", "cosine", "pearson"})
"""Relations that are inner products of mapped rows."""
RELATIONS: Final = INNER | {"euclidean", "squared_euclidean", "rbf"}
"""Relations that kernels know by name."""

_run: Final[Callable[..., Tensor]] = dispatch.run
_pair: Final[Callable[..., tuple[Tensor, Tensor]]] = dispatch.run
_Sources = Float[Tensor, "*b n d"]
_Targets = Float[Tensor, "*b m d"]


def tune(*args: Any, **options: Any) -> Any:
    """Verify and time the kernels on this machine: ``graphkd_kernels.tuning.run.tune``, loaded when asked for."""
    from graphkd_kernels.tuning.run import tune as run

    return run(*args, **options)


@contextmanager
def backend(name: str, precision: str = "high") -> Iterator[None]:
    """Use one kernel backend inside the ``with`` block.

    Args:
        name: ``"auto"``, ``"eager"``, ``"blocked"``, or another name of ``graphkd_kernels.available()``.
        precision: ``"high"`` (default: float32 with the sums and differences that keep its digits, 16-bit features by
            tensor cores where there are kernels; float64 stays float64), ``"float32"`` (16-bit features are made
            float32 before anything else) or ``"exact"`` (float64 inside, for tests and debugging).

    Raises: BackendError for a backend that cannot run here, or another precision.
    """
    with ExitStack() as stack:
        try:
            stack.enter_context(dispatch.backend(name, precision))
        except dispatch.BackendUnavailableError as error:
            raise BackendError(str(error)) from None
        yield


def kernels_read_16_bits(device: torch.device) -> bool:
    """Whether 16-bit features are worth keeping. Elsewhere each term would round its gradient, and nothing be won."""
    return device.type == "cuda" or dispatch.asked() == "triton"


def safe_sqrt(x: Float[Tensor, "*any"]) -> Float[Tensor, "*any"]:
    """Square root whose value and gradient at 0 are 0."""
    return _run("safe_sqrt", x)


def unit_rows(x: Float[Tensor, "*b n d"]) -> Float[Tensor, "*b n d"]:
    """Rows scaled to unit length; a zero row stays zero, without gradient. Shapes: (*b, n, d) -> the same."""
    return _run("unit_rows", x)


def center_normalize(x: Float[Tensor, "*b n d"]) -> Float[Tensor, "*b n d"]:
    """Rows centred and scaled to unit length; a constant row becomes zero, without gradient."""
    return _run("center_normalize", x)


def gram(x: Float[Tensor, "*b n d"], y: Float[Tensor, "*b m d"]) -> Float[Tensor, "*b n m"]:
    """Inner products of two node sets. Raises: ShapeError if the widths differ."""
    return _run("gram", x, same_width(x, y))


def squared_distances(x: Float[Tensor, "*b n d"], y: Float[Tensor, "*b m d"]) -> Float[Tensor, "*b n m"]:
    """Squared distances of two node sets; equal nodes have no gradient. Raises: ShapeError if the widths differ."""
    return _run("squared_distances", x, same_width(x, y))


def same_width(x: _Sources, y: _Targets) -> _Targets:
    """The second node set, once it is known to have the features of the first."""
    if x.shape[-1] != y.shape[-1]:
        raise ShapeError(
            f"source nodes have {x.shape[-1]} features, target nodes {y.shape[-1]}: project one side first"
        )
    return y


def row_map(x: _Sources, relation: str) -> _Sources:
    """Rows whose inner products are the relation "gram", "cosine" or "pearson"; float32 at least."""
    return widen(x) if relation == "gram" else _run("unit_rows" if relation == "cosine" else "center_normalize", x)


def similarity(
    x: _Sources, y: _Targets | None = None, relation: str = "cosine", gamma: float = 1.0
) -> Float[Tensor, "*b n m"]:
    """The matrix of a relation; normalisation, product and what follows it together.

    Args:
        x, y: source and target nodes.
        relation: ``"gram"``, ``"cosine"`` (default), ``"pearson"``, ``"euclidean"``, ``"squared_euclidean"`` or
            ``"rbf"``.
        gamma: inverse squared width of ``"rbf"``.
    Raises: ShapeError, OptionError.
    """
    check_known(relation, RELATIONS, "relation")
    return _run("similarity", x, None if y is None else same_width(x, y), relation, gamma)


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
    return _run("edge_sum", xs, ys, xt, yt, relation, penalty)


def unit_edge_sum(
    xs: _Sources, ys: _Targets | None, xt: Float[Tensor, "*b n e"], yt: Float[Tensor, "*b m e"] | None
) -> Float[Tensor, ""]:
    r"""Squared difference of two Gram matrices with rows of unit length (SP, ICKD): :math:`\sum_i 2 - 2 c_i`.

    Args:
        xs, ys, xt, yt: as of :func:`edge_sum`.
    Raises: ShapeError.
    """
    check_nodes(xs, ys, xt, yt)
    return _run("unit_edge_sum", xs, ys, xt, yt)


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
        target: ``"identity"`` or ``"gram"`` (the teacher's own relations with ``everyone``).
        offset: position of the first teacher node among the student nodes.
        everyone: teacher nodes of all ranks; ``None``: these.
    Raises: ShapeError, OptionError.
    """
    check_known(relation, INNER, "relation of a node term")
    check_known(target, {"identity", "gram"}, "node target")
    same_width(teacher, student)
    others = len(teacher) if everyone is None else len(everyone)
    if not 0 <= offset <= len(student) - len(teacher) or (target == "gram" and others != len(student)):
        raise ShapeError(
            f"{len(teacher)} teacher nodes from position {offset} do not lie among {len(student)} student nodes: "
            "give the student nodes of all ranks (and for target 'gram' everyone's teacher nodes)"
        )
    _alike(student, teacher, everyone)
    return _run("node_sum", student, teacher, relation, target, offset, everyone)


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
    return _run("ega_sums", student, teacher, relation)


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


def row_kl(
    student: Float[Tensor, "*b n m"], teacher: Float[Tensor, "*b n m"], temperature: float = 1.0
) -> Float[Tensor, "*b n"]:
    """KL divergence of the rows' softmax, teacher's from student's."""
    return _run("row_kl", student, teacher, temperature)


def row_pearson(student: Float[Tensor, "*b n m"], teacher: Float[Tensor, "*b n m"]) -> Float[Tensor, "*b n"]:
    """Correlation of corresponding rows."""
    return _run("row_pearson", student, teacher)


def damped_row_pearson(
    student: Float[Tensor, "*b n m"], teacher: Float[Tensor, "*b n m"], eps: float
) -> Float[Tensor, "*b n"]:
    """Correlation of corresponding rows with eps added to the denominator (DIST)."""
    return _run("damped_row_pearson", student, teacher, eps)


def damped_column_pearson(
    student: Float[Tensor, "*b n m"], teacher: Float[Tensor, "*b n m"], eps: float
) -> Float[Tensor, "*b m"]:
    """Correlation of corresponding columns with eps added to the denominator (DIST), without a transposed copy."""
    return _run("damped_column_pearson", student, teacher, eps)


def dist_sums(
    student: Float[Tensor, "n c"], teacher: Float[Tensor, "n c"], temperature: float = 1.0, eps: float = 1e-8
) -> Float[Tensor, " 2"]:
    """DIST's sums of 1 - correlation, over samples and over classes, of the softmax of class scores.

    Args:
        student, teacher: class scores, of equal shape.
        temperature: T > 0 of the softmax; default 1.
        eps: beside the lengths; default 1e-8.
    Raises: ShapeError, OptionError.
    Example: ``dist_sums(scores, scores)`` is 0 up to eps.
    """
    if student.shape != teacher.shape or student.ndim != 2:
        raise ShapeError(f"expected scores (n, c) twice, found {tuple(student.shape)} and {tuple(teacher.shape)}")
    _alike(student, teacher)
    return _run("dist_sums", student, teacher, positive_temperature(temperature), eps)


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
    return _run("edge_kl", xs, ys, xt, yt, relation, positive_temperature(temperature), gamma)


def edge_pkt(
    xs: Float[Tensor, "*b n d"],
    ys: Float[Tensor, "*b m d"] | None,
    xt: Float[Tensor, "*b n e"],
    yt: Float[Tensor, "*b m e"] | None,
) -> Float[Tensor, ""]:
    """PKT's divergence of the rows of (cosine + 1) / 2, summed. Args, Raises: as of :func:`edge_kl`."""
    check_nodes(xs, ys, xt, yt)
    return _run("edge_pkt", xs, ys, xt, yt)


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
    return _run("info_nce", x, y, positives, relation, positive_temperature(temperature))


def knn(x: Float[Tensor, "n d"], k: int) -> tuple[Int[Tensor, "n k"], Float[Tensor, "n k"]]:
    """Each row's k nearest other rows: indices and squared distances, nearest first.

    Raises: ShapeError if there are fewer than k other rows.
    """
    return _pair("knn", _with_neighbours(x, k), k)


def rkd_distance(student: Float[Tensor, "n d"], teacher: Float[Tensor, "n e"]) -> Float[Tensor, ""]:
    """Mean smooth-L1 difference of both sides' distances, each divided by their mean; the widths may differ."""
    return _run("rkd_distance", student, teacher)


def rkd_angle(
    student: Float[Tensor, "n d"], teacher: Float[Tensor, "n e"], first: int = 0, last: int | None = None
) -> Float[Tensor, ""]:
    """Smooth-L1 differences of the angles at the nodes in [first, last), summed; divide by n^3 for RKD's mean.

    Angles are cosines; those at two equal nodes are 0, without gradient. The widths may differ. Only the eager
    backend asked for by name holds all of them at once.
    """
    return _run("rkd_angle", student, teacher, first, len(student) if last is None else last)


def joint_gram(
    student: Float[Tensor, "n d"], teacher: Float[Tensor, "n e"], relation: str = "gram"
) -> Float[Tensor, "k k"]:
    """Gram matrix of both networks' joined rows (:func:`join_mapped`), of which the upper triangle holds."""
    return _run("joint_gram", student, teacher, relation)


def gram_blocks(gram: Float[Tensor, "k k"], student: int, teacher: int) -> Grams:
    """The blocks of a joint Gram matrix of rows of these widths, with what sums over all pairs of nodes they give."""
    return split(gram, student, teacher)


def _with_neighbours(x: Tensor, k: int) -> Tensor:
    if not 0 < k < len(x):
        raise ShapeError(f"a graph of {len(x)} nodes has {len(x) - 1} neighbours for each, {k} were asked for: lower k")
    return x


def positive_temperature(temperature: float) -> float:
    """The temperature itself. Raises: OptionError unless it is > 0."""
    if not temperature > 0:
        raise OptionError(f"the temperature of a softmax is > 0, found {temperature}")
    return temperature
