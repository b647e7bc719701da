"""Blocked products are float32 whatever ``torch.set_float32_matmul_precision`` says: the same bits, forward and backward."""

import pytest
import torch
from graphkd_kernels import dispatch
from graphkd_kernels.precision import rounds, unrounded
from torch._dynamo.backends.common import aot_autograd
from torch._functorch.aot_autograd import make_boxed_func

from tests.kernels import relational_cases as cases
from tests.kernels.inputs import randn
from tests.kernels.rounding import rounded_products, tf32


def run(name, *options):
    return lambda *tensors: dispatch.run(name, *tensors, *options)


def many(call):
    return call, randn(90, 6), randn(90, 6, seed=1)


def few(call):
    return call, randn(12, 6), randn(12, 6, seed=1)


EDGES = {
    "square, pairs": few(cases.within(run("edge_sum", "pearson", "square"))),
    "square, D x D": many(cases.within(run("edge_sum", "gram", "square"))),
    "huber": few(cases.within(run("edge_sum", "euclidean", "huber"))),
    "unit rows": few(cases.within(run("unit_edge_sum"))),
    "ega, pairs": few(run("ega_sums", "pearson")),
    "ega, D x D": many(run("ega_sums", "pearson")),
    "nodes": few(run("node_sum", "pearson", "identity", 0, None)),
    "joint_gram": few(run("joint_gram", "gram")),
    "similarity": few(run("similarity", "cosine")),
    "similarity of one set": (lambda x: dispatch.run("similarity", x, None, "cosine"), randn(12, 6)),
    "knn": (lambda x: dispatch.run("knn", x, 3)[1], randn(40, 6)),
}
CALLS = EDGES | {name: (call, *cases.inputs(name)) for name, call in cases.CALLS.items()}


@pytest.mark.parametrize("name", CALLS)
def test_no_product_is_rounded(name):
    call, *inputs = CALLS[name]
    expected = cases.value_and_gradients("blocked", call, inputs, dtype=torch.float32)
    with rounded_products() as mode:
        found = cases.value_and_gradients("blocked", call, inputs, dtype=torch.float32)
    assert mode.count == 0
    assert torch.equal(found[0], expected[0])
    assert all(torch.equal(*pair) for pair in zip(found[1], expected[1], strict=True))


WHOLE = {"gram": "gram", "squared distances": "squared_distances"}


@pytest.mark.parametrize("name", WHOLE)
@pytest.mark.parametrize("backend", ["auto", "eager", "blocked"])
def test_whole_matrices_are_float32_on_every_backend(name, backend):
    """Also of the same rows twice, with a close pair, and in graphs."""
    call = run(WHOLE[name])
    x, y = randn(12, 6), randn(9, 6, seed=1)
    x[3] = x[4] + 1e-4
    own, graphs = (lambda x: call(x, x)), [randn(2, 5, 6), randn(2, 4, 6, seed=1)]
    for function, tensors in ((call, [x, y]), (own, [x]), (call, graphs)):
        expected = cases.value_and_gradients(backend, function, tensors, dtype=torch.float32)
        with rounded_products() as mode:
            found = cases.value_and_gradients(backend, function, tensors, dtype=torch.float32)
        assert mode.count == 0
        torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", ["square, pairs", "ega, D x D", "similarity", "joint_gram", "knn", "huber"])
def test_compiled_products_stay_in_operators(name):
    call, *inputs = CALLS[name]
    seen = set()

    def note(graph, _):
        seen.update(getattr(node.target, "__name__", "").split(".")[0] for node in graph.graph.nodes)
        return make_boxed_func(graph.forward)

    torch.compiler.reset()
    expected = cases.value_and_gradients("blocked", call, inputs, dtype=torch.float32)
    torch.set_float32_matmul_precision("high")
    try:
        compiled = torch.compile(call, backend=aot_autograd(fw_compiler=note), fullgraph=True)
        found = cases.value_and_gradients("blocked", compiled, inputs, dtype=torch.float32)
    finally:
        torch.set_float32_matmul_precision("highest")
    torch.testing.assert_close(found, expected)
    assert not seen & {"mm", "bmm", "addmm", "baddbmm", "matmul"}, seen


def test_auto_leaves_no_product_to_the_eager_form():
    _, *inputs = CALLS["square, pairs"]
    assert (
        dispatch.choose("edge_sum", ((2, 3), None, (2, 3), None, "rbf", "square"), torch.float32, "cpu").backend
        == "eager"
    )
    with rounded_products() as mode:
        cases.value_and_gradients("auto", cases.within(run("edge_sum", "rbf", "square")), inputs, None, torch.float32)
    assert mode.count == 0


@pytest.mark.parametrize("precision", ["high", "medium", "highest"])
def test_the_switch_is_put_back(precision):
    torch.set_float32_matmul_precision(precision)
    try:
        with pytest.raises(KeyError), unrounded("cpu"):
            assert not rounds("cpu")
            raise KeyError
        assert torch.get_float32_matmul_precision() == precision
        assert rounds("cpu") == (precision != "highest")
    finally:
        torch.set_float32_matmul_precision("highest")


def test_the_switch_of_one_backend():
    torch.backends.mkldnn.matmul.fp32_precision = "tf32"
    try:
        with unrounded("cpu"):
            assert not rounds("cpu")
        assert torch.backends.mkldnn.matmul.fp32_precision == "tf32"
    finally:
        torch.backends.mkldnn.matmul.fp32_precision = "none"


def test_a_plain_product_is_rounded_here():
    x, y = (randn(5, 4, seed=seed).float() for seed in range(2))
    with rounded_products() as mode:
        found = x @ y.T
    assert mode.count == 1
    torch.testing.assert_close(found, tf32(x) @ tf32(y).T, rtol=0, atol=1e-6)
    assert (found - x @ y.T).abs().max() > 1e-5
