"""Small graphs for the tests of spectra, filters and losses."""

import torch
from torch import tensor

from graphkd.graphs import relations
from graphkd.graphs.spectral import Operator, SpectralGraph

F64 = torch.float64


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
