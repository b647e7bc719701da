"""Spectral filters: gradients where eigenvalues are equal, and across the cut."""

import pytest
import torch
from torch import tensor

from graphkd.graphs.spectral import Operator
from graphkd.graphs.spectral_filters import COMMUTE, NONE, diffusion, eigenpairs, spectral_filter
from tests.spectral_case import F64, from_spectrum, randn


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
