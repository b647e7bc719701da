"""``row_pearson``, ``damped_row_pearson`` and ``damped_column_pearson``: launches of the kernels in ``pearson``."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
import triton
from torch import Tensor

from graphkd_kernels import reference
from graphkd_kernels._triton.cases import Case
from graphkd_kernels._triton.configs import Config
from graphkd_kernels._triton.flash_configs import long_rows, short_tile
from graphkd_kernels._triton.late import LateRule
from graphkd_kernels._triton.launch import arch, empty, launch
from graphkd_kernels._triton.library import fit, register, there
from graphkd_kernels._triton.pearson import (
    pearson_bwd_kernel,
    pearson_merge_kernel,
    pearson_parts_kernel,
    pearson_rows_kernel,
)
from graphkd_kernels._triton.row_losses import matrices, sums_type
from graphkd_kernels._triton.tiles import TYPES
from graphkd_kernels.autograd import Maybe, Needs, Options, apply
from graphkd_kernels.precision import widened


class _Pearson(LateRule):
    """Tensors: student and teacher (*b, n, m). Options: eps beside the lengths' product."""

    of_rows: bool

    def statistics(self, s: Tensor, t: Tensor, eps: float) -> Tensor:
        """Six numbers for each row or column, (6, b, n) or (6, b, m)."""
        raise NotImplementedError

    def start(self, options: Options, *tensors: Maybe) -> tuple[Tensor, tuple[Maybe, ...]]:
        student, teacher = there(*tensors)
        s, t = matrices(student, teacher)
        found = self.statistics(s, t, options[0])
        return found[0].view(self._shape(student)), (found,)

    def _shape(self, x: Tensor) -> tuple[int, ...]:
        return (*x.shape[:-1],) if self.of_rows else (*x.shape[:-2], x.shape[-1])

    def empty(self, options: Options, *tensors: Maybe) -> Tensor:
        student, teacher = there(*tensors)
        return student.new_empty(self._shape(student), dtype=sums_type(student, teacher))

    def spread(self, upstream: Tensor, gradient: Tensor) -> Tensor:
        return upstream.unsqueeze(-1 if self.of_rows else -2)

    def end(
        self, options: Options, needs: Needs, upstream: Tensor, tensors: Sequence[Maybe], kept: Sequence[Maybe]
    ) -> tuple[Maybe, ...]:
        (student, teacher), (found,) = there(*tensors), there(*kept)
        s, t = matrices(student, teacher)
        (b, n, m), both = s.shape, zip((s, t), needs, strict=True)
        dx, dy = (empty(s.shape, each.dtype, s.device) if need else None for each, need in both)
        config = short_tile(m, found.dtype, s.device)
        blocks, tiles = triton.cdiv(n, config.rows), triton.cdiv(m, config.columns)
        args = _strides(s, t) | {
            "stat_ptr": found, "up_ptr": upstream.contiguous(), "dx_ptr": dx, "dy_ptr": dy, "blocks": blocks,
            "tiles": tiles, "step": found[0].numel(),
        }  # fmt: skip
        rule = {"OF_ROWS": self.of_rows, "ROWS": config.rows, "COLUMNS": config.columns, "SUMS": TYPES[found.dtype]}
        launch(pearson_bwd_kernel, (b * blocks * tiles,), args, rule, config)
        return tuple(None if each is None else each.view(student.shape) for each in (dx, dy))


class RowPearson(_Pearson):
    """Correlations of rows (*b, n)."""

    of_rows = True

    def statistics(self, s: Tensor, t: Tensor, eps: float) -> Tensor:
        (b, n, m), dtype = s.shape, sums_type(s, t)
        config = long_rows(m, dtype, s.device)
        tiles = triton.cdiv(n, config.rows)
        out = empty((6, b, n), dtype, s.device)
        args = _strides(s, t) | {"out_ptr": out, "tiles": tiles, "eps": float(eps)}
        rule = {
            "TINY": _tiny(dtype), "WHOLE": m <= config.columns, "ROWS": config.rows, "COLUMNS": config.columns,
            "SUMS": TYPES[dtype],
        }  # fmt: skip
        launch(pearson_rows_kernel, (b * tiles,), args, rule, config)
        return out

    def formula(self, options: Options, *tensors: Maybe) -> Tensor:
        if options[0] == 0:
            value: Tensor = widened(reference.row_pearson)(*tensors)
        else:
            value = widened(reference.damped_row_pearson)(*tensors, options[0])
        return value


