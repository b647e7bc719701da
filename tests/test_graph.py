import copy
from functools import partial

import pytest
import torch
from torch import tensor
from torch.testing import assert_close

from graphkd import alignments, ops
from graphkd.errors import GraphError, ShapeError, UnknownNameError
from graphkd.graph import Graph
from graphkd.relations import cosine, rbf

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
    assert "(sample, cosine, class)={ implicit=Edges(cosine, 4 x 5, implicit) }" in repr(graph)


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
    before = graph.edges(*SAMPLE_CLASS)
    assert graph.gather([4]).edges(*SAMPLE_CLASS) is before


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
    ],
)
def test_queries_that_need_a_matrix_point_to_topk_and_dense(graph, ask):
    with pytest.raises(
        GraphError, match=r"edges are implicit: use graph.edges\(...\).topk\(k\) for PyG's.*\.dense\(\)"
    ):
        ask(graph)


def test_pyg_takes_what_topk_gives(graph):
    from torch_geometric.data import HeteroData

    plain = HeteroData({name: {"x": x} for name, x in graph.x_dict.items()})
    plain[SAMPLE_CLASS].edge_index, plain[SAMPLE_CLASS].edge_attr = graph.edges(*SAMPLE_CLASS).topk(2)
    assert plain.validate()
    assert plain[SAMPLE_CLASS].num_edges == 8


def test_a_subgraph_is_refused(graph):
    with pytest.raises(GraphError, match="select rows of the nodes and connect a new Graph"):
        graph.subgraph({"sample": tensor([0, 1])})


def test_absent_edges_list_those_that_exist(graph):
    with pytest.raises(GraphError, match=r"no edges \('sample', 'rbf', 'class'\).*Present: \('sample', 'cosine', 'cl"):
        graph.edges("sample", "rbf", "class")
    with pytest.raises(GraphError, match="Present: none"):
        Graph().edges("a", "b", "c")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("sampel", "cosine", "class"), "unknown node type 'sampel'; did you mean 'sample'. Known: sample, class"),
        (("sample", "cosin", "class"), "unknown relation 'cosin'; did you mean 'cosine'"),
    ],
)
def test_unknown_names(graph, arguments, message):
    with pytest.raises(UnknownNameError, match=message):
        graph.connect(*arguments)


def test_unknown_rule(graph):
    with pytest.raises(UnknownNameError, match="unknown edge normaliser 'units'; did you mean 'unit'"):
        graph.connect("sample", "gram", "sample", normalise="units")


def test_widths_are_checked_at_the_door():
    graph = Graph().add("sample", randn(4, 3)).add("class", randn(5, 2))
    with pytest.raises(ShapeError, match="'sample' nodes have 3 features, 'class' nodes 2: project one side first"):
        graph.connect("sample", "cosine", "class")


def test_building_and_aligning_compiles_without_a_break():
    def loss(student, teacher):
        graphs = [Graph().add("sample", x).connect("sample", "pearson", "sample") for x in (student, teacher)]
        edges = [graph.gather([4]).edges("sample", "pearson", "sample") for graph in graphs]
        return ops.align(*edges, alignments.FROBENIUS)

    x, y = randn(4, 3), randn(4, 6, seed=1)
    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
    gradients = []
    for function in (loss, compiled):
        leaf = x.clone().requires_grad_()
        value = function(leaf, y)
        value.backward()
        gradients.append((value.detach(), leaf.grad))
    assert_close(*gradients)
