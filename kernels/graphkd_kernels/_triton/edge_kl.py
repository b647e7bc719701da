"""``edge_kl`` and ``info_nce``: KL divergence and cross entropy of edges, from the nodes; mathematics as in ``row_kl``.

Blocks of products (``terms``) that stay in the L2 cache; ``row_kl_kernel`` turns them into values and into the weights
of the gradient; products again. No matrix of all edges exists.
"""

from collections.abc import Sequence
from typing import Any

import torch
import triton
from torch import Tensor

from graphkd_kernels import reference
from graphkd_kernels._triton import interpreting, node_blocks
from graphkd_kernels._triton.configs import long_rows, math
from graphkd_kernels._triton.edge_tiles import RELATIONS
from graphkd_kernels._triton.kernel_rule import fit, kernel_rule
from graphkd_kernels._triton.launch import arch, empty, launch
from graphkd_kernels._triton.node_blocks import NodeProducts
from graphkd_kernels._triton.row_kl import LOG2E, row_kl_kernel
from graphkd_kernels.autograd import Found, Maybe, Needs, apply
from graphkd_kernels.precision import widened

__all__ = ["edge_kl", "info_nce"]


@widened
def _formula(
    xs: Tensor, ys: Maybe, xt: Maybe, yt: Maybe, positives: Any, kind: str, temperature: float, gamma: float,
    terms: tuple[int, int],
) -> Tensor:  # fmt: skip
    relation = "gram" if kind == "product" else kind
    if xt is None:
        return reference.info_nce(xs, ys, positives, relation, temperature, gamma)
    return reference.edge_kl(xs, ys, xt, yt, relation, temperature, gamma)


def _gradients(needs: Needs, *arguments: Any) -> Found:
    """Tensors xs, ys, xt, yt, positives; ys, yt ``None`` for a graph with itself, xt ``None`` for cross entropy."""
    positives, (kind, temperature, gamma, terms) = arguments[4], arguments[5:]

    def loss(
        sides: Sequence[NodeProducts], products: Sequence[Tensor], weights: Sequence[Maybe], graph: slice, row: slice
    ) -> Tensor:
        student, teacher = products[0], products[1] if len(products) == 2 else None
        some = next((each for each in weights if each is not None), student.unsqueeze(0))
        (b, n, m), device, dtype = student.shape, student.device, student.dtype
        value, norm_s, norm_t = (empty((*extra, b, n), dtype, device) for extra in ((), (2,), (2,)))
        short = arch(device) < 90 and kind != "product"  # distances of longer rows spill there
        # One row of float64 distances at a time, or two, spill with sm_90's assembler of Triton 3.6.
        columns = min(m, 256) if kind != "product" and dtype == torch.float64 else m
        config = long_rows(columns, dtype, device, 1024 * dtype.itemsize if short else 8192)
        tiles = triton.cdiv(n, config.rows)
        launch(
            row_kl_kernel, (b * tiles,), config, math(dtype), s_ptr=student, t_ptr=teacher,
            positive_ptr=None if positives is None else positives[row], up_ptr=None, up_step=0, value_ptr=value,
            norm_s_ptr=norm_s, norm_t_ptr=norm_t, ws_ptr=weights[0], wt_ptr=weights[-1], n=n, m=m, tiles=tiles,
            s_batch=student.stride(0), t_batch=0 if teacher is None else teacher.stride(0), w_batch=some.stride(1),
            s_row=student.stride(1), t_row=0 if teacher is None else teacher.stride(1), w_row=some.stride(2),
            w_step=some.stride(0), scale=LOG2E / temperature, temperature=float(temperature), gamma=float(gamma),
            TEACHER=teacher is not None, STATISTICS=True, WS=sides[0].needed,
            WT=teacher is not None and sides[1].needed, TERMS_S=sides[0].terms, TERMS_T=sides[-1].terms,
            RELATION=RELATIONS[kind], UPCAST=interpreting(),
        )  # fmt: skip
        return value

    return node_blocks.sweep_products(arguments[:5], needs, terms, kind != "product", loss)


kernel_rule("triton/edge_kl", _gradients, _formula)


def _run(
    xs: Tensor, ys: Maybe, xt: Maybe, yt: Maybe, positives: Maybe, relation: str, temperature: float, gamma: float
) -> Tensor:
    fit(xs, ys, xt, yt, positives)
    ready: list[Maybe] = []
    terms = [0, 0]
    for side, (x, y) in enumerate(node_blocks.one_precision(xs, ys, xt, yt)):
        if x is None:
            ready += (None, None)
            continue
        rows, targets = node_blocks.prepared(x, y, relation)
        terms[side] = node_blocks.terms_for(x, rows, relation)
        ready += (rows, targets)
    kind = relation if relation in RELATIONS else "product"
    return apply("triton/edge_kl", (kind, temperature, gamma, tuple(terms)), *ready, positives)


def edge_kl(
    xs: Tensor, ys: Maybe, xt: Tensor, yt: Maybe, relation: str, temperature: float, gamma: float = 1.0
) -> Tensor:
    """Sum over rows of KL(softmax(teacher's relations / T) || softmax(student's / T)): ``reference.edge_kl``."""
    return _run(xs, ys, xt, yt, None, relation, temperature, gamma)


def info_nce(x: Tensor, y: Maybe, positives: Tensor, relation: str, temperature: float, gamma: float = 1.0) -> Tensor:
    """Sum over rows of -log softmax(relations / T) at each row's positive: ``reference.info_nce``."""
    return _run(x, y, None, None, positives, relation, temperature, gamma)
