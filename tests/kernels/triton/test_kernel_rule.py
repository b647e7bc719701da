"""Kernels as PyTorch sees them: compiled, transformed, differentiated twice; and the errors at their door."""

import pytest
import torch
from graphkd_kernels import BackendUnavailableError, _triton, autograd, backend, dispatch
from graphkd_kernels._triton.table import OPERATIONS

from tests.kernels import testing


def within(name, *options):
    return lambda s, t: OPERATIONS[name](s, None, t, None, *options)


def between(name, *options):
    return lambda s, t: OPERATIONS[name](s, t, *options)


def info_nce(s, t):
    return OPERATIONS["info_nce"](s, t, torch.arange(len(s), device=s.device), "cosine", 0.5)


SCALARS = {
    "edge_sum": within("edge_sum", "pearson", "square"),
    "distances": within("edge_sum", "rbf", "huber", 0.1),
    "ega_sums": lambda s, t: OPERATIONS["ega_sums"](s, t, "pearson").sum(),
}
CALLS = {name: (call, (30, 5), (30, 5)) for name, call in SCALARS.items()} | {
    "edge_kl": (within("edge_kl", "cosine", 0.5), (9, 6), (9, 5)),
    "info_nce": (info_nce, (9, 6), (9, 6)),
    "row_kl": (between("row_kl", 2.0), (9, 6), (9, 6)),
    "damped_row_pearson": (between("damped_row_pearson", 1e-8), (9, 6), (9, 6)),
    "damped_column_pearson": (between("damped_column_pearson", 1e-8), (9, 6), (9, 6)),
    "rkd_distance": (between("rkd_distance"), (9, 6), (9, 5)),
    "rkd_angle": (between("rkd_angle", 0, 9), (9, 6), (9, 5)),
    "knn": (lambda s, t: OPERATIONS["knn"](s, 2)[1] + t.sum(), (9, 6), (9, 5)),
}
every_call = pytest.mark.parametrize("call", SCALARS.values(), ids=SCALARS)
operations = pytest.mark.parametrize("operation", CALLS)


def nodes(device, n=30, d=5, dtype=torch.float32):
    return [testing.rows(n, d, seed=seed, dtype=dtype).to(device).requires_grad_() for seed in range(2)]


def given(operation, device, dtype=torch.float32):
    """A call and its inputs."""
    function, *shapes = CALLS[operation]
    return function, [testing.rows(*shape, seed=seed, dtype=dtype).to(device) for seed, shape in enumerate(shapes)]


SHORT = ("row_kl", "edge_sum")  # compiled in the short matrix as well


@pytest.mark.parametrize(
    "operation", [each if each in SHORT else pytest.param(each, marks=pytest.mark.slow) for each in CALLS]
)
def test_compiles_without_a_break(operation, device):
    torch.compiler.reset()
    function, inputs = given(operation, device)
    compiled = torch.compile(function, fullgraph=True, backend="aot_eager")
    found, expected = (testing.derive(each, inputs, (True, True)) for each in (compiled, function))
    torch.testing.assert_close(found, expected, rtol=5e-6, atol=1e-5)


@operations
def test_functorch(operation, device):
    function, (s, t) = given(operation, device, torch.float64)
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
    function, inputs = given(operation, device)
    expected = function(*inputs)
    with torch.autocast(device.type, torch.bfloat16):
        assert torch.equal(function(*inputs), expected)


@pytest.mark.slow
@every_call
def test_first_and_second_derivatives(call, device):
    pair = nodes(device, 7, 2, torch.float64)
    assert torch.autograd.gradcheck(call, pair)
    assert torch.autograd.gradgradcheck(call, pair)


def test_the_operator_obeys_the_rules_of_operators(device):
    s, t = (each.detach() for each in nodes(device))
    options = repr(("pearson", "square", 1.0))
    arguments = ("triton/edge_sum", options, [True, False, False, False], [s, None, t, None])
    torch.library.opcheck(autograd._operator, arguments)


@every_call
def test_a_second_backward_and_a_random_upstream_gradient(call, device):
    s, t = nodes(device)
    value = 1.7 * call(s, t)
    first, second = (torch.autograd.grad(value, s, retain_graph=True)[0] for _ in range(2))
    assert torch.equal(first, second)
    assert testing.error(first / 1.7, torch.autograd.grad(call(s, t), s)[0]) < 1e-6


def test_asked_for_by_name(device):
    s, t = nodes(device)
    with backend("triton"):
        value = dispatch.run("edge_sum", s, None, t, None, "pearson", "square")
    assert torch.equal(value, SCALARS["edge_sum"](s, t))


def test_tensors_elsewhere_are_refused(device):
    s, t = nodes(device)
    with pytest.raises(BackendUnavailableError, match="the tensors are on meta: move them to a CUDA device"):
        SCALARS["edge_sum"](s.to("meta"), t.to("meta"))
    with pytest.raises(ValueError, match=r"tensors are on .*meta: move them to one device"):
        SCALARS["edge_sum"](s, t.to("meta"))


@pytest.mark.skipif(_triton.missing() is None, reason="kernels run here")
def test_a_backend_that_cannot_run_says_what_is_missing():
    with pytest.raises(BackendUnavailableError, match="no CUDA device here"), backend("triton"):
        pass


@pytest.mark.gpu
@every_call
def test_no_host_sync(call):
    s, t = nodes(torch.device("cuda"))
    call(s, t).backward()  # compiled before the watch begins
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        call(s, t).backward()
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.gpu
@every_call
def test_inside_a_cuda_graph(call):
    s, t = nodes(torch.device("cuda"))
    expected = torch.autograd.grad(call(s, t), s)[0]
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        found = torch.autograd.grad(call(s, t), s)[0]
    for _ in range(2):
        graph.replay()
        assert torch.equal(found, expected)
