"""Laplacians and their lowest vectors, and the losses between two spectra: by hand, invariances, gradients at ties."""

from functools import partial

import pytest
import torch
from torch import tensor
from torch.testing import assert_close

from graphkd.errors import OptionError, ShapeError, UnknownNameError
from graphkd.graphs import relations
from graphkd.graphs.spectral import (
    SPECTRAL_FORMS,
    Operator,
    clean_affinity,
    decomposed,
    heat,
    laplacian,
    operator_of,
    projector,
    residual,
    spectral_embedding,
    spectral_projector,
    spectrum,
)

F64 = torch.float64
every = pytest.mark.parametrize("form", [pytest.param(SPECTRAL_FORMS.get(name), id=name) for name in SPECTRAL_FORMS])


def randn(*shape, seed=0):
    return torch.randn(*shape, dtype=F64, generator=torch.Generator().manual_seed(seed))


def affinity(n=7, positions=12, batch=2, seed=0):
    x = randn(batch, n, positions, seed=seed).relu()
    return relations.pearson(x, x)


def distance(form, student, teacher, k=3):
    return form(operator_of(student), operator_of(teacher), k)


def rotation(n, seed=3):
    return torch.linalg.qr(randn(n, n, seed=seed)).Q


def of_matrix(matrix):
    matrix = (matrix + matrix.mT) / 2
    return Operator(matrix, matrix)


def from_spectrum(values, seed=5):
    """An operator of chosen eigenvalues and one that is not asked for, so that ties are exact to rounding."""
    basis = rotation(len(values), seed)
    return of_matrix(basis @ torch.diag(tensor(values, dtype=F64)) @ basis.mT), basis


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


@pytest.mark.parametrize("values", [[0.2, 0.5, 0.9, 1.1, 1.6], [0.4, 0.4, 0.4, 1.1, 1.6], [0.2, 0.4, 0.4, 1.1, 1.1]])
def test_the_projectors_gradient_is_right_also_for_equal_kept_eigenvalues(values):
    operator, _ = from_spectrum(values)
    weight = randn(5, 5, seed=9)

    def value(matrix):
        return (spectral_projector(of_matrix(matrix), 3) * weight).sum()

    assert torch.autograd.gradcheck(value, operator.laplacian.clone().requires_grad_(), atol=1e-5)


def test_plain_autograd_breaks_where_the_projector_does_not():
    matrix = torch.diag(tensor([0.5, 0.5, 1.2, 1.5], dtype=F64)).requires_grad_()
    weight = randn(4, 4, seed=1)
    vectors = torch.linalg.eigh(matrix).eigenvectors[:, :2]
    (plain,) = torch.autograd.grad((vectors @ vectors.mT * weight).sum(), matrix)
    assert not torch.isfinite(plain).all()
    (ours,) = torch.autograd.grad((spectral_projector(Operator(matrix, matrix), 2) * weight).sum(), matrix)
    assert torch.isfinite(ours).all()
    assert ours.abs().max() > 0.1


def test_a_second_derivative_of_the_projector_is_an_error_and_not_half_of_one():
    x = from_spectrum([0.2, 0.4, 0.6, 1.0])[0].laplacian.requires_grad_()
    with pytest.raises(RuntimeError, match="once_differentiable"):
        torch.autograd.grad(spectral_projector(Operator(x, x), 2)[0, 1] ** 2, x, create_graph=True)[0].sum().backward()


def test_a_tie_across_the_cut_is_bounded_by_the_gap():
    matrix = from_spectrum([0.2, 0.5, 0.5, 1.0])[0].laplacian.requires_grad_()
    (spectral_projector(Operator(matrix, matrix), 2) * randn(4, 4, seed=2)).sum().backward()
    assert matrix.grad.abs().max() < 20 / 1e-3


# the losses


@every
def test_equal_graphs_are_at_distance_zero_with_finite_gradient(form):
    edges = affinity().requires_grad_()
    value = distance(form, edges, edges.detach())
    assert value.shape == (2,)
    assert_close(value, torch.zeros(2, dtype=F64), atol=1e-12, rtol=0)
    value.sum().backward()
    assert torch.isfinite(edges.grad).all()


@every
@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
@pytest.mark.parametrize("side", [0, 1])
def test_a_graph_that_is_not_finite_gives_nan_and_the_others_of_the_batch_their_value(form, bad, side):
    edges = [affinity(seed=0), affinity(seed=1)]
    clean = distance(form, *edges)
    edges[side][1, 0, 2] = bad
    value = distance(form, edges[0].requires_grad_(), edges[1])
    value.sum().backward()
    assert value[1].isnan()
    assert_close(value[0], clean[0])


@every
def test_different_graphs_are_apart_and_a_step_downhill_helps(form):
    edges = affinity(seed=0).requires_grad_()
    value = distance(form, edges, affinity(seed=1)).sum()
    (grad,) = torch.autograd.grad(value, edges)
    assert value > 1e-6
    assert distance(form, edges - 1e-3 * grad / grad.norm(), affinity(seed=1)).sum() < value


