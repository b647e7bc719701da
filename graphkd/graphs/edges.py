"""Implicit edges: two node sets and a relation; a matrix exists only where somebody asks for it."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Final

import torch

from graphkd import distributed, ops
from graphkd.errors import GraphError, OptionError
from graphkd.graphs import spectral
from graphkd.graphs.relations import RELATIONS, Relation, is_pairwise, name_of
from graphkd.registry import Registry
from graphkd.typing import Float, Int, Scope, Tensor

Normalise = Callable[[Tensor], Tensor]
NORMALISERS: Registry[Normalise] = Registry("edge normaliser")
NORMALISERS.register("unit")(ops.unit_rows)  # SP, ICKD: rows of unit length


@NORMALISERS.register("center")
def _center(edges: Tensor) -> Tensor:
    """Subtract each row's mean: removes the offset that a narrow cone of features adds to every edge."""
    return edges - edges.mean(-1, keepdim=True)


@NORMALISERS.register("sum")
def _sum(edges: Tensor) -> Tensor:
    """PKT: rows as distributions; a row of zeros stays as it is."""
    total = edges.sum(-1, keepdim=True)
    return edges / torch.where(total == 0, 1.0, total)


@NORMALISERS.register("mean")
def _mean(edges: Tensor) -> Tensor:
    """RKD: divide by the mean of the positive entries, over all ranks; no division where there is none."""
    positive = edges > 0
    count = distributed.total(positive.sum().to(edges.dtype))
    total = distributed.total(torch.where(positive, edges, 0.0).sum())
    return edges / torch.where(count > 0, total / count.clamp_min(1), 1.0)


@NORMALISERS.register("max")
def _max(edges: Tensor) -> Tensor:
    """IRG: divide by the largest entry, over all ranks; no division where all are 0."""
    largest = distributed.maximum(edges.amax() if edges.numel() else edges.sum())  # a rank may have no sample
    return edges / torch.where(largest > 0, largest, 1.0)


ROW_RULES: Final = frozenset(NORMALISERS.get(name) for name in ("unit", "center", "sum"))
"""Normalisers that look at one row at a time."""

_DISTANCES: Final = frozenset({"euclidean", "squared_euclidean"})
_BLOCK: Final = 2**22  # entries of the matrix that are held while the nearest nodes are looked for


def _directions(rows: Float[Tensor, "n d"]) -> Float[Tensor, "n e"]:
    """Rows of unit length, and zero rows at a right angle to all of them: the nearest has the largest product."""
    return torch.cat([rows, (rows == 0).all(-1, keepdim=True).to(rows.dtype)], -1)


_NEAREST_BY_DISTANCE: Final[dict[str, Callable[[Tensor], Tensor]]] = {
    "cosine": lambda x: _directions(ops.unit_rows(x)),
    "pearson": lambda x: _directions(ops.center_normalize(x)),
    **dict.fromkeys(("euclidean", "squared_euclidean", "rbf"), lambda x: x),
}
"""Relation -> rows whose nearest by distance are those of the strongest relation."""


