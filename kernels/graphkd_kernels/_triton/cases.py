"""Operations at shapes that reach every kernel and configuration: what the gate compiles, without a GPU or data."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch

from graphkd_kernels._triton.launch import Launch, recording
from graphkd_kernels._triton.library import KernelRule
from graphkd_kernels.autograd import RULES

WIDE = (torch.float32, torch.float64)
"""Types of rules whose inputs were widened before."""


@dataclass(frozen=True)
class Case:
    """A rule with options shapes of its tensors (``None`` for one left out) and needs.

    Args:
        dtypes: of the inputs. integers: positions of tensors that hold indices.
    """

    rule: str
    options: tuple[Any, ...]
    shapes: tuple[tuple[int, ...] | None, ...]
    needs: tuple[bool, ...]
    dtypes: tuple[torch.dtype, ...] = (torch.bfloat16, torch.float32, torch.float64)
    integers: tuple[int, ...] = ()


def launches(case: Case, arch: int, dtypes: Iterable[torch.dtype] | None = None) -> Iterator[Launch]:
    """What the case would launch on an architecture, for each of its types."""
    rule = RULES[case.rule]
    assert isinstance(rule, KernelRule)  # whose second half, if it has one, runs too
    for dtype in case.dtypes if dtypes is None else dtypes:
        tensors = [
            None
            if shape is None
            else torch.empty(shape, dtype=torch.int64 if i in case.integers else dtype, device="meta")
            for i, shape in enumerate(case.shapes)
        ]
        with recording(arch) as record:
            rule.compute(case.options, case.needs, *tensors)
        yield from record.launches
