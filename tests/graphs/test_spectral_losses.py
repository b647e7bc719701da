"""Spectral losses: values by hand, invariances, gradients at ties, and messages."""

from functools import partial

import pytest
import torch
from torch import tensor
from torch.testing import assert_close

from graphkd.errors import OptionError, ShapeError, UnknownNameError
from graphkd.graphs import relations
from graphkd.graphs.spectral import LAPLACIANS, NONE, SCALINGS, Operator, SpectralGraph, diffusion
from graphkd.graphs.spectral_losses import (
    SPECTRAL_FORMS,
    compares_nodes,
    heat,
    powers,
    procrustes,
    projector,
    residual,
    signfix,
    spectrum,
)
from tests.graphs.spectral_case import F64, affinity, from_spectrum, operators, randn, rotation

WITH_EIGENVECTORS = ["residual", "projector", "procrustes", "quadratic", "signfix"]


@pytest.mark.parametrize("form", sorted(SPECTRAL_FORMS))
@pytest.mark.parametrize("scaling", sorted(SCALINGS))
def test_equal_graphs_are_at_distance_zero_with_finite_gradient(form, scaling):
    edges = affinity().requires_grad_()
    student, teacher = SpectralGraph()(edges, edges)
    value = SPECTRAL_FORMS.get(form)(student, teacher, 3, SCALINGS.get(scaling))
    assert value.shape == (2,)
    assert_close(value, torch.zeros(2, dtype=F64), atol=1e-12, rtol=0)
    value.sum().backward()
    assert torch.isfinite(edges.grad).all()


@pytest.mark.parametrize("form", sorted(SPECTRAL_FORMS))
@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
@pytest.mark.parametrize("side", [0, 1])
def test_a_graph_that_is_not_finite_gives_nan_and_the_others_of_the_batch_their_value(form, bad, side):
    edges = [affinity(seed=0), affinity(seed=1)]
    compare = partial(SPECTRAL_FORMS.get(form), k=3, scaling=NONE)
    clean = compare(*SpectralGraph()(*edges))
    edges[side][1, 0, 2] = bad
    student = edges[0].requires_grad_()
    value = compare(*SpectralGraph()(student, edges[1]))
    value.sum().backward()
    assert value[1].isnan()
    assert_close(value[0], clean[0])


@pytest.mark.parametrize("form", sorted(SPECTRAL_FORMS))
def test_different_graphs_are_apart_and_a_step_downhill_helps(form):
    edges = affinity(seed=0).requires_grad_()
    compare = partial(SPECTRAL_FORMS.get(form), k=3, scaling=NONE)
    value = compare(*SpectralGraph()(edges, affinity(seed=1))).sum()
    (grad,) = torch.autograd.grad(value, edges)
    assert value > 1e-6
    lower = compare(*SpectralGraph()(edges - 1e-3 * grad / grad.norm(), affinity(seed=1))).sum()
    assert lower < value


def test_three_expressions_of_the_residual_agree():
    student, teacher = operators()
    vectors, values = teacher.lowest(3)
    expected = residual(student, teacher, 3)
    other = (student.laplacian @ vectors - vectors * values.unsqueeze(-2)).square().sum((-2, -1)) / 3
    difference, projection = student.laplacian - teacher.laplacian, vectors @ vectors.mT
    third = (difference @ difference @ projection).diagonal(dim1=1, dim2=2).sum(-1) / 3
    assert_close(other, expected, rtol=1e-10, atol=1e-12)
    assert_close(third, expected, rtol=1e-10, atol=1e-12)


def test_projector_is_the_mean_squared_sine_and_procrustes_the_best_rotation():
    student, teacher = operators()
    (s, _), (t, _) = student.lowest(3), teacher.lowest(3)
    cosines = torch.linalg.svdvals(s.mT @ t)
    value = projector(student, teacher, 3)
    assert_close(value, 1 - cosines.square().mean(-1), rtol=1e-10, atol=1e-12)
    assert ((value >= 0) & (value <= 1)).all()
    assert_close(procrustes(student, teacher, 3), 6 - 2 * cosines.sum(-1), rtol=1e-8, atol=1e-10)
    a, _, b = torch.linalg.svd(s.mT @ t)
    assert_close(procrustes(student, teacher, 3), (s @ a @ b - t).square().sum((-2, -1)), rtol=1e-8, atol=1e-10)


def test_heat_and_powers_by_eigenvalues():  # commuting operators: the kernels differ by their eigenvalues alone
    student, _ = from_spectrum([0.2, 0.5, 0.9])
    teacher, _ = from_spectrum([0.3, 0.5, 1.1])
    s, t = tensor([0.2, 0.5, 0.9], dtype=F64), tensor([0.3, 0.5, 1.1], dtype=F64)
    assert_close(partial(heat, time=2.0)(student, teacher), ((-2 * s).exp() - (-2 * t).exp()).square().sum()[None])
    assert_close(powers(student, teacher), ((1 - s) ** 2 - (1 - t) ** 2).square().sum()[None])


class _Basis(Operator):
    """An operator whose eigenvectors are handed out changed: other signs, another order, a rotation."""

    change: torch.Tensor

    def lowest(self, k):
        vectors, values = super().lowest(k)
        return vectors @ type(self).change, values


@pytest.mark.parametrize("form", ["residual", "procrustes", "quadratic"])
@pytest.mark.parametrize("change", ["signs", "order", "rotation"])
def test_the_choice_of_the_teachers_basis_changes_nothing(form, change):
    student, teacher = operators()
    changes = {
        "signs": torch.diag(tensor([1.0, -1.0, -1.0], dtype=F64)),
        "order": torch.eye(3, dtype=F64)[[2, 0, 1]],
        "rotation": rotation(3),
    }
    changed = type("Changed", (_Basis,), {"change": changes[change]})(*vars(teacher).values())
    assert_close(SPECTRAL_FORMS.get(form)(student, changed, 3), SPECTRAL_FORMS.get(form)(student, teacher, 3))