@dataclass(frozen=True)
class Edges:
    r"""All edges between two node sets, :math:`E = \text{normalise}(\text{relation}(X, Y))`, not computed until asked.

    Args:
        source, target: nodes of this rank.
        relation: pure function of the two.
        normalise: whole-matrix or row rule of a method, or ``None``.
        weight: of each entry of the comparison, broadcastable to the matrix, or ``None``.
        name: of the relation, for messages and fused forms.
        scopes: of source and target nodes.
        shared_nodes: targets that the first rank holds before those of its samples.
        offset: position of the first source among the targets, where both are the same node type.
        rows_of_ranks: targets that each rank holds, where they reach those of all ranks (:meth:`gathered`).

    Shapes: source (*b, n, d), target (*b, m, d).
    Example: ``Edges(x, x, relations.cosine).dense()``
    """

    source: Float[Tensor, "*b n d"]
    target: Float[Tensor, "*b m d"]
    relation: Relation
    normalise: Normalise | None = None
    weight: Tensor | None = None
    name: str = ""
    scopes: tuple[Scope, Scope] = ("batch", "batch")
    shared_nodes: int = 0
    offset: int = 0
    rows_of_ranks: tuple[int, ...] = ()

    @property
    def targets(self) -> Float[Tensor, "*b m d"]:
        """Target nodes of all ranks, gathered when they are first asked for: by every rank, or by none."""
        return self._everyone if self.rows_of_ranks else self.target

    @cached_property  # its lock is nothing that torch.compile can trace: only where there are ranks
    def _everyone(self) -> Float[Tensor, "*b m d"]:
        return distributed.gather(self.target, list(self.rows_of_ranks))

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape (*b, n, m) that the matrix would have."""
        return (*self.source.shape[:-1], sum(self.rows_of_ranks) or self.target.shape[-2])

    @property
    def among(self) -> int:
        """Nodes of all ranks that are related to each other; 0 for those of this rank alone, or with others."""
        return sum(self.rows_of_ranks) if self.source is self.target else 0

    @property
    def key(self) -> str:
        """Names the computation for fused forms; weighted edges have a key of their own."""
        ours = self.name in RELATIONS and RELATIONS.get(self.name) is self.relation
        rule = "" if self.normalise is None else getattr(self.normalise, "__name__", "custom")
        return f"{self.name if ours else 'custom'}/{rule}{'/weighted' if self.weight is not None else ''}"

    def dense(self) -> Float[Tensor, "*b n m"]:
        """The matrix, without weights. Costs its full size in memory."""
        edges = self.relation(self.source, self.targets)
        return edges if self.normalise is None else self.normalise(edges)

    @property
    def by_rows(self) -> bool:
        """Whether rows of the matrix can be computed by themselves."""
        return is_pairwise(self.relation) and (self.normalise is None or self.normalise in ROW_RULES)

    def rows(self, start: int, stop: int) -> "Edges":
        """The edges of some of the sources."""
        weight = self.weight
        if weight is not None and weight.ndim > 1 and weight.shape[-2] > 1:
            weight = weight[..., start:stop, :]
        source, targets = self.source[..., start:stop, :], self.targets  # gathered once, not by each block
        return replace(self, source=source, target=targets, weight=weight, offset=self.offset + start, rows_of_ranks=())

    def gathered(self, sizes: list[int]) -> "Edges":
        """The same edges with the target nodes of all ranks; sources stay this rank's. Nothing is exchanged yet."""
        if self.scopes[1] != "batch" or distributed.world_size() == 1:
            return self
        rows = [sizes[0] + self.shared_nodes, *sizes[1:]]
        offset = sum(rows[: distributed.rank()])
        return replace(self, offset=offset, rows_of_ranks=tuple(rows))

    def topk(self, k: int) -> tuple[Int[Tensor, "2 e"], Float[Tensor, " e"]]:
        """Each target's k largest edges in PyG's format (edge_index, edge_attr).

        ``edge_index[0]`` holds sources, ``edge_index[1]`` the targets that receive their messages. Every target has
        in-degree k: a convolution over the edges of a node set with itself aggregates each node's own k neighbours, the
        node itself usually among them. For messages from classes to samples, connect the classes with the samples. The
        largest distances are those of the farthest nodes: see :meth:`nearest`.

        Within one node set the kNN op finds the neighbours for cosine, pearson and rbf (and for the nearest by
        distance). Other relations of pairs are computed by blocks. A rule, and a relation that is not pairwise, cost
        the whole matrix. Edges have a gradient, the choice of neighbours has none.

        Raises: OptionError if there are fewer than k sources; GraphError for a batch of graphs, and for edges that
            reach the targets of all ranks.
        """
        self._check_one_graph()
        if not 0 < k <= len(self.source):
            raise OptionError(f"each target has {len(self.source)} edges, {k} were asked for: lower k")
        return self._picked(k, largest=True, loops=True)

    def nearest(self, k: int | None = None) -> tuple[Int[Tensor, "2 e"], Float[Tensor, " e"]]:
        """Each target's k nearest sources other than itself, nearest first, in the format of :meth:`topk`.

        The nearest have the largest edges, or the smallest distances.

        Args:
            k: sources of each target, >= 1, or all where there are fewer; ``None`` (default) for all, as a matrix.

        Raises: OptionError for k < 1; GraphError as of :meth:`topk`.
        """
        self._check_one_graph()
        others = len(self.source) - (self.source is self.target)
        if k is not None and k < 1:
            raise OptionError(f"k is a number of neighbours >= 1, or None for all, found {k}")
        return self._picked(others if k is None else min(k, others), name_of(self.relation) not in _DISTANCES, False)

    def _picked(self, k: int, largest: bool, loops: bool) -> tuple[Int[Tensor, "2 e"], Float[Tensor, " e"]]:
        """k sources of each target by their edges, with a target itself among them or not, and these edges."""
        if k >= len(self.source) - 1 or self.normalise is not None or not is_pairwise(self.relation):
            edges = self.dense()
            index = _to_receivers(self._sorted(edges.detach(), k, largest, loops))
            return index, edges[index[0], index[1]]
        with torch.no_grad():
            index = _to_receivers(self._found(k, largest, loops))
        sources, targets = self.source[index[0]], self.target[index[1]]
        return index, self.relation(sources.unsqueeze(-2), targets.unsqueeze(-2)).flatten()

    def _found(self, k: int, largest: bool, loops: bool) -> Int[Tensor, "m k"]:
        """The sources without the matrix: by the kNN op where it knows the relation, else by blocks."""
        name = name_of(self.relation)
        near = self.source is self.target and name in _NEAREST_BY_DISTANCE and largest == (name not in _DISTANCES)
        if near and k > loops:
            found = ops.knn(_NEAREST_BY_DISTANCE[name](self.source), k - loops)[0]
            return torch.cat([torch.arange(len(found), device=found.device).unsqueeze(1), found], 1) if loops else found
        step = max(1, _BLOCK // len(self.source))
        starts = range(0, len(self.target), step)
        blocks = ((i, self.relation(self.source, self.target[i : i + step])) for i in starts)
        return torch.cat([self._sorted(edges, k, largest, loops, i) for i, edges in blocks])

    def _sorted(
        self, edges: Float[Tensor, "n m"], k: int, largest: bool, loops: bool, first: int = 0
    ) -> Int[Tensor, "m k"]:
        """The k sources of each target, strongest first, given the edges of the targets from place ``first``."""
        strength = edges.mT.clone() if largest else -edges.mT
        if self.source is self.target and not loops:
            strength.diagonal(first).fill_(-torch.inf)
        return strength.topk(k, dim=1).indices

    def laplacian(self) -> Float[Tensor, "*b n n"]:
        """Symmetric normalised Laplacian of the non-negative part of these edges, without self-loops.

        Raises: GraphError unless source and target are the same nodes.
        """
        return spectral.laplacian(self._square())

    def spectral_embedding(self, k: int) -> Float[Tensor, "*b n k"]:
        """The k smoothest non-trivial eigenvectors of the Laplacian, one column each.

        Raises: OptionError if there are fewer than k of them; GraphError unless source and target are the same nodes.
        """
        return spectral.spectral_embedding(self._square(), k)

    def _square(self) -> Tensor:
        if self.source is not self.target:
            raise GraphError(f"a Laplacian needs edges of a node set with itself, found {self}")
        return self.dense()

    def _check_one_graph(self) -> None:
        if self.source.ndim != 2:
            raise GraphError(f"expected one graph (n, d), found a batch {tuple(self.source.shape)}: take one of them")
        if self.rows_of_ranks:
            raise GraphError(
                "these edges reach the targets of all ranks from this rank's sources alone: ask before gather"
            )

    def __repr__(self) -> str:
        return f"Edges({self.name or self.relation}, {' x '.join(map(str, self.shape))}, implicit)"


def _to_receivers(sources: Int[Tensor, "m k"]) -> Int[Tensor, "2 e"]:
    """PyG's edge_index, given the sources that each target has messages from."""
    receivers = torch.arange(len(sources), device=sources.device).repeat_interleave(sources.shape[1])
    return torch.stack([sources.flatten(), receivers])
