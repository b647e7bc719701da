import copy
from functools import partial

import pytest
import torch
from torch import tensor
from torch.testing import assert_close
from torch_geometric.data import Batch, HeteroData
from torch_geometric.loader import DataLoader
from torch_geometric.nn import GATConv, GCNConv, GraphSAGE, HeteroConv, SAGEConv, to_hetero
from torch_geometric.transforms import AddSelfLoops, Compose, NormalizeFeatures, RemoveIsolatedNodes, ToUndirected

from graphkd.errors import GraphError, ShapeError, UnknownNameError
from graphkd.graphs.graph import Graph
from graphkd.graphs.relations import cosine, rbf

SAMPLE_CLASS = ("sample", "cosine", "class")


def randn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def graph():
    graph = Graph().add("sample", randn(4, 3)).add("class", randn(5, 3, seed=1), scope="shared")
    return graph.connect("sample", "cosine", "class").connect("sample", "gram", "sample")


def test_edges_by_hand():
    graph = Graph().add("sample", tensor([[3.0, 4.0]])).add("class", tensor([[1.0, 0.0]]), scope="shared")
    assert_close(graph.connect("sample", "cosine", "class").edges(*SAMPLE_CLASS).dense(), tensor([[0.6]]))


def test_what_pyg_knows_of_it(graph):
    assert graph.num_nodes == 9
    assert graph.num_edges == 4 * 5 + 4 * 4
    assert graph.metadata() == (["sample", "class"], [SAMPLE_CLASS, ("sample", "gram", "sample")])
    assert graph.num_node_features == {"sample": 3, "class": 3}
    assert graph["class"].scope == "shared"
    assert graph.validate()
    assert set(graph.x_dict) == {"sample", "class"}


def test_repr_shows_that_edges_are_implicit(graph):
    assert "(sample, cosine, class)={ implicit=cosine }" in repr(graph)


@pytest.mark.parametrize("change", [lambda g: g.to("meta"), lambda g: g.clone().to("meta")])
def test_edges_move_with_their_nodes(graph, change):
    moved = change(graph)
    for name in ("sample", "class"):
        assert moved[name].x.device.type == "meta"
    edges = moved.edges(*SAMPLE_CLASS)
    assert edges.source.device.type == edges.target.device.type == "meta"


@pytest.mark.parametrize("copied", [lambda g: g.clone(), copy.deepcopy])
def test_a_copy_is_independent_and_equal(graph, copied):
    other = copied(graph)
    assert_close(other.edges(*SAMPLE_CLASS).dense(), graph.edges(*SAMPLE_CLASS).dense())
    other.edges(*SAMPLE_CLASS).source.zero_()
    assert (graph["sample"].x != 0).all()
    again = other.edges("sample", "gram", "sample")
    assert again.source is again.target


def test_nodes_set_the_way_of_pyg_are_samples():
    graph = Graph()
    graph["sample"].x = randn(4, 3)
    graph.connect("sample", "pearson", "sample")
    assert graph["sample"].scope == "batch"
    assert graph.num_nodes == 4


def test_a_function_is_a_relation():
    graph = Graph().add("sample", randn(4, 3)).connect("sample", cosine, "sample")
    assert_close(graph.edges("sample", "cosine", "sample").dense(), cosine(randn(4, 3), randn(4, 3)))
    graph.connect("sample", partial(rbf, gamma=2.0), "sample")
    assert_close(graph.edges("sample", "partial", "sample").dense(), rbf(randn(4, 3), randn(4, 3), 2.0))


def test_a_function_may_relate_different_widths():
    graph = Graph().add("a", randn(4, 3)).add("b", randn(5, 2))
    graph.connect("a", lambda x, y: x[:, :2] @ y.mT, "b")
    assert graph.num_edges == 20


def test_a_rule_and_weights_are_kept():
    weight = torch.ones(4, 4)
    graph = Graph().add("sample", randn(4, 3)).connect("sample", "gram", "sample", normalise="unit", weight=weight)
    edges = graph.edges("sample", "gram", "sample")
    assert_close(edges.dense().norm(dim=-1), torch.ones(4))
    assert edges.weight is weight


def test_gather_in_one_process_changes_nothing(graph):
    edges = graph.gather([4]).edges(*SAMPLE_CLASS)
    assert edges.targets is graph["class"].x
    assert edges.shape == (4, 5)


