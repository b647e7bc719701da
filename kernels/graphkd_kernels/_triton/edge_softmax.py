"""``edge_kl`` and ``info_nce``: edges that a softmax turns into distributions.

Two paths. *products*: blocks of vendor products that stay in the L2 cache, weights made in place, products again.
*flash*: relations formed on chip, once for the values and once for the gradients; for many edges of narrow nodes.
"""

from collections.abc import Callable, Sequence
from typing import Any

import triton
from torch import Tensor

from graphkd_kernels import reference
from graphkd_kernels._triton import edges, nodes
from graphkd_kernels._triton.cases import WIDE, Case
from graphkd_kernels._triton.edges import RELATIONS
from graphkd_kernels._triton.flash import flash_bwd_kernel, flash_fwd_kernel
from graphkd_kernels._triton.flash_configs import arithmetic, long_rows, pick, width
from graphkd_kernels._triton.late import LateRule
from graphkd_kernels._triton.launch import arch, empty, launch
from graphkd_kernels._triton.library import KernelRule, fit, register, there
from graphkd_kernels._triton.nodes import Side, gradients_of, tiny
from graphkd_kernels._triton.row_kl import row_kl_kernel
from graphkd_kernels._triton.tiles import TYPES, constants
from graphkd_kernels.autograd import Maybe, Needs, Options, apply

WIDEST = 256  # features up to which forming edges twice is cheaper than writing and reading them
FEW = 2**22  # edges up to which they are written: tiles of rows would be too few programs
COLDEST = 0.025  # temperature down to which e^(-2 / T) is a normal float32
LOG2E = 1.4426950408889634


class _Softmax(KernelRule):
    """Tensors: xs, ys, xt, yt, positives; ys, yt ``None`` for a graph with itself, xt ``None`` for cross entropy."""

    def formula(self, options: Options, *tensors: Maybe) -> Tensor:
        kind, temperature, gamma, _ = options
        xs, ys, xt, yt, positives = tensors
        relation = "gram" if kind == "product" else kind
        if xt is None:
            value: Tensor = reference.info_nce(xs, ys, positives, relation, temperature, gamma)
        else:
            value = reference.edge_kl(xs, ys, xt, yt, relation, temperature, gamma)
        return value


class ProductEdges(_Softmax):
    """Blocks of products; value and gradients in one sweep."""

    def compute(self, options: Options, needs: Needs, *tensors: Maybe) -> tuple[Tensor, tuple[Maybe, ...]]:
        places = (0,) if tensors[2] is None else (0, 2)
        sides = [Side(tensors[i], tensors[i + 1], *needs[i : i + 2]) for i in places]
        (graphs, n, _), m = sides[0].x.shape, sides[0].y.shape[1]
        parts = []
        for graph, row in nodes.blocks(graphs, n, m):
            weights = [side.products(graph, row) for side in sides]
            sizes: list[Maybe] = [None] * 4
            if options[0] != "product":
                sizes = [each for side, p in zip(sides, weights, strict=True) for each in side.sizes(p, graph, row)]
            positives = None if tensors[4] is None else tensors[4][row]
            parts.append(divergence(options, weights, sizes, positives, [side.needed for side in sides]).sum())
            for side, weight in zip(sides, weights, strict=True):
                side.add(weight, graph, row, options[0] != "product")
        return nodes.total(parts), gradients_of(sides, needs, tensors)


def divergence(
    options: Options, products: Sequence[Tensor], sizes: Sequence[Maybe], positives: Maybe, needed: Sequence[bool]
) -> Tensor:
    """Values (b, n) of a block's rows; products (b, n, m) of sides with a gradient are overwritten by its weights."""
    kind, temperature, gamma, _ = options
    student, teacher = products[0], products[1] if len(products) == 2 else None
    (b, n, m), device, dtype = student.shape, student.device, student.dtype
    value, norm_s, norm_t = (empty((*extra, b, n), dtype, device) for extra in ((), (2,), (2,)))
    short = arch(device) < 90 and kind != "product"  # distances of longer rows spill there
    config = long_rows(m, dtype, device, 1024 * dtype.itemsize if short else 8192)
    tiles = triton.cdiv(n, config.rows)
    args = {
        "s_ptr": student, "t_ptr": teacher, "positive_ptr": positives, "row_s_ptr": sizes[0], "column_s_ptr": sizes[1],
        "row_t_ptr": sizes[-2], "column_t_ptr": sizes[-1], "up_ptr": None, "value_ptr": value, "norm_s_ptr": norm_s,
        "norm_t_ptr": norm_t, "ws_ptr": student, "wt_ptr": teacher, "n": n, "m": m, "tiles": tiles,
        "s_batch": n * m, "t_batch": n * m, "w_batch": n * m, "s_row": m, "t_row": m, "w_row": m,
        "scale": LOG2E / temperature, "temperature": float(temperature), "gamma": float(gamma),
    }  # fmt: skip
    rule = {
        "TEACHER": teacher is not None, "STATISTICS": True, "WS": needed[0], "WT": len(needed) == 2 and needed[1],
        "RELATION": RELATIONS[kind], "TINY": tiny(dtype), "ROWS": config.rows, "COLUMNS": config.columns,
        "SUMS": TYPES[dtype],
    }  # fmt: skip
    launch(row_kl_kernel, (b * tiles,), args, rule, config)
    return value


