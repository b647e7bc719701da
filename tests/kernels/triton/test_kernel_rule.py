"""Kernels as PyTorch sees them: compiled, transformed, differentiated twice; and the errors at their door."""

import pytest
import torch
from graphkd_kernels import BackendUnavailableError, _triton, autograd, backend, dispatch
from graphkd_kernels._triton.table import OPERATIONS

from tests.kernels import testing

CALLS = {
    "edge_sum": lambda s, t: OPERATIONS["edge_sum"](s, None, t, None, "pearson", "square"),
    "distances": lambda s, t: OPERATIONS["edge_sum"](s, None, t, None, "rbf", "huber", 0.1),
    "node_sum": lambda s, t: OPERATIONS["node_sum"](s, t, "cosine", "identity"),
    "unit_edge_sum": lambda s, t: OPERATIONS["unit_edge_sum"](s, None, t, None),
    "ega_sums": lambda s, t: OPERATIONS["ega_sums"](s, t, "pearson").sum(),
    "similarity": lambda s, t: OPERATIONS["similarity"](s, t, "euclidean").sum(),
    "row maps": lambda s, t: OPERATIONS["similarity"](s, t, "pearson").square().sum(),
}
every_call = pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)


def nodes(device, n=30, d=5, dtype=torch.float32):
    return [testing.rows(n, d, seed=seed, dtype=dtype).to(device).requires_grad_() for seed in range(2)]


@every_call
def test_compiled_whole(call, device):
    s, t = nodes(device)
    expected = torch.autograd.grad(call(s, t), (s, t))
    found = torch.autograd.grad(torch.compile(call, fullgraph=True, backend="aot_eager")(s, t), (s, t))
    assert max(testing.error(one, other) for one, other in zip(found, expected, strict=True)) < 5e-6


@every_call
def test_transformed(call, device):
    s, t = (each.detach() for each in nodes(device))
    stacked = torch.stack([s, t])
    values = torch.func.vmap(call, (0, None))(stacked, t)
    torch.testing.assert_close(values, torch.stack([call(s, t), call(t, t)]), rtol=1e-4, atol=1e-3)
    gradient = torch.func.grad(call)(s, t)
    leaf = s.clone().requires_grad_()
    assert testing.error(torch.autograd.grad(call(leaf, t), leaf)[0], gradient) < 1e-5


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


def test_autocast_changes_nothing(device):
    s, t = nodes(device)
    with torch.autocast(device.type, torch.bfloat16):
        inside = CALLS["edge_sum"](s, t)
    assert torch.equal(inside, CALLS["edge_sum"](s, t))


def test_asked_for_by_name(device):
    s, t = nodes(device)
    with backend("triton"):
        value = dispatch.run("edge_sum", s, None, t, None, "pearson", "square")
    assert torch.equal(value, CALLS["edge_sum"](s, t))


def test_tensors_elsewhere_are_refused(device):
    s, t = nodes(device)
    with pytest.raises(BackendUnavailableError, match="the tensors are on meta: move them to a CUDA device"):
        CALLS["edge_sum"](s.to("meta"), t.to("meta"))
    with pytest.raises(ValueError, match=r"tensors are on .*meta: move them to one device"):
        CALLS["edge_sum"](s, t.to("meta"))


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