def test_edges_follow_their_nodes(graph):
    changed = NormalizeFeatures()(graph)
    assert changed.edges(*SAMPLE_CLASS).source is changed["sample"].x is not graph["sample"].x
    graph["sample"].x = randn(7, 3, seed=2)
    edges = graph.edges("sample", "gram", "sample")
    assert edges.source is edges.target is graph["sample"].x
    assert graph["sample"].num_nodes == 7
    assert graph.num_edges == 7 * 5 + 7 * 7
    assert graph["sample", "gram", "sample"].num_edges == 49
    graph.rename("sample", "image")
    assert graph.edges("image", "cosine", "class").source is graph["image"].x


def test_nodes_of_a_batch_of_graphs_are_counted_along_their_own_dimension():
    graph = Graph().add("channel", randn(2, 5, 3), "image").connect("channel", "cosine", "channel")
    assert graph.num_nodes == 5
    assert graph.num_edges == 2 * 5 * 5


@pytest.mark.parametrize(
    "ask",
    [
        lambda g: g.edge_index_dict,
        lambda g: g.edge_attr_dict,
        lambda g: g[SAMPLE_CLASS].edge_index,
        lambda g: g[SAMPLE_CLASS].edge_attr,
        lambda g: g.to_homogeneous(),
        lambda g: g.is_undirected(),
        lambda g: g.has_self_loops(),
        lambda g: g.subgraph({"sample": tensor([0, 1])}),
        lambda g: Graph.from_dict(g.to_dict())[SAMPLE_CLASS].edge_index,
        ToUndirected(),
        AddSelfLoops(),
        RemoveIsolatedNodes(),
    ],
)
def test_queries_that_need_a_matrix_point_to_topk_and_dense(graph, ask):
    with pytest.raises(
        GraphError, match=r"edges are implicit: use graph.edges\(...\).topk\(k\) for PyG's.*\.dense\(\)"
    ):
        ask(graph)


def test_pyg_joins_no_graphs_of_implicit_edges(graph):
    with pytest.raises(GraphError, match=r"and edges \('sample', 'cosine', 'class'\) are implicit: join graph.to_pyg"):
        Batch.from_data_list([graph, graph])


def explicit():
    graph = Graph().add("a", randn(3, 2)).add("b", randn(2, 2), "shared")
    graph["a", "to", "a"].edge_index = tensor([[0, 1], [1, 2]])
    graph["a", "to", "b"].edge_index = tensor([[0, 2], [1, 0]])
    return graph


def test_explicit_edges_are_those_of_any_heterodata():
    graph = explicit()
    for copied in (graph.clone(), graph.to("cpu"), copy.copy(graph), Graph.from_dict(graph.to_dict())):
        assert copied.num_edges == 4
        assert_close(copied.edge_index_dict, graph.edge_index_dict)
    assert graph.to_homogeneous().edge_index.tolist() == [[0, 1, 0, 2], [1, 2, 4, 3]]
    assert graph.subgraph({"a": tensor([0, 1])})["a", "to", "a"].edge_index.tolist() == [[0], [1]]
    undirected = ToUndirected()(graph)
    assert undirected["a", "to", "a"].is_undirected()


def test_a_batch_of_explicit_graphs_is_pygs_and_is_not_connected():
    batch = Batch.from_data_list([explicit(), explicit()])
    assert batch["a", "to", "a"].edge_index.tolist() == [[0, 1, 3, 4], [1, 2, 4, 5]]
    assert_close(batch[1]["a"].x, randn(3, 2))
    with pytest.raises(GraphError, match="'a' holds nodes of several graphs, joined by PyG's Batch: connect each"):
        batch.connect("a", "cosine", "a")


def test_explicit_edges_beside_implicit_ones_are_listed_by_neither_name():
    graph = explicit().connect("a", "cosine", "a")
    assert graph.num_edges == 4 + 9
    with pytest.raises(GraphError, match=r"Present: \('a', 'cosine', 'a'\)$"):
        graph.edges("a", "to", "a")
    with pytest.raises(GraphError, match="edge_index needs a matrix and these edges are implicit"):
        _ = graph.edge_index_dict


def test_to_pyg_by_hand():
    graph = Graph().add("s", tensor([[0.0], [1.0], [3.0]])).add("c", tensor([[2.0], [9.0]]), "shared")
    graph["s"].y = tensor([0, 1, 1])
    graph.connect("s", "euclidean", "s", weight=torch.ones(3, 3)).connect("c", "euclidean", "s")
    data = graph.to_pyg(k=1)
    assert type(data) is HeteroData
    assert data.validate()
    assert set(data["s"].keys()) == {"x", "y"}
    assert set(data["s", "euclidean", "s"].keys()) == {"edge_index", "edge_attr"}
    assert data["s", "euclidean", "s"].edge_index.tolist() == [[1, 0, 1], [0, 1, 2]]  # from a neighbour to its node
    assert data["s", "euclidean", "s"].edge_attr.tolist() == [1, 1, 2]
    assert data["c", "euclidean", "s"].edge_index.tolist() == [[0, 0, 0], [0, 1, 2]]
    complete = graph.to_pyg(k=None)
    assert complete["s", "euclidean", "s"].num_edges == 6
    assert complete["c", "euclidean", "s"].edge_attr.tolist() == [2, 9, 1, 8, 1, 6]
    assert graph.to_pyg().num_edges == complete.num_edges  # as many neighbours as there are


