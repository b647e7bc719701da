"""The operations that compare row by row, as (call, inputs): what the tests of every backend run through."""

import torch
from graphkd_kernels import dispatch

from tests.kernels.inputs import randn


def run(operation, *options):
    return lambda *tensors: dispatch.run(operation, *tensors, *options)


def two_sided(relation, temperature=0.7, gamma=0.3):
    return run("edge_kl", relation, temperature, gamma)


def within(call):
    return lambda xs, xt: call(xs, None, xt, None)


def contrast(relation, own=False):
    def call(x, y=None):
        positives = torch.arange(len(x)) % len(x if y is None else y)
        return dispatch.run("info_nce", x, y, positives, relation, 0.7, 0.3)

    return call


def angles(s, t):
    return dispatch.run("rkd_angle", s, t, len(s) // 4, len(s) - len(s) // 5)


INNER = ("gram", "cosine", "pearson")
RELATIONS = (*INNER, "euclidean", "squared_euclidean", "rbf")
ROWS = {
    "row_kl": run("row_kl", 2.0),
    "row_pearson": run("row_pearson"),
    "damped_row_pearson": run("damped_row_pearson", 0.1),
    "damped_column_pearson": run("damped_column_pearson", 0.1),
}
"""(n, m) and (n, m) -> one number for each row or column."""
SCORES = {"dist_sums": run("dist_sums", 2.0, 0.1)}
"""(n, m) and (n, m) -> two sums."""
BETWEEN = {f"edge_kl-{each}": two_sided(each) for each in RELATIONS} | {"edge_pkt": run("edge_pkt")}
"""xs (n, d), ys (m, d), xt (n, e), yt (m, e) -> scalar."""
WITHIN = {f"{name}-within": within(call) for name, call in BETWEEN.items()} | {
    "rkd_distance": run("rkd_distance"),
    "rkd_angle": angles,
}
"""xs (n, d), xt (n, e) -> scalar."""
CONTRAST = {f"info_nce-{each}": contrast(each) for each in RELATIONS}
"""x (n, d), y (m, d) -> scalar."""


def inputs(name, n=17, m=9, d=5, e=7):
    """Random inputs of an operation by name."""
    if name in ROWS | SCORES:
        return [randn(n, m), randn(n, m, seed=1)]
    if name in BETWEEN:
        return [randn(n, d), randn(m, d, seed=1), randn(n, e, seed=2), randn(m, e, seed=3)]
    if name in CONTRAST:
        return [randn(n, d), randn(m, d, seed=1)]
    return [randn(n, d), randn(n, e, seed=1)]


CALLS = ROWS | SCORES | BETWEEN | WITHIN | CONTRAST


def value_and_gradients(backend, call, tensors, which=None, dtype=None):
    """Value and gradients for a random upstream gradient; ``which``: tensors that require one."""
    which = range(len(tensors)) if which is None else which
    leaves = [x.detach().to(dtype or x.dtype).clone() for x in tensors]
    for i in which:
        leaves[i].requires_grad_()
    with dispatch.backend(backend):
        value = call(*leaves)
    upstream = randn(*value.shape, seed=9).to(value)
    return value.detach(), torch.autograd.grad(value, [leaves[i] for i in which], upstream)
