import pytest
import torch
from torch import tensor
from torch.testing import assert_close

from graphkd.errors import OptionError, UnknownNameError
from graphkd.graphs.nodes import NODES, Nodes
from graphkd.graphs.relations import ROW_MAPS, pearson

F64 = torch.float64
PEARSON = ROW_MAPS.get("pearson")


def randn(*shape, seed=0):
    return torch.randn(*shape, dtype=F64, generator=torch.Generator().manual_seed(seed))


def blocks(n=5, seed=0):
    """Embeddings (n, 6) and logits (n, 4) of very different scale."""
    return randn(n, 6, seed=seed), 100 * randn(n, 4, seed=seed + 10) + 20


def make(name, rho=0.5, row_map=PEARSON):
    return NODES.get(name)(rho, row_map)


def test_blocks_by_hand():
    cosine = ROW_MAPS.get("cosine")
    (node,) = Nodes(0.25, cosine)(tensor([[3.0, 4.0]]), tensor([[0.0, 9.0]]), None).values()
    assert_close(node, tensor([[0.3, 0.4, 0.0, 0.75**0.5]]))


@pytest.mark.parametrize("rho", [0.0, 0.3, 0.5, 1.0])
def test_the_gram_of_blocks_is_the_weighted_mean_of_correlations(rho):
    (f, z), (g, y) = blocks(), blocks(3, seed=1)
    x, other = (make("blocks", rho)(*each, None)[""] for each in ((f, z), (g, y)))
    assert_close(x @ other.T, rho * pearson(f, g) + (1 - rho) * pearson(z, y))


def test_block_identity():  # prg.md, invariant 3: correlation of the concatenation of normalised blocks
    (f, z), (g, y) = blocks(), blocks(3, seed=1)
    joined = [torch.cat([PEARSON(a), PEARSON(b)], dim=-1) for a, b in ((f, z), (g, y))]
    assert_close(pearson(*joined), (pearson(f, g) + pearson(z, y)) / 2, rtol=0, atol=1e-15)
    ours = [make("blocks")(*each, None)[""] for each in ((f, z), (g, y))]
    assert_close(ours[0] @ ours[1].T, pearson(*joined), rtol=0, atol=1e-15)


@pytest.mark.parametrize("name", ["blocks", "separate"])
def test_blocks_ignore_their_own_scale_and_shift(name):
    f, z = blocks()
    nodes, moved = make(name)(f, z, None), make(name)(3 * f + 1, 0.01 * z - 2, None)
    for part in nodes:
        assert_close(moved[part], nodes[part])


@pytest.mark.parametrize(
    ("name", "rho", "shares", "reads"),
    [
        ("blocks", 0.3, {"": 1}, {"embedding", "logits"}),
        ("blocks", 1.0, {"": 1}, {"embedding"}),
        ("blocks", 0.0, {"": 1}, {"logits"}),
        ("features", 0.3, {"": 1}, {"embedding"}),
        ("logits", 0.3, {"": 1}, {"logits"}),
        ("separate", 0.3, {":features": 0.3, ":logits": 0.7}, {"embedding", "logits"}),
        ("separate", 1.0, {":features": 1}, {"embedding"}),
        ("raw", 1.0, {"": 1}, {"embedding", "logits"}),
        ("fused", 1.0, {"": 1}, {"embedding", "logits", "proxies"}),
    ],
)
def test_shares_and_what_is_read(name, rho, shares, reads):
    nodes = make(name, rho)
    assert nodes.shares == pytest.approx(shares)
    assert nodes.reads == reads
    assert nodes(*blocks(), randn(4, 6)).keys() == shares.keys()


@pytest.mark.parametrize("name", list(NODES))
def test_nodes_have_unit_length(name):
    for x in make(name)(*blocks(), randn(4, 6)).values():
        assert_close(x.norm(dim=-1), torch.ones(5, dtype=F64))


def test_separate_graphs_carry_the_blocks():
    f, z = blocks()
    nodes = make("separate", 0.3)(f, z, None)
    assert_close(nodes[":features"], PEARSON(f))
    assert_close(nodes[":logits"], PEARSON(z))


def test_raw_logits_drown_the_features():
    f, z = blocks()
    assert (make("raw")(f, z, None)[""][:, :6].square().sum(-1) < 0.25).all()  # of 1


def test_fused_by_hand():
    logits, proxies = tensor([[0.0, 0.0]]), tensor([[2.0, 0.0], [0.0, 4.0]])
    (node,) = make("fused", row_map=ROW_MAPS.get("gram"))(tensor([[1.0, 1.0]]), logits, proxies).values()
    assert_close(node, tensor([[2.0, 3.0]]))


@pytest.mark.parametrize("name", list(NODES))
@pytest.mark.parametrize("n", [1, 3])
def test_gradcheck(name, n):
    inputs = [each.requires_grad_() for each in (randn(n, 6), randn(n, 4, seed=1), randn(4, 6, seed=2))]
    nodes = make(name)
    assert torch.autograd.gradcheck(lambda *parts: torch.cat(list(nodes(*parts).values()), -1), inputs)


@pytest.mark.parametrize("name", list(NODES))
def test_dead_rows_stay_finite(name):
    inputs = [torch.zeros(shape, dtype=F64, requires_grad=True) for shape in ((2, 6), (2, 4), (4, 6))]
    sum(x.sum() for x in make(name)(*inputs).values()).backward()
    assert all(each.grad is None or each.grad.isfinite().all() for each in inputs)


@pytest.mark.parametrize("rho", [-0.1, 1.1, float("nan")])
def test_rho_is_a_share(rho):
    with pytest.raises(OptionError, match=rf"rho is the share of the feature block, a number in \[0, 1\], found {rho}"):
        make("blocks", rho)


def test_a_miss_is_suggested():
    with pytest.raises(UnknownNameError, match="unknown node composition 'block'; did you mean 'blocks'"):
        NODES.get("block")
