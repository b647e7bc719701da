"""How time and memory grow along one size of a case, until a point would take too long or not fit."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from benchmarks.case import Case, Shape, label
from benchmarks.memory import Weighed, available_mib, weighed

FITTED = 4  # points, the largest ones: small sizes measure calls, not work
LEAST_MIB = 4.0  # below it the resident set says nothing of growth


def exponent(sizes: Sequence[float], values: Sequence[float]) -> float | None:
    """Slope of log value over log size, least squares over the last points; ``None`` for fewer than two."""
    kept = [(x, y) for x, y in zip(sizes, values, strict=True) if y > 0][-FITTED:]
    if len(kept) < 2:
        return None
    x, y = np.log(np.asarray(kept, dtype=float)).T
    return float(np.polyfit(x, y, 1)[0])


def next_value(sizes: Sequence[float], values: Sequence[float], size: float) -> float:
    """What the last two points let expect at a larger size; 0 before there are two."""
    if len(values) < 2 or min(values[-2:]) <= 0:
        return 0.0
    power = max(exponent(sizes[-2:], values[-2:]) or 0.0, 0.0)
    return values[-1] * (size / sizes[-1]) ** power


def axis_of(shapes: Sequence[Shape]) -> int:
    """Which number of the shapes grows."""
    return next(i for i, (a, b) in enumerate(zip(shapes[0], shapes[1], strict=True)) if a != b)


def sweep(
    case: Case, axis: str, form: str, device: str, seconds: float, memory_mib: float | None = None
) -> dict[str, Any]:
    """Points of a sweep with fitted exponents, and what stopped it.

    Args:
        case, axis, form, device: what grows.
        seconds: a point that would take longer than this for one call ends the sweep.
        memory_mib: likewise for its extra memory; default 70 % of what is free.
    """
    shapes = case.sweeps[axis]
    position, limit = axis_of(shapes), memory_mib or 0.7 * available_mib()
    sizes, found, row = list[float](), list[Weighed](), dict[str, Any]()
    for shape in shapes:
        size = float(shape[position])
        needs = next_value(sizes, [each.peak_mib for each in found], size)
        takes = next_value(sizes, [each.ms for each in found], size) / 1e3
        if needs > limit or takes > seconds:
            large, why = needs > limit, f"needs {needs / 1024:.3g} GiB"
            row["stopped"] = f"{axis} = {shape[position]} " + (why if large else f"takes about {takes:.2g} s")
            break
        try:
            threads, time = torch.get_num_threads(), 60 + 10 * seconds
            found.append(weighed(case.name, shape, form, device, threads, time, min(0.3, seconds)))
        except RuntimeError as error:
            row["stopped"] = f"{axis} = {shape[position]}: {error}"
            break
        sizes.append(size)
    points = [
        {"size": int(size), "ms": float(f"{each.ms:.4g}"), "peak_mib": float(f"{each.peak_mib:.4g}")}
        for size, each in zip(sizes, found, strict=True)
    ]
    heavy = [(size, each.peak_mib) for size, each in zip(sizes, found, strict=True) if each.peak_mib > LEAST_MIB]
    return row | {
        "kind": "scaling",
        "case": case.name,
        "axis": axis,
        "form": form,
        "shape": label(tuple(axis if i == position else each for i, each in enumerate(shapes[0]))),
        "on": device.partition(":")[0],
        "points": points,
        "time_exponent": exponent(sizes, [each.ms for each in found]),
        "memory_exponent": exponent(*zip(*heavy, strict=True)) if len(heavy) > 1 else None,
    }
