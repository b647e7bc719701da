"""Laplacians and their lowest vectors by hand, neighbours, attention; filters where eigenvalues are equal."""

import pytest
import torch
from torch import tensor
from torch.testing import assert_close

from graphkd.errors import OptionError, ShapeError
from graphkd.graphs.spectral import (
    COMMUTE,
    LAPLACIANS,
    NON_NEGATIVE,
    NONE,
    Operator,
    SpectralGraph,
    clean_affinity,
    decomposed,
    diffusion,
    eigenpairs,
    knn_mask,
    laplacian,
    spectral_embedding,
    spectral_filter,
)
from tests.graphs.spectral_case import F64, affinity, from_spectrum, randn


def positive(n, seed=0):
    return torch.rand(n, n, dtype=F64, generator=torch.Generator().manual_seed(seed))


def test_cleaning_by_hand():
    edges = tensor([[5.0, 2.0], [-1.0, 7.0]])
    assert_close(clean_affinity(edges), tensor([[0.0, 1.0], [1.0, 0.0]]))


def test_laplacian_by_hand():
    assert_close(laplacian(torch.ones(2, 2)), tensor([[1.0, -1.0], [-1.0, 1.0]]))
    assert_close(laplacian(torch.ones(1, 1)), tensor([[1.0]]))


def test_spectral_embedding_by_hand():  # two pairs, weakly joined: the sign splits them
    w = tensor([[0, 1, 0.01, 0], [1, 0, 0, 0.01], [0.01, 0, 0, 1], [0, 0.01, 1, 0]], dtype=F64)
    vector = spectral_embedding(w, 1).flatten()
    assert_close(vector * vector[0].sign(), tensor([0.5, 0.5, -0.5, -0.5], dtype=F64))


@pytest.mark.parametrize("n", [2, 5, 20])
def test_spectrum_lies_between_0_and_2_and_the_degrees_are_its_null_vector(n):
    weights = positive(n)
    matrix = laplacian(weights)
    values = torch.linalg.eigvalsh(matrix)
    assert values.min() > -1e-12
    assert values.max() < 2 + 1e-12
    assert_close(matrix @ clean_affinity(weights).sum(-1).sqrt(), torch.zeros(n, dtype=F64))


def test_embedding_is_orthonormal_and_smoothest_first():
    weights = positive(8)
    vectors, matrix = spectral_embedding(weights, 4), laplacian(weights)
    assert_close(vectors.T @ vectors, torch.eye(4, dtype=F64))
    assert_close(vectors.T @ matrix @ vectors, torch.diag(torch.linalg.eigvalsh(matrix)[1:5]))


def test_two_components_give_the_vector_that_tells_them_apart():
    w = torch.block_diag(torch.ones(3, 3), torch.ones(2, 2)).to(F64)
    vector = spectral_embedding(w, 1).flatten()
    assert (vector[:3].sign() == -vector[3].sign()).all()
    assert_close(vector @ laplacian(w) @ vector, tensor(0.0, dtype=F64))


def test_nodes_without_edges_stay_finite():
    w = positive(4)
    w[2] = w[:, 2] = 0
    assert_close(laplacian(w)[2], tensor([0, 0, 1, 0], dtype=F64))
    assert spectral_embedding(w, 3).isfinite().all()
    assert spectral_embedding(torch.zeros(3, 3), 2).isfinite().all()


def test_batches_of_graphs():
    w = torch.stack([positive(4), positive(4, seed=1)])
    assert_close(laplacian(w), torch.stack([laplacian(each) for each in w]))
    assert spectral_embedding(w, 2).shape == (2, 4, 2)


def test_laplacian_gradcheck():
    assert torch.autograd.gradcheck(laplacian, (positive(4) + 0.1).requires_grad_())


def test_a_nan_goes_out():
    w = positive(3)
    w[0, 1] = torch.nan
    assert laplacian(w)[0].isnan().any()


@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("decompose", [torch.linalg.eigh, torch.linalg.eigvalsh, torch.linalg.svdvals])
def test_only_the_broken_matrix_of_a_batch_decomposes_to_nan(decompose, bad):
    matrices = positive(4).expand(3, 4, 4).clone()
    matrices[1, 2, 3] = bad
    found, (expected, *_) = decomposed(decompose, matrices), decomposed(decompose, matrices[0])
    for part in found:
        assert part[1].isnan().all()
    assert_close(found[0][0], expected)
    assert_close(found[0][2], expected)


@pytest.mark.parametrize("k", [0, 3])
def test_number_of_eigenvectors(k):
    with pytest.raises(OptionError, match=f"3 nodes has 2 non-trivial eigenvectors, {k} were asked for: lower k"):
        spectral_embedding(positive(3), k)


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


@pytest.mark.parametrize("scaling", [NONE, COMMUTE, diffusion(1), diffusion(3)])
@pytest.mark.parametrize("values", [[0.2, 0.5, 0.9, 1.1, 1.6], [0.4, 0.4, 0.4, 1.1, 1.6], [0.2, 0.4, 0.4, 1.1, 1.1]])
def test_the_filters_gradient_is_right_also_for_equal_kept_eigenvalues(scaling, values):
    operator, _ = from_spectrum(values)
    weight = randn(1, 5, 5, seed=9)

    def value(matrix):
        matrix = (matrix + matrix.mT) / 2
        return (spectral_filter(Operator(matrix, matrix, 5), 3, scaling) * weight).sum()

    assert torch.autograd.gradcheck(value, operator.symmetric.clone().requires_grad_(), atol=1e-5)


def test_plain_autograd_breaks_where_the_filter_does_not():
    matrix = torch.diag(tensor([0.5, 0.5, 1.2, 1.5], dtype=F64)).requires_grad_()
    weight = randn(4, 4, seed=1)
    vectors = torch.linalg.eigh(matrix).eigenvectors[:, :2]
    (plain,) = torch.autograd.grad((vectors @ vectors.mT * weight).sum(), matrix)
    assert not torch.isfinite(plain).all()
    (ours,) = torch.autograd.grad((spectral_filter(Operator(matrix, matrix, 4), 2) * weight).sum(), matrix)
    assert torch.isfinite(ours).all()
    assert ours.abs().max() > 0.1


def test_a_tie_across_the_cut_is_bounded_by_the_gap():
    operator, _ = from_spectrum([0.2, 0.5, 0.5, 1.0])
    for gap in (1e-3, 1e-1):
        matrix = operator.symmetric.clone().requires_grad_()
        spectral_filter(Operator(matrix, matrix, 4), 2, gap=gap).square().mul(randn(4, 4, seed=2)).sum().backward()
        assert matrix.grad.abs().max() < 20 / gap


def test_eigenpairs_have_the_right_gradient_and_survive_a_tie():
    operator, _ = from_spectrum([0.2, 0.5, 0.9, 1.3])

    def value(matrix):
        values, vectors = eigenpairs(Operator((matrix + matrix.mT) / 2, (matrix + matrix.mT) / 2, 4), 2)
        return (values * tensor([1.0, 2.0], dtype=F64)).sum() + (vectors.square() * randn(4, 2, seed=7)).sum()

    assert torch.autograd.gradcheck(value, operator.symmetric.clone().requires_grad_())
    tied = from_spectrum([0.5, 0.5, 0.9, 1.3])[0].symmetric.clone().requires_grad_()
    (grad,) = torch.autograd.grad(value(tied), tied)
    assert torch.isfinite(grad).all()