@pytest.fixture
def data():
    graph = Graph().add("sample", randn(9, 4)).add("class", randn(5, 4, seed=1), scope="shared")
    graph.connect("sample", "cosine", "sample").connect("class", "pearson", "sample").connect("sample", "gram", "class")
    return graph.to_pyg(k=3)


def test_layers_of_pyg_take_it(data):
    x, edges = data["sample"].x, data["sample", "cosine", "sample"]
    rows = x / x.norm(dim=1, keepdim=True)
    nearest = (rows @ rows.T).fill_diagonal_(-2).topk(3).indices
    layer = SAGEConv(4, 6)
    assert_close(layer(x, edges.edge_index), layer.lin_l(x[nearest].mean(1)) + layer.lin_r(x))
    weights = edges.edge_attr.abs()
    layer = GCNConv(4, 6, normalize=False, bias=False)
    assert_close(layer(x, edges.edge_index, weights), (weights.view(9, 3, 1) * layer.lin(x)[nearest]).sum(1))
    convolve = HeteroConv({key: GATConv(4, 6, edge_dim=1, add_self_loops=False) for key in data.edge_types})
    out = convolve(data.x_dict, data.edge_index_dict, data.edge_attr_dict)
    assert {name: each.shape for name, each in out.items()} == {"sample": (9, 6), "class": (5, 6)}


def test_a_homogeneous_network_is_made_heterogeneous_for_it(data):
    network = to_hetero(GraphSAGE((-1, -1), 6, num_layers=1), data.metadata())
    out = network(data.x_dict, data.edge_index_dict)
    assert {name: each.shape for name, each in out.items()} == {"sample": (9, 6), "class": (5, 6)}


def test_transforms_of_pyg_take_it(data):
    changed = Compose([NormalizeFeatures(), AddSelfLoops("edge_attr"), ToUndirected(), RemoveIsolatedNodes()])(data)
    assert changed.validate()
    assert changed["sample", "cosine", "sample"].is_undirected()
    assert changed["sample", "cosine", "sample"].has_self_loops()
    assert changed["class", "rev_gram", "sample"].num_edges == 15
    homogeneous = changed.to_homogeneous()
    assert homogeneous.num_nodes == 14
    assert homogeneous.edge_attr.shape == (homogeneous.num_edges,)


def test_loaders_of_pyg_take_it(data):
    batch = next(iter(DataLoader([data, data.clone()], batch_size=2)))
    assert batch.num_edges == 2 * data.num_edges
    assert batch["class", "pearson", "sample"].edge_index.amax(1).tolist() == [9, 17]
    assert_close(batch[1].edge_index_dict, data.edge_index_dict)


def test_absent_edges_list_those_that_exist(graph):
    with pytest.raises(GraphError, match=r"no edges \('sample', 'rbf', 'class'\).*Present: \('sample', 'cosine', 'cl"):
        graph.edges("sample", "rbf", "class")
    with pytest.raises(GraphError, match="Present: none"):
        Graph().edges("a", "b", "c")


@pytest.mark.parametrize(
    ("arguments", "rule", "message"),
    [
        (
            ("sampel", "cosine", "class"),
            None,
            "unknown node type 'sampel'; did you mean 'sample'. Known: sample, class",
        ),
        (("sample", "cosin", "class"), None, "unknown relation 'cosin'; did you mean 'cosine'"),
        (("sample", "gram", "sample"), "units", "unknown edge normaliser 'units'; did you mean 'unit'"),
    ],
)
def test_unknown_names(graph, arguments, rule, message):
    with pytest.raises(UnknownNameError, match=message):
        graph.connect(*arguments, normalise=rule)


def test_widths_are_checked_at_the_door():
    graph = Graph().add("sample", randn(4, 3)).add("class", randn(5, 2))
    with pytest.raises(ShapeError, match="'sample' nodes have 3 features, 'class' nodes 2: project one side first"):
        graph.connect("sample", "cosine", "class")
