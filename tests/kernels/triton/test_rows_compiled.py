"""Row operations on kernels under torch.compile, functorch and autocast."""

import pytest
import torch
from graphkd_kernels._triton import edge_kl
from graphkd_kernels._triton.table import OPERATIONS

from tests.kernels import testing

X, T, U = (9, 6), (9, 5), (9, 2)


def both(name, *options):
    return lambda s, t: OPERATIONS[name](s, None, t, None, *options)


def plain(name, *options):
    return lambda s, t: OPERATIONS[name](s, t, *options)


CALLS = {
    "edge_kl": (both("edge_kl", "cosine", 0.5), X, T),
    "edge_pkt": (both("edge_pkt"), X, T),
    "info_nce": (lambda s, t: OPERATIONS["info_nce"](s, t, torch.arange(9, device=s.device), "cosine", 0.5), X, X),
    "row_kl": (plain("row_kl", 2.0), X, X),
    "damped_row_pearson": (plain("damped_row_pearson", 1e-8), X, X),
    "damped_column_pearson": (plain("damped_column_pearson", 1e-8), X, X),
    "rkd_distance": (plain("rkd_distance"), X, T),
    "rkd_angle": (plain("rkd_angle", 0, 9), X, T),
    "knn": (lambda s, t: OPERATIONS["knn"](s, 2)[1] + t.sum(), X, T),
    "spectral_residual": (
        lambda s, t: OPERATIONS["spectral_residual"](s, t, t[0].detach(), "rbf", 0.5),
        X,
        U,
    ),
}
operations = pytest.mark.parametrize("operation", CALLS)


@operations
@pytest.mark.parametrize("path", ["products", "flash"])
def test_compiles_without_a_break(operation, path, monkeypatch, device):
    if path == "flash" and operation not in ("edge_kl", "info_nce"):
        pytest.skip("one path")
    monkeypatch.setattr(edge_kl, "path", lambda *shape: path)
    torch.compiler.reset()
    function, *shapes = CALLS[operation]
    inputs = [testing.rows(*shape, seed=seed).to(device) for seed, shape in enumerate(shapes)]
    compiled = torch.compile(function, fullgraph=True, backend="aot_eager")
    found = testing.derive(compiled, inputs, (True, True))
    expected = testing.derive(function, inputs, (True, True))
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other)


@operations
def test_functorch(operation, device):
    function, *shapes = CALLS[operation]
    s, t = (testing.rows(*shape, seed=seed, dtype=torch.float64).to(device) for seed, shape in enumerate(shapes))
    if operation == "knn":
        pytest.skip("which nodes are near is a decision, not a function")
    found = torch.func.grad(lambda s: function(s, t).sum())(s)
    _, expected = testing.derive(lambda s: function(s, t).sum() / 1, [s], [True])
    assert testing.error(found / found.norm(), expected / expected.norm()) < 1e-10
    batch = torch.stack([s, 2 * s + 1])
    values = torch.vmap(lambda s: function(s, t))(batch)
    assert testing.error(values[1], function(batch[1], t)) < 1e-10


@operations
def test_autocast_changes_nothing(operation, device):
    function, *shapes = CALLS[operation]
    inputs = [testing.rows(*shape, seed=seed).to(device) for seed, shape in enumerate(shapes)]
    expected = function(*inputs)
    with torch.autocast(device.type, torch.bfloat16):
        assert torch.equal(function(*inputs), expected)
