"""Spectral graphs: Laplacians by hand, their lowest vectors, neighbours, attention."""

import pytest
import torch
from torch import tensor
from torch.testing import assert_close

from graphkd.errors import OptionError, ShapeError
from graphkd.graphs.spectral import LAPLACIANS, NON_NEGATIVE, SpectralGraph, knn_mask, laplacian, spectral_embedding
from tests.spectral_case import F64, affinity, randn


def test_three_laplacians_of_a_path_by_hand():  # degrees 1, 2, 1
    w = tensor([[0.0, 1, 0], [1, 0, 1], [0, 1, 0]], dtype=F64)
    root = 0.5**0.5
    expected = {
        "unnormalised": [[1, -1, 0], [-1, 2, -1], [0, -1, 1]],
        "sym": [[1, -root, 0], [-root, 1, -root], [0, -root, 1]],
        "random_walk": [[1, -1, 0], [-0.5, 1, -0.5], [0, -1, 1]],
    }
    for name, matrix in expected.items():
        assert_close(LAPLACIANS.get(name)(w, True).laplacian, tensor(matrix, dtype=F64))


@pytest.mark.parametrize("name", sorted(LAPLACIANS))
@pytest.mark.parametrize("rule", sorted(NON_NEGATIVE))
def test_lowest_vectors_are_orthonormal_eigenvectors_without_the_trivial_one(name, rule):
    graph = SpectralGraph(nonnegative=rule, laplacian=name)
    operator = graph.operator(graph.weights(affinity()))
    vectors, values = operator.lowest(3)
    assert_close(vectors.mT @ vectors, torch.eye(3, dtype=F64).expand(2, 3, 3))
    full = torch.linalg.eigvals(operator.laplacian).real.sort(-1).values
    assert_close(values, full[:, 1:4])  # eigenvalue 0 is left out
    image = operator.laplacian @ vectors  # the span is invariant, also where the columns were orthonormalised
    assert_close(image, vectors @ (vectors.mT @ image))


def test_symmetric_laplacian_has_its_spectrum_in_0_2_and_its_trivial_vector():
    weights = SpectralGraph().weights(affinity())
    lap = laplacian(affinity())
    values = torch.linalg.eigvalsh(lap)
    assert values.min() > -1e-12
    assert values.max() < 2 + 1e-12
    assert (lap @ weights.sum(-1, keepdim=True).sqrt()).abs().max() < 1e-12


def test_two_components_are_told_apart_by_one_vector():
    block, zero = torch.ones(3, 3, dtype=F64), torch.zeros(3, 3, dtype=F64)
    vector = spectral_embedding(torch.cat([torch.cat([block, zero], 1), torch.cat([zero, block], 1)]), 1)[:, 0]
    assert_close(vector[:3], vector[:1].expand(3))
    assert_close(vector[:3], -vector[3:])


def test_keeping_the_trivial_vector_offers_one_more():
    kept = SpectralGraph(drop_trivial=False)
    operator = kept.operator(kept.weights(affinity(4)))
    assert operator.lowest(4)[1][:, 0].abs().max() < 1e-12
    with pytest.raises(OptionError, match="a graph of 4 nodes has 4 eigenvectors, 5 were asked for: lower k"):
        operator.lowest(5)


def test_non_negativity_by_hand():
    e = tensor([-1.0, 0.0, 0.5])
    expected = {"relu": [0, 0, 0.5], "abs": [1, 0, 0.5], "shift": [0, 0.5, 0.75], "exp": [torch.e**-2, 1, torch.e]}
    for name, values in expected.items():
        assert_close(NON_NEGATIVE.get(name)(e), tensor(values))


def test_neighbours_come_from_the_teacher():
    mask = knn_mask(tensor([[0.0, 3, 1, 0], [3, 0, 2, 0], [1, 2, 0, 0.5], [0, 0, 0.5, 0]]), 1)
    assert mask.tolist() == [
        [True, True, False, False],
        [True] * 3 + [False],
        [False] + [True] * 3,
        [False, False, True, True],
    ]
    student, teacher = SpectralGraph(neighbours=2)(affinity(seed=0), affinity(seed=1))
    kept = knn_mask(SpectralGraph().weights(affinity(seed=1)), 2)
    assert (student.laplacian[~kept] == 0).all()
    assert (teacher.laplacian[~kept] == 0).all()
    with pytest.raises(OptionError, match="7 nodes has 6 neighbours for each, 7 were asked for"):
        SpectralGraph(neighbours=7)(affinity(), affinity())
    with pytest.raises(ShapeError, match="graph of 7 nodes gives no neighbours to the student's 5"):
        SpectralGraph(neighbours=2)(affinity(5), affinity(7))


def test_attention_on_weights_and_self_loops_and_precision():
    attention = randn(2, 7, seed=4).exp()
    root = attention.sqrt()
    weighed = SpectralGraph()(affinity(seed=0), affinity(seed=1), attention)[0]
    by_hand = SpectralGraph().weights(affinity(seed=0)) * root[:, :, None] * root[:, None, :]
    assert_close(weighed.laplacian, laplacian(by_hand))
    assert_close(
        SpectralGraph(self_loops=True).weights(affinity()).diagonal(dim1=1, dim2=2), torch.ones(2, 7, dtype=F64)
    )
    assert SpectralGraph(dtype=F64)(affinity().float(), affinity().float())[0].laplacian.dtype == F64
