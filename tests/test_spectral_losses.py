"""Spectral graphs, filters and losses: values by hand, invariances, gradients at ties, and messages."""

from functools import partial

import pytest
import torch
from torch import tensor
from torch.testing import assert_close

from graphkd import relations
from graphkd.errors import OptionError, ShapeError, UnknownNameError
from graphkd.spectral import LAPLACIANS, NON_NEGATIVE, Operator, SpectralGraph, knn_mask, laplacian, spectral_embedding
from graphkd.spectral_filters import COMMUTE, NONE, SCALINGS, diffusion, eigenpairs, spectral_filter
from graphkd.spectral_losses import (
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

F64 = torch.float64
WITH_EIGENVECTORS = ["residual", "projector", "procrustes", "quadratic", "signfix"]


def randn(*shape, seed=0):
    return torch.randn(*shape, dtype=F64, generator=torch.Generator().manual_seed(seed))


def affinity(n=7, positions=12, batch=2, seed=0):
    x = randn(batch, n, positions, seed=seed).relu()
    return relations.pearson(x, x)


def operators(n=7, **options):
    return SpectralGraph(**options)(affinity(n, seed=0), affinity(n, seed=1))


def rotation(n, seed=3):
    return torch.linalg.qr(randn(n, n, seed=seed)).Q


def from_spectrum(values, seed=5):
    """An operator of chosen eigenvalues, so that ties are exact to rounding."""
    basis = rotation(len(values), seed)
    matrix = basis @ torch.diag(tensor(values, dtype=F64)) @ basis.mT
    matrix = (matrix + matrix.mT) / 2
    return Operator(matrix[None], matrix[None], len(values)), basis


# --- graphs ---------------------------------------------------------------------------------------------------------


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


# --- filters --------------------------------------------------------------------------------------------------------


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


# --- forms ----------------------------------------------------------------------------------------------------------


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
