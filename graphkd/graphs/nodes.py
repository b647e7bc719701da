r"""How a sample's or proxy's embedding and logits become a node.

A node of normalised blocks is :math:`[\sqrt\rho\, n(f)\,;\,\sqrt{1-\rho}\, n(z)]`: the inner product of two such nodes
is :math:`\rho\, r(f, f') + (1-\rho)\, r(z, z')`, so one Gram of the joined nodes gives the weighted mean of the blocks'
correlations and no block is outvoted by the scale of the other.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import sqrt

import torch

from graphkd.errors import OptionError
from graphkd.graphs.relations import RowMap
from graphkd.registry import Registry
from graphkd.typing import Float, Tensor

Parts = dict[str, Tensor]


def unmasked(logits: Float[Tensor, "n c"]) -> Float[Tensor, "n c"]:
    """Logits as vectors: a class masked by -inf takes the mean of the others, so that it counts 0 in a correlation."""
    masked = logits == -torch.inf
    total, count = torch.where(masked, 0.0, logits).sum(-1, keepdim=True), (~masked).sum(-1, keepdim=True)
    return torch.where(masked, total / count.clamp_min(1), logits)


@dataclass(frozen=True)
class Nodes:
    """Blocks of features and logits, each normalised by itself, joined with shares rho and 1 - rho.

    Args:
        rho: share of the feature block in [0, 1]; a block of share 0 is not read at all.
        row_map: normaliser of a block (from ``relations.ROW_MAPS``).

    Shapes: embedding (n, d), logits (n, c), proxies (c, d) -> {part: (n, any)}.
    """

    rho: float
    row_map: RowMap

    def __post_init__(self) -> None:
        if not 0 <= self.rho <= 1:
            raise OptionError(f"rho is the share of the feature block, a number in [0, 1], found {self.rho}")

    @property
    def shares(self) -> dict[str, float]:
        """Part of the graph -> its share of the loss; one part, unnamed, unless the graphs are separate."""
        return {"": 1.0}

    @property
    def reads(self) -> frozenset[str]:
        """Which of ``embedding``, ``logits`` and ``proxies`` matter."""
        return frozenset(name for name, share in (("embedding", self.rho), ("logits", 1 - self.rho)) if share > 0)

    def __call__(
        self, embedding: Float[Tensor, "n d"] | None, logits: Float[Tensor, "n c"] | None, proxies: Tensor | None
    ) -> Parts:
        """The nodes, ready for a Gram."""
        return {"": torch.cat(list(self._blocks(embedding, logits).values()), dim=-1)}

    def _blocks(self, embedding: Tensor | None, logits: Tensor | None) -> Parts:
        vector = None if logits is None else unmasked(logits)
        shares = {":features": (self.rho, embedding), ":logits": (1 - self.rho, vector)}
        return {
            name: sqrt(share) * self.row_map(block)
            for name, (share, block) in shares.items()
            if share and block is not None
        }


class SeparateNodes(Nodes):
    """Two graphs, one of features and one of logits, whose losses are weighed by rho and 1 - rho."""

    @property
    def shares(self) -> dict[str, float]:
        """One part for each block."""
        return {name: share for name, share in ((":features", self.rho), (":logits", 1 - self.rho)) if share > 0}

    def __call__(self, embedding: Tensor | None, logits: Tensor | None, proxies: Tensor | None) -> Parts:
        """Nodes of each graph, of unit length."""
        shares = self.shares
        return {name: block / sqrt(shares[name]) for name, block in self._blocks(embedding, logits).items()}


class RawNodes(Nodes):
    """The plain concatenation, normalised as a whole: logits of scale 100 drown the features (kept for comparison)."""

    @property
    def reads(self) -> frozenset[str]:
        """Both blocks, whatever rho."""
        return frozenset({"embedding", "logits"})

    def __call__(self, embedding: Tensor | None, logits: Tensor | None, proxies: Tensor | None) -> Parts:
        """The nodes, of unit length."""
        assert embedding is not None
        assert logits is not None
        return {"": self.row_map(torch.cat([embedding, unmasked(logits)], dim=-1))}


class FusedNodes(RawNodes):
    r"""Features moved towards the proxies they predict, :math:`f + \sum_c \mathrm{softmax}(z)_c\, t_c`."""

    @property
    def reads(self) -> frozenset[str]:
        """Both blocks and the proxies."""
        return frozenset({"embedding", "logits", "proxies"})

    def __call__(self, embedding: Tensor | None, logits: Tensor | None, proxies: Tensor | None) -> Parts:
        """The nodes, of unit length."""
        assert embedding is not None
        assert logits is not None
        assert proxies is not None
        return {"": self.row_map(embedding + logits.softmax(-1) @ proxies)}


NODES: Registry[Callable[[float, RowMap], Nodes]] = Registry("node composition")
NODES.register("blocks")(Nodes)
NODES.register("separate")(SeparateNodes)
NODES.register("raw")(RawNodes)
NODES.register("fused")(FusedNodes)


@NODES.register("features")
def _features(rho: float, row_map: RowMap) -> Nodes:
    return Nodes(1.0, row_map)


@NODES.register("logits")
def _logits(rho: float, row_map: RowMap) -> Nodes:
    return Nodes(0.0, row_map)
