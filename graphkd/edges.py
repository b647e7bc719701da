"""Implicit edges: two node sets and a relation; a matrix exists only where somebody asks for it."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Final

import torch

from graphkd import distributed, ops, spectral
from graphkd.errors import GraphError, OptionError
from graphkd.registry import Registry
from graphkd.relations import RELATIONS, ExceptItself, Relation, is_pairwise
from graphkd.ring import forms
from graphkd.ring.pairs import Pairs
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
    largest = distributed.maximum(edges.amax())
    return edges / torch.where(largest > 0, largest, 1.0)


ROW_RULES: Final = frozenset(NORMALISERS.get(name) for name in ("unit", "center", "sum"))
"""Normalisers that look at one row at a time."""

PASSES: Final[dict[Normalise, Callable[[Pairs], Pairs]]] = {
    NORMALISERS.get("unit"): forms.unit,
    NORMALISERS.get("center"): forms.center,
    NORMALISERS.get("sum"): forms.by_sum,
    NORMALISERS.get("mean"): forms.by_mean,
    NORMALISERS.get("max"): forms.by_maximum,
}
"""Normaliser -> the same of edges whose targets pass by in blocks."""


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

    @property
    def of_block(self) -> Callable[[Tensor, Tensor, int, int], Tensor] | None:
        """Edges of sources with some of the targets, given the places of the first of either; without the rule.

        ``None`` for a relation that has to see all targets.
        """
        if isinstance(self.relation, ExceptItself) and is_pairwise(self.relation.relation):
            return self.relation.block
        return (lambda x, y, first, start: self.relation(x, y)) if is_pairwise(self.relation) else None

    @property
    def passes(self) -> Callable[[Pairs], Pairs] | None:
        """The rule for edges whose targets pass by in blocks; ``None`` for one that has to see all targets."""
        return forms.unchanged if self.normalise is None else PASSES.get(self.normalise)

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

    def map_tensors(self, change: Callable[[Tensor], Tensor]) -> "Edges":
        """The same edges with every tensor changed; a node set related to itself stays one."""
        source = change(self.source)
        target = source if self.target is self.source else change(self.target)
        return replace(self, source=source, target=target, weight=None if self.weight is None else change(self.weight))

    def topk(self, k: int) -> tuple[Int[Tensor, "2 e"], Float[Tensor, " e"]]:
        """Each source's k largest edges (for a distance, the farthest), in PyG's format (edge_index, edge_attr).

        Raises: OptionError if there are fewer than k targets; GraphError for batched graphs.
        """
        edges = self._matrix()
        if not 0 < k <= edges.shape[1]:
            raise OptionError(f"each source has {edges.shape[1]} edges, {k} were asked for: lower k")
        values, targets = edges.topk(k, dim=1)
        sources = torch.arange(len(edges), device=edges.device).repeat_interleave(k)
        return torch.stack([sources, targets.flatten()]), values.flatten()

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

    def _matrix(self) -> Tensor:
        if self.source.ndim != 2:
            raise GraphError(f"expected one graph (n, d), found a batch {tuple(self.source.shape)}: take one of them")
        return self.dense()

    def __repr__(self) -> str:
        return f"Edges({self.name or self.relation}, {' x '.join(map(str, self.shape))}, implicit)"
