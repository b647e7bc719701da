"""What holds for every kernel: types, layouts, NaN, the same bits again; compiled, transformed, differentiated twice."""

from functools import partial

import pytest
import torch
from graphkd_kernels import BackendUnavailableError, autograd, backend, dispatch, reference
from graphkd_kernels._triton.table import OPERATIONS

from tests.kernels import testing


def within(name, *options):
    """The operation in a table of operations, of two graphs with themselves."""
    return lambda table, s, t: table[name](s, None, t, None, *options)


def between(name, *options):
    """The operation in a table of operations, of two sets of rows."""
    return lambda table, s, t: table[name](s, t, *options)


def info_nce(table, s, t):
    return table["info_nce"](s, t, torch.arange(len(s), device=s.device), "cosine", 0.5)


FEW, PAIRS = ((9, 6), (9, 5)), ((9, 6), (9, 6))
CASES = {
    "edge_sum": (within("edge_sum", "pearson", "square"), (30, 5), (30, 5)),
    "distances": (within("edge_sum", "rbf", "huber", 0.1), (30, 5), (30, 5)),
    "ega_sums": (lambda table, s, t: table["ega_sums"](s, t, "pearson").sum(), (30, 5), (30, 5)),
    "edge_kl": (within("edge_kl", "cosine", 0.5), *FEW),
    "info_nce": (info_nce, *PAIRS),
    "row_kl": (between("row_kl", 2.0), *PAIRS),
    "row_pearson": (between("row_pearson"), *PAIRS),
    "damped_row_pearson": (between("damped_row_pearson", 1e-8), *PAIRS),
    "damped_column_pearson": (between("damped_column_pearson", 1e-8), *PAIRS),
    "dist_sums": (between("dist_sums", 2.0, 1e-8), *PAIRS),
    "rkd_distance": (between("rkd_distance"), *FEW),
    "rkd_angle": (between("rkd_angle", 0, 9), *FEW),
    "similarity": (lambda table, s, t: table["similarity"](s, t, "euclidean"), *PAIRS),
    "knn": (lambda table, s, t: table["knn"](s, 2)[1] + t.sum(), *FEW),
}
"""Call of a table of operations, and the shapes of its inputs."""
CALLS = {name: partial(call, OPERATIONS) for name, (call, *_) in CASES.items()}
SCALARS = {name: CALLS[name] for name in ("edge_sum", "distances", "ega_sums")}
every_call = pytest.mark.parametrize("call", SCALARS.values(), ids=SCALARS)
operations = pytest.mark.parametrize("operation", CALLS)
of_rows = pytest.mark.parametrize("operation", [each for each in CALLS if each != "knn"])  # neighbours are decisions


def nodes(device, n=30, d=5, dtype=torch.float32):
    return [testing.rows(n, d, seed=seed, dtype=dtype).to(device).requires_grad_() for seed in range(2)]


def given(operation, device, dtype=torch.float32):
    """A call and its inputs."""
    shapes = CASES[operation][1:]
    inputs = [testing.rows(*shape, seed=seed, dtype=dtype).to(device) for seed, shape in enumerate(shapes)]
    return CALLS[operation], inputs


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


def agrees(operation, inputs, needs, device, tolerance=1e-5):
    """Errors below the tolerance, or below twice those of the reference in the inputs' own precision."""
    truth = partial(CASES[operation][0], vars(reference))
    testing.check(CALLS[operation], truth, inputs, needs, device, tolerance, beside_oracle=True)


@of_rows
@pytest.mark.parametrize("needs", [(True, False), (False, True), (False, False)])
def test_one_side(operation, needs, device):
    agrees(operation, given(operation, device)[1], needs, device)


@of_rows
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-11), (torch.bfloat16, 1e-2)])
def test_other_types(operation, dtype, tolerance, device):
    agrees(operation, given(operation, device, dtype)[1], (True, True), device, tolerance)


@of_rows
@pytest.mark.parametrize("view", [testing.strided, testing.transposed])
def test_layouts(operation, view, device):
    agrees(operation, [view(each) for each in given(operation, device)[1]], (True, True), device)


@pytest.mark.parametrize("operation", ["row_kl", "row_pearson", "damped_row_pearson", "edge_kl"])
def test_rows_of_stride_0(operation, device):
    agrees(operation, [testing.expanded(each) for each in given(operation, device)[1]], (True, True), device)


@of_rows
def test_a_nan_goes_out(operation, device):
    function, (s, t) = given(operation, device)
    s[2, 1] = float("nan")
    assert function(s.requires_grad_(), t).isnan().any()
    if operation not in ("rkd_distance", "rkd_angle"):
        assert torch.autograd.grad(function(s, t).sum(), s)[0][2].isnan().any()


@operations
def test_the_same_bits_again_and_in_a_second_backward(operation, device):
    function, inputs = given(operation, device)
    leaves = [each.requires_grad_() for each in inputs]
    values = [function(*leaves) for _ in range(2)]
    grads = [torch.autograd.grad(3 * each.sum(), leaves, retain_graph=True) for each in (*values, values[0])]
    assert torch.equal(*values)
    assert all(torch.equal(one, other) for other in grads[1:] for one, other in zip(grads[0], other, strict=True))


@of_rows
def test_second_derivatives(operation, device):
    _, inputs = given(operation, device, torch.float64)
    truth = partial(CASES[operation][0], vars(reference))
    found, expected = (testing.second(each, inputs) for each in (CALLS[operation], truth))
    assert max(map(testing.error, found, expected)) < 1e-10


@of_rows
def test_functorch(operation, device):
    function, (s, t) = given(operation, device, torch.float64)
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