def test_three_expressions_of_the_residual_agree():
    student, teacher = operator_of(affinity(seed=0)), operator_of(affinity(seed=1))
    vectors, values = teacher.lowest(3)
    expected = residual(student, teacher, 3)
    other = (student.laplacian @ vectors - vectors * values.unsqueeze(-2)).square().sum((-2, -1)) / 3
    difference, projection = student.laplacian - teacher.laplacian, vectors @ vectors.mT
    third = (difference @ difference @ projection).diagonal(dim1=1, dim2=2).sum(-1) / 3
    assert_close(other, expected, rtol=1e-10, atol=1e-12)
    assert_close(third, expected, rtol=1e-10, atol=1e-12)


def test_projector_is_the_mean_squared_sine():
    student, teacher = operator_of(affinity(seed=0)), operator_of(affinity(seed=1))
    cosines = torch.linalg.svdvals(student.lowest(3)[0].mT @ teacher.lowest(3)[0])
    value = projector(student, teacher, 3)
    assert_close(value, 1 - cosines.square().mean(-1), rtol=1e-10, atol=1e-12)
    assert ((value >= 0) & (value <= 1)).all()


def test_heat_and_spectrum_by_eigenvalues():  # commuting operators differ by their eigenvalues alone
    student, teacher = from_spectrum([0.2, 0.5, 0.9])[0], from_spectrum([0.3, 0.5, 1.1])[0]
    s, t = tensor([0.2, 0.5, 0.9], dtype=F64), tensor([0.3, 0.5, 1.1], dtype=F64)
    assert_close(partial(heat, time=2.0)(student, teacher), ((-2 * s).exp() - (-2 * t).exp()).square().sum())
    assert_close(spectrum(student, teacher, 2), tensor(0.01, dtype=F64))


@pytest.mark.parametrize("change", [torch.diag(tensor([1.0, -1, -1])), torch.eye(3)[[2, 0, 1]], rotation(3)])
def test_the_choice_of_the_teachers_basis_changes_nothing(change):
    class Changed(Operator):
        """Hands out other signs, another order, a rotation."""

        def lowest(self, k):
            vectors, values = super().lowest(k)
            return vectors @ change.to(F64), values

    student, teacher = operator_of(affinity(seed=0)), operator_of(affinity(seed=1))
    assert_close(residual(student, Changed(*vars(teacher).values()), 3), residual(student, teacher, 3))


@every
def test_an_exactly_degenerate_block_has_one_value_and_finite_right_gradients(form):
    """Two decompositions of one matrix with a triple eigenvalue: no form may see which one eigh picked."""
    teacher, basis = from_spectrum([0.3, 0.3, 0.3, 1.2, 1.7])
    turned = basis @ torch.block_diag(rotation(3, seed=8), torch.eye(2, dtype=F64))
    again = of_matrix(turned @ torch.diag(tensor([0.3, 0.3, 0.3, 1.2, 1.7], dtype=F64)) @ turned.mT)
    student, _ = from_spectrum([0.4, 0.4, 0.4, 1.0, 1.5], seed=6)  # degenerate in the student too
    assert_close(form(student, teacher, 3), form(student, again, 3))
    leaf = student.laplacian.clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda matrix: form(of_matrix(matrix), teacher, 3), leaf, atol=1e-5)


@every
def test_joint_permutation_changes_nothing_and_spectra_allow_independent_ones(form):
    order, other = torch.randperm(7, generator=torch.Generator().manual_seed(0)), torch.arange(6, -1, -1)
    s, t = affinity(seed=0), affinity(seed=1)
    value, moved = distance(form, s, t), s[:, order][:, :, order]
    assert_close(distance(form, moved, t[:, order][:, :, order]), value)
    if form is spectrum:
        assert_close(distance(form, moved, t[:, other][:, :, other]), value)


@every
def test_gradcheck_through_the_whole_graph(form):
    x, target = randn(1, 5, 9).requires_grad_(), affinity(5, 9, 1, seed=1)

    def value(vertices):
        return distance(form, (1 + relations.pearson(vertices, vertices)) / 2, target, 2)  # away from the kink at 0

    assert torch.autograd.gradcheck(value, x, atol=1e-5, rtol=1e-3)


def test_spectra_of_graphs_of_different_size_compare_and_node_forms_refuse():
    pair = affinity(6, seed=0), affinity(7, seed=1)
    assert torch.isfinite(distance(spectrum, *pair, 4)).all()
    with pytest.raises(ShapeError, match="student graph of 6 nodes and teacher graph of 7 differ"):
        distance(residual, *pair, 4)


def test_an_unknown_form_is_named():
    with pytest.raises(UnknownNameError, match="unknown spectral form 'projecter'; did you mean 'projector'"):
        SPECTRAL_FORMS.get("projecter")
