"""``edge_kl`` and ``info_nce``: KL divergence and cross entropy of edges, from the nodes; mathematics as in ``row_kl``.

Two paths. *products*: blocks of vendor products that stay in the L2 cache, weights made in place by ``row_kl_kernel``,
products again. *flash*: relations formed on chip, once for the values and once for the gradients, so that no matrix of
edges exists; for many edges of narrow nodes. ``flash_fwd_kernel`` makes the numbers of each row in one sweep over the
columns. With bounded relations (cosines) all powers share one shift, 1 / T: no running maximum, and the two sums are
subtracted before they are rounded. ``flash_bwd_kernel`` forms the edges again and multiplies their weights with the
other nodes.
"""

from collections.abc import Sequence
from typing import Any

import triton
import triton.language as tl
from torch import Tensor

from graphkd_kernels import reference
from graphkd_kernels._triton import edge_tiles, node_blocks
from graphkd_kernels._triton.configs import long_rows, math, pick, power
from graphkd_kernels._triton.edge_tiles import RELATIONS, relate
from graphkd_kernels._triton.kernel_rule import fit, kernel_rule
from graphkd_kernels._triton.launch import arch, empty, launch
from graphkd_kernels._triton.node_blocks import NodeProducts, as_graphs
from graphkd_kernels._triton.row_kl import (
    LN2,
    LOG2E,
    divergence,
    load_norm,
    online,
    online_pair,
    row_kl_kernel,
    store_norm,
)
from graphkd_kernels._triton.tiles import block_of, dot, exact, load, narrow, products
from graphkd_kernels.autograd import Found, Kept, Maybe, Needs, Options, apply

__all__ = ["edge_kl", "info_nce"]
WIDEST = 256  # features up to which forming edges twice is cheaper than writing and reading them
FEW = 2**22  # edges up to which they are written: tiles of rows would be too few programs
COLDEST = 0.025  # temperature down to which e^(-2 / T) is a normal float32


@triton.jit
def of_graph(x_ptr, y_ptr, x_size_ptr, y_size_ptr, graph, n, m, d, RELATION: tl.constexpr):
    """Where a graph's nodes x (b, n, d) and y (b, m, d) begin, and their sizes, which inner products do without."""
    if RELATION != 0:
        x_size_ptr, y_size_ptr = x_size_ptr + graph * n, y_size_ptr + graph * m
    return x_ptr + graph * n * d, y_ptr + graph * m * d, x_size_ptr, y_size_ptr


@triton.jit
def relations(
    x_ptr, y_ptr, x_size_ptr, y_size_ptr, row, column, n, m, d, gamma,
    RELATION: tl.constexpr, TINY: tl.constexpr, BK: tl.constexpr,
    PRECISION: tl.constexpr, UPCAST: tl.constexpr, SUMS: tl.constexpr,
):  # fmt: skip
    """Relations [ROWS, COLUMNS] of rows of x (n, d) with rows of y (m, d), and their slopes."""
    z = products(x_ptr, y_ptr, row, column, n, m, d, d, d, BK, PRECISION, UPCAST, SUMS)
    if RELATION == 0:
        steep = z * 0.0 + 1.0
    else:
        x_size = tl.load(x_size_ptr + row, mask=row < n, other=0.0)
        y_size = tl.load(y_size_ptr + column, mask=column < m, other=0.0)
        z, steep = relate(z, x_size, y_size, gamma, 0.0, RELATION, TINY)
    return z, steep


