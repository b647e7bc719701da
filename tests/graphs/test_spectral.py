import pytest
import torch
from torch import tensor
from torch.testing import assert_close

from graphkd.errors import OptionError
from graphkd.graphs.spectral import clean_affinity, decomposed, laplacian, spectral_embedding

F64 = torch.float64


def affinity(n, seed=0):
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
    weights = affinity(n)
    matrix = laplacian(weights)
    values = torch.linalg.eigvalsh(matrix)
    assert values.min() > -1e-12
    assert values.max() < 2 + 1e-12
    assert_close(matrix @ clean_affinity(weights).sum(-1).sqrt(), torch.zeros(n, dtype=F64))


def test_embedding_is_orthonormal_and_smoothest_first():
    weights = affinity(8)
    vectors, matrix = spectral_embedding(weights, 4), laplacian(weights)
    assert_close(vectors.T @ vectors, torch.eye(4, dtype=F64))
    assert_close(vectors.T @ matrix @ vectors, torch.diag(torch.linalg.eigvalsh(matrix)[1:5]))


def test_two_components_give_the_vector_that_tells_them_apart():
    w = torch.block_diag(torch.ones(3, 3), torch.ones(2, 2)).to(F64)
    vector = spectral_embedding(w, 1).flatten()
    assert (vector[:3].sign() == -vector[3].sign()).all()
    assert_close(vector @ laplacian(w) @ vector, tensor(0.0, dtype=F64))


def test_nodes_without_edges_stay_finite():
    w = affinity(4)
    w[2] = w[:, 2] = 0
    assert_close(laplacian(w)[2], tensor([0, 0, 1, 0], dtype=F64))
    assert spectral_embedding(w, 3).isfinite().all()
    assert spectral_embedding(torch.zeros(3, 3), 2).isfinite().all()


def test_batches_of_graphs():
    w = torch.stack([affinity(4), affinity(4, seed=1)])
    assert_close(laplacian(w), torch.stack([laplacian(each) for each in w]))
    assert spectral_embedding(w, 2).shape == (2, 4, 2)


def test_laplacian_gradcheck():
    assert torch.autograd.gradcheck(laplacian, (affinity(4) + 0.1).requires_grad_())


def test_a_nan_goes_out():
    w = affinity(3)
    w[0, 1] = torch.nan
    assert laplacian(w)[0].isnan().any()


@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("decompose", [torch.linalg.eigh, torch.linalg.eigvalsh, torch.linalg.svdvals])
def test_only_the_broken_matrix_of_a_batch_decomposes_to_nan(decompose, bad):
    matrices = affinity(4).expand(3, 4, 4).clone()
    matrices[1, 2, 3] = bad
    found, (expected, *_) = decomposed(decompose, matrices), decomposed(decompose, matrices[0])
    for part in found:
        assert part[1].isnan().all()
    assert_close(found[0][0], expected)
    assert_close(found[0][2], expected)


@pytest.mark.parametrize("k", [0, 3])
def test_number_of_eigenvectors(k):
    with pytest.raises(OptionError, match=f"3 nodes has 2 non-trivial eigenvectors, {k} were asked for: lower k"):
        spectral_embedding(affinity(3), k)
