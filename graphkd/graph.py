"""A graph with typed nodes and implicit edges, on PyG's HeteroData."""

import warnings
from collections.abc import Callable
from math import prod
from typing import Any

from graphkd.edges import NORMALISERS, Edges, Normalise
from graphkd.errors import GraphError, ShapeError
from graphkd.registry import unknown
from graphkd.relations import RELATIONS, Relation
from graphkd.typing import Float, Scope, Tensor

with warnings.catch_warnings():
    warnings.simplefilter("ignore", FutureWarning)  # PyG scripts functions while it is imported, which torch gives up
    from torch_geometric.data import HeteroData
    from torch_geometric.data.storage import EdgeStorage

EdgeType = tuple[str, str, str]
_NEED_A_MATRIX = {"edge_index", "edge_attr", "edge_weight", "adj", "adj_t"}


def _needs_a_matrix(key: str) -> GraphError:
    return GraphError(
        f"{key} needs a matrix and these edges are implicit: use graph.edges(...).topk(k) for PyG's "
        "edge_index and edge_attr, or .dense() for the whole matrix"
    )


class _ImplicitStorage(EdgeStorage):  # type: ignore[misc]
    def __getattr__(self, key: str) -> Any:
        if key in _NEED_A_MATRIX:
            raise _needs_a_matrix(key)
        return super().__getattr__(key)


class Graph(HeteroData):  # type: ignore[misc]
    """Typed nodes and implicit edges of one network's view of a batch.

    A node store holds ``x``, ``num_nodes`` and ``scope``: ``"batch"`` nodes belong to samples and are gathered over
    ranks, ``"shared"`` ones (class proxies) are the same on every rank, ``"image"`` ones (channels, tokens) live inside
    a sample.

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
        store.x, store.num_nodes, store.scope, store.shared_nodes = x, x.shape[-2], scope, shared_nodes
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

        Raises: GraphError for a node type that is absent, ShapeError for different widths, UnknownNameError.
        """
        nodes = self._nodes(source), self._nodes(target)
        name = relation if isinstance(relation, str) else getattr(relation, "__name__", type(relation).__name__)
        function = RELATIONS.resolve(relation)
        x, y = (store.x for store in nodes)
        if x.shape[-1] != y.shape[-1] and function in (RELATIONS.get(each) for each in RELATIONS):
            raise ShapeError(
                f"{source!r} nodes have {x.shape[-1]} features, {target!r} nodes {y.shape[-1]}: project one side first"
            )
        rule = None if normalise is None else NORMALISERS.resolve(normalise)
        scopes = nodes[0].scope, nodes[1].scope
        shared = nodes[1].shared_nodes
        self[source, name, target].implicit = Edges(x, y, function, rule, weight, name, scopes, shared)
        return self

    def edges(self, source: str, relation: str, target: str) -> Edges:
        """The implicit edges of that type. Raises: GraphError that lists those that exist."""
        if (source, relation, target) not in self.edge_types:
            known = ", ".join(map(str, self.edge_types)) or "none"
            raise GraphError(
                f"no edges {(source, relation, target)} in this graph: connect them first. Present: {known}"
            )
        found: Edges = self[source, relation, target].implicit
        return found

    @property
    def num_edges(self) -> int:
        """Number of implicit edges, over all types."""
        return sum(prod(self.edges(*each).shape) for each in self.edge_types)

    def gather(self, sizes: list[int]) -> "Graph":
        """Let every edge type reach the targets of all ranks."""
        for edge_type in self.edge_types:
            store = self[edge_type]
            store.implicit = store.implicit.gathered(sizes)
        return self

    def _nodes(self, name: str) -> Any:
        if name not in self.node_types:
            raise unknown("node type", name, list(self.node_types))
        store = self[name]
        if "scope" not in store:  # set as graph["sample"].x = ...
            self.add(name, store.x)
        return store

    def collect(self, key: str, allow_empty: bool = False) -> Any:
        """PyG's ``<key>_dict``; a key that needs a matrix raises, because the edges here are implicit."""
        if key in _NEED_A_MATRIX and self.edge_types:
            raise _needs_a_matrix(key)
        return super().collect(key, allow_empty)

    def get_edge_store(self, src: str, rel: str, dst: str) -> "_ImplicitStorage":
        """PyG's store of one edge type."""
        key = (src, rel, dst)
        if key not in self._edge_store_dict:
            self._edge_store_dict[key] = _ImplicitStorage(_parent=self, _key=key)
        store: _ImplicitStorage = self._edge_store_dict[key]
        return store

    def apply(self, func: Callable[[Tensor], Tensor], *args: str) -> "Graph":
        """PyG's change of every tensor (``to``, ``clone``, ...); the edges follow their nodes."""
        super().apply(func, *args)
        if not args or "x" in args:
            for store in self.edge_stores:
                store.implicit = store.implicit.map_tensors(func)
        return self

    def subgraph(self, subset_dict: dict[str, Tensor]) -> "Graph":
        """Not for implicit edges. Raises: GraphError."""
        raise GraphError("PyG cuts a subgraph out of edge_index: select rows of the nodes and connect a new Graph")