class FlashEdges(_Softmax, LateRule):
    """Relations formed on chip: the values in the forward pass, the gradients when their upstream factor is known."""

    def start(self, options: Options, *tensors: Maybe) -> tuple[Tensor, tuple[Maybe, ...]]:
        call = _Flash(options, tensors)
        value = call.values()
        return value.sum(), (value, call.norm_s, call.norm_t)

    def end(
        self, options: Options, needs: Needs, upstream: Tensor, tensors: Sequence[Maybe], kept: Sequence[Maybe]
    ) -> tuple[Maybe, ...]:
        call = _Flash(options, tensors, kept)
        found = (call.gradient(upstream, index) if need else None for index, need in enumerate(needs[:4]))
        return (*found, None)


class _Flash:
    """Arguments of the two kernels, for the nodes as they are or with x and y exchanged."""

    def __init__(self, options: Options, tensors: Sequence[Maybe], kept: Sequence[Maybe] = (None,) * 3) -> None:
        self.options, self.tensors = options, tensors
        pairs = [(tensors[i], tensors[i + 1]) for i in (0, 2) if tensors[i] is not None]
        self.x = [nodes.as_graphs(*there(x)) for x, _ in pairs]
        self.y = [x if y is None else nodes.as_graphs(y) for x, (_, y) in zip(self.x, pairs, strict=True)]
        self.math = arithmetic(self.x[0].dtype)
        self.value, self.norm_s, self.norm_t = kept

    def _arguments(self, x: Sequence[Tensor], y: Sequence[Tensor], rows: int) -> tuple[dict[str, Any], dict[str, Any]]:
        kind, temperature, gamma, _ = self.options
        sizes: list[Maybe] = [None] * 4
        if kind != "product":
            sizes = [edges.sizes(each, self.math) for pair in zip(x, y, strict=True) for each in pair] + [None] * 2
        (_, n, ds), m, teacher = x[0].shape, y[0].shape[1], len(x) == 2
        args = {
            "xs_ptr": x[0], "ys_ptr": y[0], "xt_ptr": x[-1] if teacher else None,
            "yt_ptr": y[-1] if teacher else None, "xs_size_ptr": sizes[0],
            "ys_size_ptr": sizes[1], "xt_size_ptr": sizes[2], "yt_size_ptr": sizes[3], "positive_ptr": self.tensors[4],
            "value_ptr": self.value, "norm_s_ptr": self.norm_s, "norm_t_ptr": self.norm_t, "n": n, "m": m, "ds": ds,
            "dt": x[-1].shape[2] if teacher else 0, "tiles": triton.cdiv(n, rows),
            "scale": LOG2E / temperature, "gamma": float(gamma),
        }  # fmt: skip
        rule = {"TEACHER": teacher, "RELATION": RELATIONS[kind], "TINY": tiny(x[0].dtype)}
        return args, rule | constants(self.math)

    def values(self) -> Tensor:
        """Values of the rows (b, n); keeps their norms."""
        x = self.x[0]
        self.value = value = empty((*x.shape[:2],), x.dtype, x.device)
        self.norm_s = empty((2, *x.shape[:2]), x.dtype, x.device)
        if len(self.x) == 2:
            self.norm_t = empty((2, *x.shape[:2]), x.dtype, x.device)
        config = pick("flash", self.math, x.device)
        args, rule = self._arguments(self.x, self.y, config.rows)
        rule |= {"SHIFTED": self.options[3], "ROWS": config.rows, "COLUMNS": config.columns, "BK": config.depth}
        launch(flash_fwd_kernel, (len(x) * args["tiles"],), args, rule, config, self.math.name)
        return value

    def gradient(self, upstream: Tensor, index: int) -> Tensor:
        """upstream times the gradient in tensor ``index``."""
        of_teacher, of_y = index >= 2, index % 2 == 1
        both = self.tensors[index | 1] is None
        x, y = (self.y, self.x) if of_y else (self.x, self.y)
        like = x[of_teacher]
        out = empty(like.shape, like.dtype, like.device)
        config = pick("flash_bwd", self.math, like.device)
        block = width(like.shape[2], config)
        args, rule = self._arguments(x, y, config.rows)
        args |= {"up_ptr": upstream, "out_ptr": out, "temperature": float(self.options[1])}
        rule |= {
            "OF_TEACHER": of_teacher, "ROW": both or not of_y, "COLUMN": both or of_y, "ROWS": config.rows,
            "COLUMNS": config.columns, "BK": config.depth, "WIDTH": block,
        }  # fmt: skip
        grid = (len(like) * args["tiles"], triton.cdiv(like.shape[2], block))
        launch(flash_bwd_kernel, grid, args, rule, config, self.math.name)
        return out.view(there(self.tensors[index])[0].shape)


