"""KL divergence and cross entropy of the edges of two graphs, from their nodes: no matrix of edges exists.

``flash_fwd_kernel`` makes the numbers of each row in one sweep over the columns. With bounded relations (cosines) all
powers share one shift, 1 / T: no running maximum, and the two sums are subtracted before they are rounded.
``flash_bwd_kernel`` forms the edges again and multiplies their weights with the other nodes.
"""

import triton
import triton.language as tl

from graphkd_kernels._triton.edges import relate
from graphkd_kernels._triton.row_kl import LN2, divergence, exact, load_norm, online, online_pair, store_norm
from graphkd_kernels._triton.tiles import block_of, dot, load, narrow, products


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
