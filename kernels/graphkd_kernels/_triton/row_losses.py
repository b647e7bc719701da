"""``row_kl`` of given logits, read as they are: two launches, the second with each row's upstream gradient."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
import triton
from torch import Tensor

from graphkd_kernels import reference
from graphkd_kernels._triton.cases import Case
from graphkd_kernels._triton.flash_configs import long_rows
from graphkd_kernels._triton.late import LateRule
from graphkd_kernels._triton.launch import empty, launch
from graphkd_kernels._triton.library import fit, register, there
from graphkd_kernels._triton.row_kl import row_kl_kernel
from graphkd_kernels._triton.tiles import TYPES
from graphkd_kernels.autograd import Maybe, Needs, Options, apply
from graphkd_kernels.precision import widened

LOG2E = 1.4426950408889634


def matrices(*tensors: Tensor) -> list[Tensor]:
    """(*b, n, m) of one shape to (b, n, m), columns adjacent in memory; 16-bit inputs are not copied."""
    found = [each.reshape(-1, *each.shape[-2:]) if each.ndim > 1 else each.reshape(1, 1, -1) for each in tensors]
    return [each if each.stride(-1) == 1 else each.contiguous() for each in found]


def sums_type(*tensors: Tensor) -> torch.dtype:
    """float64 where an input has it, else float32."""
    return torch.float64 if any(each.dtype == torch.float64 for each in tensors) else torch.float32


class RowKL(LateRule):
    """Tensors: student and teacher logits (*b, n, m) -> (*b, n). Options: temperature."""

    def start(self, options: Options, *tensors: Maybe) -> tuple[Tensor, tuple[Maybe, ...]]:
        student, teacher = there(*tensors)
        s, t = matrices(student, teacher)
        value, norm_s, norm_t = (empty((*extra, *s.shape[:2]), sums_type(s, t), s.device) for extra in ((), (2,), (2,)))
        _launch(options[0], s, t, value, norm_s, norm_t, None, (None, None))
        return value.view(student.shape[:-1]), (value, norm_s, norm_t)

    def end(
        self, options: Options, needs: Needs, upstream: Tensor, tensors: Sequence[Maybe], kept: Sequence[Maybe]
    ) -> tuple[Maybe, ...]:
        student, teacher = there(*tensors)
        s, t = matrices(student, teacher)
        value, norm_s, norm_t = kept
        out = tuple(
            empty(each.shape, each.dtype, each.device) if need else None
            for each, need in zip((s, t), needs, strict=True)
        )
        _launch(options[0], s, t, value, norm_s, norm_t, upstream.contiguous(), out)
        return tuple(None if each is None else each.view(student.shape) for each in out)

    def empty(self, options: Options, *tensors: Maybe) -> Tensor:
        student, teacher = there(*tensors)
        return student.new_empty(student.shape[:-1], dtype=sums_type(student, teacher))

    def formula(self, options: Options, *tensors: Maybe) -> Tensor:
        value: Tensor = widened(reference.row_kl)(*tensors, options[0])
        return value


def _launch(
    temperature: float,
    s: Tensor,
    t: Tensor,
    value: Maybe,
    norm_s: Maybe,
    norm_t: Maybe,
    up: Maybe,
    out: tuple[Maybe, ...],
) -> None:
    (b, n, m), dtype = s.shape, sums_type(s, t)
    config = long_rows(m, dtype, s.device)
    tiles = triton.cdiv(n, config.rows)
    args = {
        "s_ptr": s, "t_ptr": t, "positive_ptr": None, "row_s_ptr": None, "column_s_ptr": None, "row_t_ptr": None,
        "column_t_ptr": None, "up_ptr": up, "value_ptr": value, "norm_s_ptr": norm_s, "norm_t_ptr": norm_t,
        "ws_ptr": out[0], "wt_ptr": out[1], "n": n, "m": m, "tiles": tiles, "s_batch": s.stride(0),
        "t_batch": t.stride(0), "w_batch": n * m, "s_row": s.stride(1), "t_row": t.stride(1), "w_row": m,
        "scale": LOG2E / temperature, "temperature": float(temperature), "gamma": 1.0,
    }  # fmt: skip
    rule = {
        "TEACHER": True, "STATISTICS": up is None, "WS": out[0] is not None, "WT": out[1] is not None, "RELATION": 0,
        "TINY": 0.0, "ROWS": config.rows, "COLUMNS": config.columns, "SUMS": TYPES[dtype],
    }  # fmt: skip
    launch(row_kl_kernel, (b * tiles,), args, rule, config)


register("triton/row_kl", RowKL())


def row_kl(student: Tensor, teacher: Tensor, temperature: float = 1.0) -> Tensor:
    """KL(softmax(teacher / T) || softmax(student / T)) of each row: ``reference.row_kl``."""
    fit(student, teacher)
    return apply("triton/row_kl", (float(temperature),), student, teacher)


OPERATIONS: dict[str, Callable[..., Any]] = {"row_kl": row_kl}

CASES = [
    Case("triton/row_kl", (2.0,), (shape, shape), needs)
    for shape in ((512, 100), (512, 1000), (64, 50_257))
    for needs in ((True, False), (True, True))
]