register("triton/edge_softmax/products", ProductEdges())
register("triton/edge_softmax/flash", FlashEdges())


def path(edges_in_all: int, width: int) -> str:
    """Which of the two paths an operation takes."""
    return "products" if edges_in_all <= FEW or width > WIDEST else "flash"


def _run(
    xs: Tensor, ys: Maybe, xt: Maybe, yt: Maybe, positives: Maybe, relation: str, temperature: float, gamma: float
) -> Tensor:
    fit(xs, ys, xt, yt, positives)
    widest = max(xs.shape[-1], 0 if xt is None else xt.shape[-1])
    name = path(xs[..., 0].numel() * (xs if ys is None else ys).shape[-2], widest)
    one = nodes.one_type(xs, ys, xt, yt)
    (student,) = there(one[0])
    ready = [*nodes.prepared(student, one[1], relation), None, None]
    if xt is not None:
        (teacher,) = there(one[2])
        ready[2:] = nodes.prepared(teacher, one[3], relation)
    bounded = relation in ("cosine", "pearson") and temperature >= COLDEST
    options = nodes.inner(relation), temperature, gamma, bounded
    return apply(f"triton/edge_softmax/{name}", options, *ready, positives)


def edge_kl(
    xs: Tensor, ys: Maybe, xt: Tensor, yt: Maybe, relation: str, temperature: float, gamma: float = 1.0
) -> Tensor:
    """Sum over rows of KL(softmax(teacher's relations / T) || softmax(student's / T)): ``reference.edge_kl``."""
    return _run(xs, ys, xt, yt, None, relation, temperature, gamma)


def info_nce(x: Tensor, y: Maybe, positives: Tensor, relation: str, temperature: float, gamma: float = 1.0) -> Tensor:
    """Sum over rows of -log softmax(relations / T) at each row's positive: ``reference.info_nce``."""
    return _run(x, y, None, None, positives, relation, temperature, gamma)


OPERATIONS: dict[str, Callable[..., Any]] = {"edge_kl": edge_kl, "info_nce": info_nce}

_BATCH = ((2, 1000, 128), None, (2, 1000, 96), None, None)
_PROXIES = ((1000, 256), (500, 256), (1000, 200), (500, 200), None)
_ALL, _X, _STUDENT = (
    (True, True, True, True, False),
    (True, False, True, False, False),
    (True, False, False, False, False),
)
CASES = [
    Case("triton/edge_softmax/flash", ("product", 0.1, 1.0, True), _PROXIES, _STUDENT, dtypes=WIDE),
    Case("triton/edge_softmax/flash", ("product", 1.0, 1.0, False), _PROXIES, _ALL, dtypes=WIDE),
    Case("triton/edge_softmax/flash", ("product", 0.1, 1.0, True), _BATCH, _X, dtypes=WIDE),
    *(
        Case("triton/edge_softmax/flash", (kind, 1.0, 1.0, False), _BATCH, _X, dtypes=WIDE)
        for kind in ("euclidean", "squared_euclidean", "rbf")
    ),
    *(
        Case(
            f"triton/edge_softmax/{path}", (kind, 0.1, 1.0, False), ((1000, 128), (500, 128), None, None, (1000,)),
            (True, True, False, False, False), dtypes=WIDE, integers=(4,),
        )
        for path in ("flash", "products")
        for kind in ("product", "euclidean")
    ),
    *(
        Case("triton/edge_softmax/products", (kind, 0.1, 1.0, False), shapes, _ALL, WIDE)
        for kind in ("product", "euclidean", "squared_euclidean", "rbf")
        for shapes in (_PROXIES, ((70, 65), (10_000, 65), (70, 33), (10_000, 33), None))
    ),
]  # fmt: skip