class ColumnPearson(_Pearson):
    """Correlations of columns (*b, m), without a transposed copy."""

    of_rows = False

    def statistics(self, s: Tensor, t: Tensor, eps: float) -> Tensor:
        (b, n, m), dtype = s.shape, sums_type(s, t)
        config = _tile(m, s.device)
        blocks, tiles = triton.cdiv(n, config.rows), triton.cdiv(m, config.columns)
        parts = empty((b, blocks, 5, m), dtype, s.device)
        args = _strides(s, t) | {"part_ptr": parts, "blocks": blocks, "tiles": tiles}
        rule = {"ROWS": config.rows, "COLUMNS": config.columns, "SUMS": TYPES[dtype]}
        launch(pearson_parts_kernel, (b * blocks * tiles,), args, rule, config)
        out = empty((6, b, m), dtype, s.device)
        args |= {"out_ptr": out, "eps": float(eps)}
        args = {name: value for name, value in args.items() if name not in ("x_row", "y_row")}
        launch(pearson_merge_kernel, (b * tiles,), args, rule | {"TINY": _tiny(dtype)}, config)
        return out

    def formula(self, options: Options, *tensors: Maybe) -> Tensor:
        value: Tensor = widened(reference.damped_column_pearson)(*tensors, options[0])
        return value


def _tiny(dtype: torch.dtype) -> float:
    return 4 * torch.finfo(dtype).eps


def _tile(columns: int, device: torch.device) -> Config:
    """A tile of both matrices in registers: 64 rows of 64 columns, which also merges few partial sums."""
    if arch(device) == 0:
        return Config(64, 64, 1, 4, 1)
    return Config(64, min(max(triton.next_power_of_2(columns), 16), 64), 1, 4, 1)


def _strides(s: Tensor, t: Tensor) -> dict[str, Any]:
    return {
        "x_ptr": s, "y_ptr": t, "n": s.shape[1], "m": s.shape[2], "x_batch": s.stride(0), "y_batch": t.stride(0),
        "x_row": s.stride(1), "y_row": t.stride(1),
    }  # fmt: skip


register("triton/row_pearson", RowPearson())
register("triton/column_pearson", ColumnPearson())


def row_pearson(student: Tensor, teacher: Tensor) -> Tensor:
    """Correlation of each row of one matrix with the same row of the other: ``reference.row_pearson``."""
    fit(student, teacher)
    return apply("triton/row_pearson", (0.0,), student, teacher)


def damped_row_pearson(student: Tensor, teacher: Tensor, eps: float) -> Tensor:
    """Correlation of rows with eps added to the denominator: ``reference.damped_row_pearson``."""
    fit(student, teacher)
    return apply("triton/row_pearson", (float(eps),), student, teacher)


def damped_column_pearson(student: Tensor, teacher: Tensor, eps: float) -> Tensor:
    """Correlation of columns with eps added to the denominator: ``reference.damped_column_pearson``."""
    fit(student, teacher)
    return apply("triton/column_pearson", (float(eps),), student, teacher)


OPERATIONS: dict[str, Callable[..., Any]] = {
    "row_pearson": row_pearson,
    "damped_row_pearson": damped_row_pearson,
    "damped_column_pearson": damped_column_pearson,
}

CASES = [
    Case(rule, (1e-8,), (shape, shape), (True, True))
    for rule in ("triton/row_pearson", "triton/column_pearson")
    for shape in ((512, 10), (512, 100), (512, 1000), (64, 50_257))
]
