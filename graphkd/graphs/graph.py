"""A graph with typed nodes and implicit edges, on PyG's HeteroData."""

import warnings
from collections.abc import Mapping
from copy import copy
from dataclasses import dataclass, field, replace
from math import prod
from typing import Any

import torch

from graphkd import distributed
from graphkd.errors import GraphError, ShapeError
from graphkd.graphs.edges import NORMALISERS, Edges, Normalise
from graphkd.graphs.relations import RELATIONS, Relation
from graphkd.registry import unknown
from graphkd.typing import Float, Scope, Tensor

with warnings.catch_warnings():
    warnings.simplefilter("ignore", FutureWarning)  # PyG scripts functions while it is imported, which torch gives up
    from torch_geometric.data import HeteroData
    from torch_geometric.data.storage import EdgeStorage

EdgeType = tuple[str, str, str]
_NEED_A_MATRIX = {"edge_index", "edge_attr", "edge_weight", "adj", "adj_t"}


@dataclass(frozen=True)
class _Implicit:
    """How two node types are related: an :class:`Edges` without its tensors.

    Args:
        name, relation, normalise: as of :class:`Edges`.
        sizes: samples of each rank, where the edges reach the targets of all.
        made: the latest such edges, whose targets may have been gathered: not again by each term.
    """

    name: str
    relation: Relation
    normalise: Normalise | None
    sizes: tuple[int, ...] = ()
    made: dict[str, Edges] = field(default_factory=dict, init=False, compare=False)

    def __repr__(self) -> str:
        return self.name


class _EdgeStorage(EdgeStorage):  # type: ignore[misc]
    def __getitem__(self, key: str) -> Any:
        if key in _NEED_A_MATRIX and "implicit" in self._mapping:  # ``key in store`` comes here too
            raise GraphError(
                f"{key} needs a matrix and these edges are implicit: use graph.edges(...).topk(k) for PyG's "
                "edge_index and edge_attr, .dense() for the whole matrix, or graph.to_pyg(k) for a HeteroData of both"
            )
        return super().__getitem__(key)

    @property
    def num_edges(self) -> int:
        """Entries of the matrix that these edges would be."""
        count: int = prod(self._parent().edges(*self._key).shape) if "implicit" in self else super().num_edges
        return count