@pytest.mark.parametrize("form", ["residual", "projector", "procrustes", "heat"])
def test_an_exactly_degenerate_block_has_one_value_and_finite_right_gradients(form):
    """Two decompositions of one matrix with a triple eigenvalue: no form may see which one eigh picked."""
    teacher, basis = from_spectrum([0.3, 0.3, 0.3, 1.2, 1.7])
    turn = torch.block_diag(rotation(3, seed=8), torch.eye(2, dtype=F64))
    again = (basis @ turn) @ torch.diag(tensor([0.3, 0.3, 0.3, 1.2, 1.7], dtype=F64)) @ (basis @ turn).mT
    again = Operator(again[None], again[None], 5)
    student, _ = from_spectrum([0.4, 0.4, 0.4, 1.0, 1.5], seed=6)  # degenerate in the student too
    compare = SPECTRAL_FORMS.get(form)
    assert_close(compare(student, teacher, 3, NONE), compare(student, again, 3, NONE))

    def value(matrix):
        matrix = (matrix + matrix.mT) / 2
        return compare(Operator(matrix, matrix, 5), teacher, 3, NONE).sum()

    assert torch.autograd.gradcheck(value, student.symmetric.clone().requires_grad_(), atol=1e-5)


def test_signfix_sees_through_signs_only():
    student, teacher = operators()
    flip = type("Changed", (_Basis,), {"change": torch.diag(tensor([1.0, -1.0, -1.0], dtype=F64))})
    turn = type("Changed", (_Basis,), {"change": rotation(3)})
    value = signfix(student, teacher, 3)
    assert_close(signfix(student, flip(*vars(teacher).values()), 3), value)
    assert (signfix(student, turn(*vars(teacher).values()), 3) - value).abs().max() > 1e-3


@pytest.mark.parametrize("form", sorted(SPECTRAL_FORMS))
def test_joint_permutation_changes_nothing_and_spectra_allow_independent_ones(form):
    order, other = torch.randperm(7, generator=torch.Generator().manual_seed(0)), torch.arange(6, -1, -1)
    s, t = affinity(seed=0), affinity(seed=1)
    compare = partial(SPECTRAL_FORMS.get(form), k=3, scaling=NONE)
    value = compare(*SpectralGraph()(s, t))
    assert_close(compare(*SpectralGraph()(s[:, order][:, :, order], t[:, order][:, :, order])), value)
    if not compares_nodes(SPECTRAL_FORMS.get(form)):
        assert_close(compare(*SpectralGraph()(s[:, order][:, :, order], t[:, other][:, :, other])), value)


@pytest.mark.parametrize("name", sorted(LAPLACIANS))
@pytest.mark.parametrize("form", sorted(SPECTRAL_FORMS))
def test_gradcheck_through_the_whole_graph(form, name):
    if name == "random_walk" and form in ("projector", "procrustes", "signfix"):
        with pytest.raises(OptionError, match="eigenvectors of the random-walk Laplacian are not orthonormal"):
            SPECTRAL_FORMS.get(form)(*operators(5, laplacian=name), 2, NONE)
        return
    x = randn(1, 5, 9, seed=0)
    target = affinity(5, 9, 1, seed=1)

    def value(vertices):
        edges = relations.pearson(vertices, vertices)
        return SPECTRAL_FORMS.get(form)(*SpectralGraph(laplacian=name, nonnegative="shift")(edges, target), 2, NONE)

    assert torch.autograd.gradcheck(value, x.requires_grad_(), atol=1e-5, rtol=1e-3)


@pytest.mark.parametrize("form", WITH_EIGENVECTORS)
def test_weights_of_rows_of_one_change_nothing_and_others_do(form):
    student, teacher = operators()
    compare = partial(SPECTRAL_FORMS.get(form), k=3, scaling=NONE)
    ones = Operator(teacher.laplacian, teacher.symmetric, 6, rows=torch.ones(2, 7, 1, dtype=F64))
    other = Operator(teacher.laplacian, teacher.symmetric, 6, rows=2 * torch.ones(2, 7, 1, dtype=F64))
    assert_close(compare(student, ones), compare(student, teacher))
    assert (compare(student, other) > compare(student, teacher)).all()


def test_spectra_of_graphs_of_different_size_compare_and_node_forms_refuse():
    pair = SpectralGraph()(affinity(6, seed=0), affinity(7, seed=1))
    assert torch.isfinite(spectrum(*pair, 4)).all()
    with pytest.raises(ShapeError, match="student graph of 6 nodes and teacher graph of 7 differ"):
        residual(*pair, 4)


@pytest.mark.parametrize("form", [*WITH_EIGENVECTORS, "spectrum"])
def test_fewer_eigenvectors_than_asked_for_is_an_error(form):
    with pytest.raises(
        OptionError, match="a graph of 4 nodes has 3 non-trivial eigenvectors, 8 were asked for: lower k"
    ):
        SPECTRAL_FORMS.get(form)(*operators(4), 8, NONE)


def test_unknown_names_and_bad_options_are_named():
    with pytest.raises(UnknownNameError, match="unknown spectral form 'projecter'; did you mean 'projector'"):
        SPECTRAL_FORMS.get("projecter")
    with pytest.raises(UnknownNameError, match="unknown Laplacian 'symm'; did you mean 'sym'"):
        SpectralGraph(laplacian="symm")
    with pytest.raises(OptionError, match="1 step or more, found 0"):
        diffusion(0)