@triton.jit
def flash_fwd_kernel(
    xs_ptr, ys_ptr, xt_ptr, yt_ptr, xs_size_ptr, ys_size_ptr, xt_size_ptr, yt_size_ptr, positive_ptr,
    value_ptr, norm_s_ptr, norm_t_ptr, n, m, ds, dt, tiles, scale: tl.float64, gamma: tl.float64,
    TEACHER: tl.constexpr, SHIFTED: tl.constexpr, RELATION: tl.constexpr, TINY: tl.constexpr,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, BK: tl.constexpr,
    PRECISION: tl.constexpr, UPCAST: tl.constexpr, SUMS: tl.constexpr,
):  # fmt: skip
    """Value and norms (base-2 log-sum-exp) of rows of x (b, n, d) against all of y (b, m, d); scale = log2(e) / T."""
    scale, gamma = exact(scale, SUMS), exact(gamma, SUMS)
    graph, row = block_of(tiles, ROWS)
    keep = row < n
    xs_ptr, ys_ptr, xs_size_ptr, ys_size_ptr = of_graph(
        xs_ptr, ys_ptr, xs_size_ptr, ys_size_ptr, graph, n, m, ds, RELATION
    )
    if TEACHER:
        xt_ptr, yt_ptr, xt_size_ptr, yt_size_ptr = of_graph(
            xt_ptr, yt_ptr, xt_size_ptr, yt_size_ptr, graph, n, m, dt, RELATION
        )
    place = graph * n + row
    top_s = tl.full([ROWS], float("-inf"), SUMS)
    top_t = tl.full([ROWS], float("-inf"), SUMS)
    sum_s = tl.zeros([ROWS], SUMS)
    sum_t = tl.zeros([ROWS], SUMS)
    apart = tl.zeros([ROWS], SUMS)
    gap = tl.zeros([ROWS], SUMS)
    for start in range(0, m, COLUMNS):
        column = start + tl.arange(0, COLUMNS)
        live = (column < m)[None, :]
        s, _ = relations(
            xs_ptr, ys_ptr, xs_size_ptr, ys_size_ptr, row, column, n, m, ds, gamma,
            RELATION, TINY, BK, PRECISION, UPCAST, SUMS,
        )  # fmt: skip
        s *= scale
        if SHIFTED:
            power_s = tl.where(live, tl.exp2(s - scale), 0.0)
            sum_s += tl.sum(power_s, 1)
        else:
            s = tl.where(live, s, float("-inf"))
            if not TEACHER:
                top_s, sum_s, _, _ = online(s, top_s, sum_s)
        if TEACHER:
            t, _ = relations(
                xt_ptr, yt_ptr, xt_size_ptr, yt_size_ptr, row, column, n, m, dt, gamma,
                RELATION, TINY, BK, PRECISION, UPCAST, SUMS,
            )  # fmt: skip
            t *= scale
            if SHIFTED:
                power = tl.where(live, tl.exp2(t - scale), 0.0)
                sum_t += tl.sum(power, 1)
                apart += tl.sum(power_s - power, 1)
                gap += tl.sum(tl.where(live, power * (t - s), 0.0), 1)
            else:
                t = tl.where(live, t, float("-inf"))
                top_s, sum_s, top_t, sum_t, gap, apart = online_pair(s, t, live, top_s, sum_s, top_t, sum_t, gap, apart)
        else:
            positive = tl.load(positive_ptr + place, mask=keep, other=-1)
            gap += tl.sum(tl.where(column[None, :] == positive[:, None], s, 0.0), 1)
    if SHIFTED:
        top_s, top_t = tl.zeros([ROWS], SUMS) + scale, tl.zeros([ROWS], SUMS) + scale
    step = (tl.num_programs(0) // tiles).to(tl.int64) * n
    if TEACHER:
        value = divergence(gap, sum_s, sum_t, apart, SUMS)
        store_norm(norm_t_ptr, place, step, keep, top_t, sum_t)
    else:
        value = ((top_s - gap) + tl.log2(sum_s)) * exact(LN2, SUMS)
    store_norm(norm_s_ptr, place, step, keep, top_s, sum_s)
    tl.store(value_ptr + place, value, mask=keep)


@triton.jit
def _weight(
    s, t, top_s, log_s, top_t, log_t, value, positive, other,
    TEACHER: tl.constexpr, OF_TEACHER: tl.constexpr, SUMS: tl.constexpr,
):  # fmt: skip
    """Gradient of the rows' values in their logits s (or t); what belongs to the rows broadcasts."""
    s = (s - top_s) - log_s
    t = (t - top_t) - log_t
    if OF_TEACHER:
        w = tl.exp2(t) * ((t - s) * exact(LN2, SUMS) - value)
    else:
        w = tl.exp2(s) - (tl.exp2(t) if TEACHER else tl.where(positive == other, 1.0, 0.0).to(SUMS))
    return w


@triton.jit
def flash_bwd_kernel(
    xs_ptr, ys_ptr, xt_ptr, yt_ptr, xs_size_ptr, ys_size_ptr, xt_size_ptr, yt_size_ptr, positive_ptr,
    value_ptr, norm_s_ptr, norm_t_ptr, up_ptr, out_ptr, n, m, ds, dt, tiles,
    scale: tl.float64, temperature: tl.float64, gamma: tl.float64,
    TEACHER: tl.constexpr, OF_TEACHER: tl.constexpr, ROW: tl.constexpr, COLUMN: tl.constexpr,
    RELATION: tl.constexpr, TINY: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr, BK: tl.constexpr,
    WIDTH: tl.constexpr, PRECISION: tl.constexpr, UPCAST: tl.constexpr, SUMS: tl.constexpr,
):  # fmt: skip
    """Gradient in WIDTH features of rows of x (b, n, d): of their own values (ROW), of those of y's rows (COLUMN).

    For a graph with itself (y is x) both hold at once: the relation is symmetric, so one tile serves i -> j and j -> i.
    """
    scale, gamma = exact(scale, SUMS), exact(gamma, SUMS)
    graph, row = block_of(tiles, ROWS)
    feature = tl.program_id(1) * WIDTH + tl.arange(0, WIDTH)
    keep = row < n
    xs_ptr, ys_ptr, xs_size_ptr, ys_size_ptr = of_graph(
        xs_ptr, ys_ptr, xs_size_ptr, ys_size_ptr, graph, n, m, ds, RELATION
    )
    if TEACHER:
        xt_ptr, yt_ptr, xt_size_ptr, yt_size_ptr = of_graph(
            xt_ptr, yt_ptr, xt_size_ptr, yt_size_ptr, graph, n, m, dt, RELATION
        )
    place, graphs = graph * n + row, (tl.num_programs(0) // tiles).to(tl.int64)
    value, positive = tl.zeros([ROWS, 1], SUMS), tl.full([ROWS, 1], -1, tl.int64)
    top_s, log_s, top_t, log_t = value, value, value, value
    if ROW:
        top_s, log_s = load_norm(norm_s_ptr, place[:, None], graphs * n, keep[:, None])
        if TEACHER:
            top_t, log_t = load_norm(norm_t_ptr, place[:, None], graphs * n, keep[:, None])
            value = tl.load(value_ptr + place, mask=keep, other=0.0)[:, None]
        else:
            positive = tl.load(positive_ptr + place, mask=keep, other=-1)[:, None]
    total = tl.zeros([ROWS, WIDTH], SUMS)
    weights = tl.zeros([ROWS], SUMS)
    for start in range(0, m, COLUMNS):
        column = start + tl.arange(0, COLUMNS)
        live = keep[:, None] & (column < m)[None, :]
        s, steep = relations(
            xs_ptr, ys_ptr, xs_size_ptr, ys_size_ptr, row, column, n, m, ds, gamma,
            RELATION, TINY, BK, PRECISION, UPCAST, SUMS,
        )  # fmt: skip
        s *= scale
        t = s
        if TEACHER:
            t, steep_t = relations(
                xt_ptr, yt_ptr, xt_size_ptr, yt_size_ptr, row, column, n, m, dt, gamma,
                RELATION, TINY, BK, PRECISION, UPCAST, SUMS,
            )  # fmt: skip
            t *= scale
            if OF_TEACHER:
                steep = steep_t
        w = tl.zeros([ROWS, COLUMNS], SUMS)
        if ROW:
            w += _weight(s, t, top_s, log_s, top_t, log_t, value, positive, column[None, :], TEACHER, OF_TEACHER, SUMS)
        if COLUMN:
            there, real = (graph * m + column)[None, :], (column < m)[None, :]
            far_top_s, far_log_s = load_norm(norm_s_ptr, there, graphs * m, real)
            far_top_t, far_log_t, far_value, far_positive = far_top_s, far_log_s, far_log_s, row[:, None]
            if TEACHER:
                far_top_t, far_log_t = load_norm(norm_t_ptr, there, graphs * m, real)
                far_value = tl.load(value_ptr + there, mask=real, other=0.0)
            else:
                far_positive = tl.load(positive_ptr + there, mask=real, other=-1)
            w += _weight(
                s, t, far_top_s, far_log_s, far_top_t, far_log_t, far_value, far_positive, row[:, None],
                TEACHER, OF_TEACHER, SUMS,
            )  # fmt: skip
        w = tl.where(live, w * steep, 0.0)
        if RELATION != 0:
            weights += tl.sum(w, 1)
        y = load(yt_ptr, column, feature, m, dt, dt) if OF_TEACHER else load(ys_ptr, column, feature, m, ds, ds)
        total = dot(narrow(w, y.dtype, UPCAST), y, total, PRECISION, UPCAST)
    d = dt if OF_TEACHER else ds
    if RELATION != 0:  # slopes are those of x - y
        x = load(xt_ptr, row, feature, n, dt, dt) if OF_TEACHER else load(xs_ptr, row, feature, n, ds, ds)
        total = weights[:, None] * x.to(SUMS) - total
    up = tl.load(up_ptr).to(SUMS) / exact(temperature, SUMS)
    out = out_ptr + (place * d)[:, None] + feature[None, :]
    tl.store(out, total * up, mask=keep[:, None] & (feature < d)[None, :])


def _formula(
    xs: Tensor,
    ys: Maybe,
    xt: Maybe,
    yt: Maybe,
    positives: Any,
    kind: str,
    temperature: float,
    gamma: float,
    bounded: bool,
) -> Tensor:
    relation = "gram" if kind == "product" else kind
    if xt is None:
        return reference.info_nce(xs, ys, positives, relation, temperature, gamma)
    return reference.edge_kl(xs, ys, xt, yt, relation, temperature, gamma)


# products: value and gradients in one sweep


def _by_products(needs: Needs, *arguments: Any) -> Found:
    """Tensors xs, ys, xt, yt, positives; ys, yt ``None`` for a graph with itself, xt ``None`` for cross entropy."""
    positives, (kind, temperature, gamma, _) = arguments[4], arguments[5:]

    def loss(sides: Sequence[NodeProducts], weights: Sequence[Tensor], graph: slice, row: slice) -> Tensor:
        sizes: list[Maybe] = [None] * 4
        if kind != "product":
            sizes = [each for side, p in zip(sides, weights, strict=True) for each in side.sizes(p, graph, row)]
        student, teacher = weights[0], weights[1] if len(weights) == 2 else None
        (b, n, m), device, dtype = student.shape, student.device, student.dtype
        value, norm_s, norm_t = (empty((*extra, b, n), dtype, device) for extra in ((), (2,), (2,)))
        short = arch(device) < 90 and kind != "product"  # distances of longer rows spill there
        config = long_rows(m, dtype, device, 1024 * dtype.itemsize if short else 8192)
        tiles = triton.cdiv(n, config.rows)
        launch(
            row_kl_kernel, (b * tiles,), config, math(dtype), s_ptr=student, t_ptr=teacher,
            positive_ptr=None if positives is None else positives[row], row_s_ptr=sizes[0], column_s_ptr=sizes[1],
            row_t_ptr=sizes[-2], column_t_ptr=sizes[-1], up_ptr=None, value_ptr=value, norm_s_ptr=norm_s,
            norm_t_ptr=norm_t, ws_ptr=student, wt_ptr=teacher, n=n, m=m, tiles=tiles, s_batch=n * m, t_batch=n * m,
            w_batch=n * m, s_row=m, t_row=m, w_row=m, scale=LOG2E / temperature, temperature=float(temperature),
            gamma=float(gamma), TEACHER=teacher is not None, STATISTICS=True, WS=sides[0].needed,
            WT=teacher is not None and sides[1].needed, RELATION=RELATIONS[kind], TINY=math(dtype).tiny,
        )  # fmt: skip
        return value

    return node_blocks.sweep_products(arguments[:5], needs, kind != "product", loss)


# flash: the values in the forward pass, the gradients when their upstream factor is known


def _by_flash(needs: Needs, *arguments: Any) -> Found:
    call = _Flash(arguments[:5], arguments[5:])
    value = call.values()
    return value.sum(), (value, call.norm_s, call.norm_t)


def _flash_finish(needs: Needs, upstream: Tensor, tensors: Kept, kept: Kept, *options: Any) -> Kept:
    call = _Flash(tensors, options, kept)
    return (*(call.gradient(upstream, index) if need else None for index, need in enumerate(needs[:4])), None)


class _Flash:
    """Arguments of the two kernels, for the nodes as they are or with x and y exchanged."""

    def __init__(self, tensors: Kept, options: Options, kept: Kept = (None,) * 3) -> None:
        self.kind, self.temperature, self.gamma, self.bounded = options
        pairs = [(x, tensors[i + 1]) for i in (0, 2) if (x := tensors[i]) is not None]
        self.x, self.tensors = [as_graphs(x) for x, _ in pairs], tensors
        self.y = [x if y is None else as_graphs(y) for x, (_, y) in zip(self.x, pairs, strict=True)]
        self.math = math(self.x[0].dtype)
        self.value, self.norm_s, self.norm_t = kept

    def _arguments(self, x: Sequence[Tensor], y: Sequence[Tensor], rows: int) -> dict[str, Any]:
        sizes: list[Maybe] = [None] * 4
        if self.kind != "product":
            sizes = [edge_tiles.sizes(each, self.math) for pair in zip(x, y, strict=True) for each in pair] + [None] * 2
        (_, n, ds), m, teacher = x[0].shape, y[0].shape[1], len(x) == 2
        return {
            "xs_ptr": x[0], "ys_ptr": y[0], "xt_ptr": x[-1] if teacher else None,
            "yt_ptr": y[-1] if teacher else None, "xs_size_ptr": sizes[0],
            "ys_size_ptr": sizes[1], "xt_size_ptr": sizes[2], "yt_size_ptr": sizes[3], "positive_ptr": self.tensors[4],
            "value_ptr": self.value, "norm_s_ptr": self.norm_s, "norm_t_ptr": self.norm_t, "n": n, "m": m, "ds": ds,
            "dt": x[-1].shape[2] if teacher else 0, "tiles": triton.cdiv(n, rows), "scale": LOG2E / self.temperature,
            "gamma": float(self.gamma), "TEACHER": teacher, "RELATION": RELATIONS[self.kind], "TINY": self.math.tiny,
        }  # fmt: skip

    def values(self) -> Tensor:
        """Values of the rows (b, n); keeps their norms."""
        x = self.x[0]
        self.value = value = empty((*x.shape[:2],), x.dtype, x.device)
        self.norm_s = empty((2, *x.shape[:2]), x.dtype, x.device)
        if len(self.x) == 2:
            self.norm_t = empty((2, *x.shape[:2]), x.dtype, x.device)
        config = pick("flash", self.math, x.device)
        args = self._arguments(self.x, self.y, config.rows)
        launch(flash_fwd_kernel, (len(x) * args["tiles"],), config, self.math, **args, SHIFTED=self.bounded)
        return value

    def gradient(self, upstream: Tensor, index: int) -> Tensor:
        """upstream times the gradient in tensor ``index``."""
        of_teacher, of_y, both = index >= 2, index % 2 == 1, self.tensors[index | 1] is None
        x, y = (self.y, self.x) if of_y else (self.x, self.y)
        like, leaf = x[of_teacher], self.tensors[index]
        assert leaf is not None
        out = empty(like.shape, like.dtype, like.device)
        config = pick("flash_bwd", self.math, like.device)
        block, args = power(like.shape[2], config.chunk), self._arguments(x, y, config.rows)
        launch(
            flash_bwd_kernel, (len(like) * args["tiles"], triton.cdiv(like.shape[2], block)), config, self.math, **args,
            up_ptr=upstream, out_ptr=out, temperature=float(self.temperature), OF_TEACHER=of_teacher,
            ROW=both or not of_y, COLUMN=both or of_y, WIDTH=block,
        )  # fmt: skip
        return out.view(leaf.shape)


kernel_rule("triton/edge_kl/products", _by_products, _formula)
kernel_rule("triton/edge_kl/flash", _by_flash, _formula, finish=_flash_finish)


def path(edges_in_all: int, width: int) -> str:
    """Which of the two paths an operation takes."""
    return "products" if edges_in_all <= FEW or width > WIDEST else "flash"


def _run(
    xs: Tensor, ys: Maybe, xt: Maybe, yt: Maybe, positives: Maybe, relation: str, temperature: float, gamma: float
) -> Tensor:
    fit(xs, ys, xt, yt, positives)
    widest = max(xs.shape[-1], 0 if xt is None else xt.shape[-1])
    name = path(xs[..., 0].numel() * (xs if ys is None else ys).shape[-2], widest)
    one = node_blocks.one_type(xs, ys, xt, yt)
    ready: list[Maybe] = []
    for x, y in (one[:2], one[2:]):
        ready += (None, None) if x is None else node_blocks.prepared(x, y, relation)
    bounded = relation in ("cosine", "pearson") and temperature >= COLDEST
    kind = relation if relation in RELATIONS else "product"
    return apply(f"triton/edge_kl/{name}", (kind, temperature, gamma, bounded), *ready, positives)


def edge_kl(
    xs: Tensor, ys: Maybe, xt: Tensor, yt: Maybe, relation: str, temperature: float, gamma: float = 1.0
) -> Tensor:
    """Sum over rows of KL(softmax(teacher's relations / T) || softmax(student's / T)): ``reference.edge_kl``."""
    return _run(xs, ys, xt, yt, None, relation, temperature, gamma)


def info_nce(x: Tensor, y: Maybe, positives: Tensor, relation: str, temperature: float, gamma: float = 1.0) -> Tensor:
    """Sum over rows of -log softmax(relations / T) at each row's positive: ``reference.info_nce``."""
    return _run(x, y, None, None, positives, relation, temperature, gamma)