class Graph(HeteroData):  # type: ignore[misc]
    """Typed nodes and implicit edges of one network's view of a batch.

    A node store holds ``x`` and ``scope``: ``"batch"`` nodes belong to samples and are gathered over ranks,
    ``"shared"`` ones (class proxies) are the same on every rank, ``"image"`` ones (channels, tokens) live inside a
    sample. Edges are those of the present ``x``, whoever changed it: a transform of PyG, ``to``, an assignment.

    Explicit edges, a store with an ``edge_index``, are PyG's as in any ``HeteroData``. What asks implicit ones for a
    matrix raises GraphError: :meth:`to_pyg` makes them explicit.

    Example::

        graph = Graph()
        graph.add("sample", embedding)
        graph.add("class", proxies, scope="shared")
        graph.connect("sample", "cosine", "class")
        graph.edges("sample", "cosine", "class").dense()
    """

    def add(self, name: str, x: Float[Tensor, "*b n d"], scope: Scope = "batch", *, shared_nodes: int = 0) -> "Graph":
        """Add nodes of one type; returns the graph.

        Args:
            name: the node type.
            x: the nodes.
            scope: who shares them; default ``"batch"``.
            shared_nodes: shared nodes among ``"batch"`` ones, held by the first rank before its samples; default 0.
        """
        store = self[name]
        store.x, store.scope, store.shared_nodes = x, scope, shared_nodes
        return self

    def connect(
        self,
        source: str,
        relation: str | Relation,
        target: str,
        *,
        normalise: str | Normalise | None = None,
        weight: Tensor | None = None,
    ) -> "Graph":
        """Relate every source node to every target node; nothing is computed yet.

        Args:
            source, target: node types that are in the graph.
            relation: name or function.
            normalise: name or function of a matrix rule; default none.
            weight: of each entry, broadcastable to (*b, n, m); default none.

        Raises: UnknownNameError for a name that is absent, ShapeError for different widths, GraphError for nodes of
            several graphs that PyG's Batch joined.
        """
        x, y = self._nodes(source).x, self._nodes(target).x
        name = relation if isinstance(relation, str) else getattr(relation, "__name__", type(relation).__name__)
        function = RELATIONS.resolve(relation)
        if x.shape[-1] != y.shape[-1] and function in (RELATIONS.get(each) for each in RELATIONS):
            raise ShapeError(
                f"{source!r} nodes have {x.shape[-1]} features, {target!r} nodes {y.shape[-1]}: project one side first"
            )
        rule = None if normalise is None else NORMALISERS.resolve(normalise)
        store = self[source, name, target]
        store.implicit, store.weight = _Implicit(name, function, rule), weight
        return self

    def edges(self, source: str, relation: str, target: str) -> Edges:
        """The implicit edges of that type, between the present nodes.

        Raises: GraphError that lists those that exist.
        """
        key = (source, relation, target)
        if key not in self._implicit:
            known = ", ".join(map(str, self._implicit)) or "none"
            raise GraphError(f"no edges {key} in this graph: connect them first. Present: {known}")
        x, y, store = self._nodes(source), self._nodes(target), self[key]
        how, weight = store.implicit, store.get("weight")
        scopes, shared = (x.scope, y.scope), y.shared_nodes
        edges = Edges(x.x, y.x, how.relation, how.normalise, weight, how.name, scopes, shared)
        if not how.sizes:
            return edges
        last: Edges | None = how.made.get("gathered")
        if last is None or last.source is not x.x or last.target is not y.x or last.weight is not weight:
            last = how.made["gathered"] = edges.gathered(list(how.sizes))
        return last

    def gather(self, sizes: list[int]) -> "Graph":
        """Let every edge type reach the targets of all ranks."""
        if distributed.world_size() > 1:
            for key in self._implicit:
                self[key].implicit = replace(self[key].implicit, sizes=tuple(sizes))
        return self

    def to_pyg(self, k: int | None = 8) -> HeteroData:
        """A plain HeteroData whose edges are explicit: for PyG's layers, transforms and loaders.

        ``edge_index`` points from a node's neighbours to the node, the direction of PyG's messages, and ``edge_attr``
        holds the edges, with their gradient. A node is no neighbour of itself. Whatever else the stores hold is kept,
        explicit edges included, but for scopes and the weights of a comparison.

        Args:
            k: neighbours of each target, or all where there are fewer (:meth:`graphkd.graphs.edges.Edges.nearest`: no
                matrix of all pairs for our relations); default 8. ``None``: the complete graph.

        Raises: OptionError for k < 1; GraphError for batches of graphs (b, n, d) and for gathered edges.
        Example: ``SAGEConv(64, 64)(data["sample"].x, data["sample", "cosine", "sample"].edge_index)``
        """
        data = HeteroData()
        for store in self.stores:
            copied = data._global_store if store._key is None else data[store._key]
            ours = ("implicit", "weight") if "implicit" in store else ("scope", "shared_nodes")
            for name, value in store.items():
                if name not in ours:
                    copied[name] = value
        for key in self._implicit:
            data[key].edge_index, data[key].edge_attr = self.edges(*key).nearest(k)
        return data

    @property
    def _implicit(self) -> list[EdgeType]:
        return [key for key, store in self.edge_items() if "implicit" in store]

    def _nodes(self, name: str) -> Any:
        if name not in self.node_types:
            raise unknown("node type", name, list(self.node_types))
        store = self[name]
        if "ptr" in store:
            raise GraphError(f"{name!r} holds nodes of several graphs, joined by PyG's Batch: connect each by itself")
        if "scope" not in store:  # set as graph["sample"].x = ...
            self.add(name, store.x)
        return store

    @classmethod
    def from_dict(cls, mapping: Mapping[Any, Mapping[str, Any]]) -> "Graph":
        """The reverse of PyG's ``to_dict``."""
        graph = cls()
        for key, values in mapping.items():
            store = graph._global_store if key == "_global_store" else graph[key]
            for name, value in values.items():
                setattr(store, name, value)
        return graph

    def get_edge_store(self, src: str, rel: str, dst: str) -> _EdgeStorage:
        """PyG's store of one edge type."""
        key = (src, rel, dst)
        if key not in self._edge_store_dict:
            self._edge_store_dict[key] = _EdgeStorage(_parent=self, _key=key)
        store: _EdgeStorage = self._edge_store_dict[key]
        return store

    def stores_as(self, data: "Graph") -> "Graph":
        """PyG's first step of joining graphs. Raises: GraphError for implicit edges, which would relate them."""
        if data._implicit:
            raise GraphError(
                f"PyG joins graphs by their edge_index, and edges {data._implicit[0]} are implicit: "
                "join graph.to_pyg(k) of each"
            )
        super().stores_as(data)
        return self

    def validate(self, raise_on_error: bool = True) -> bool:
        """PyG's check of types and explicit edges; implicit ones always fit."""
        data = copy(self)
        for key in self._implicit:
            del data[key]["implicit"]
            data[key].edge_index = torch.empty(2, 0, dtype=torch.long)
        return bool(super(Graph, data).validate(raise_on_error))

    def __cat_dim__(self, key: str, value: Any, store: Any = None, *args: Any, **kwargs: Any) -> Any:
        """Nodes of a batch of graphs (b, n, d) are counted, and joined, along n."""
        if key == "x" and getattr(value, "ndim", 0) > 2:
            return -2
        return super().__cat_dim__(key, value, store, *args, **kwargs)
