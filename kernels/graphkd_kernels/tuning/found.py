"""What a run of ``graphkd tune`` found so far, and the plan that follows from it."""

from dataclasses import dataclass, field
from datetime import UTC, datetime
from time import monotonic
from typing import Any

import torch

from graphkd_kernels import machine_plan
from graphkd_kernels.tuning.steps import steps
from graphkd_kernels.tuning.verify import LIMIT

Row = dict[str, Any]
DTYPES = tuple(str(dtype).removeprefix("torch.") for dtype in LIMIT)
_LIKE = {"float16": ("bfloat16", "float32"), "bfloat16": ("float32",), "float64": ("float32",), "float32": ()}
"""Whose times a type has that was not timed."""
_CLEARLY = 0.97  # of the time of our own configuration
_CUT = "its verification did not end"


@dataclass
class Found:
    """Verdicts and times.

    Attributes:
        verdicts: operation -> type -> backend -> true, or what is wrong.
        points: curve -> type -> size -> milliseconds by backend.
        operations: curve -> operation.
        tiles: kernel and arithmetic -> (configuration, milliseconds), our own first.
        checks: how many inputs were compared.
        left: what was not done, and why.
    """

    device: str
    started: float = field(default_factory=monotonic)
    verdicts: dict[str, dict[str, dict[str, machine_plan.Verdict]]] = field(default_factory=dict)
    points: dict[str, dict[str, dict[int, dict[str, float]]]] = field(default_factory=dict)
    operations: dict[str, str] = field(default_factory=dict)
    tiles: dict[str, list[tuple[list[int], float]]] = field(default_factory=dict)
    checks: int = 0
    left: list[str] = field(default_factory=list)

    @property
    def seconds(self) -> float:
        """Since the run began."""
        return monotonic() - self.started

    def take(self, row: Row) -> None:
        """One row of a process."""
        if row["kind"] == "verify":
            own = self.verdicts.setdefault(row["operation"], {}).setdefault(row["dtype"], {})
            self.checks += "case" in row
            if "begins" in row:
                own[row["backend"]] = _CUT
            elif "ends" in row:
                own[row["backend"]] = row["verdict"]
        elif row["kind"] == "time":
            self.operations[row["curve"]] = row["operation"]
            ms = {name: float(f"{each:.4g}") for name, each in row["ms"].items()}  # the choices follow from the file's
            self.points.setdefault(row["curve"], {}).setdefault(row["dtype"], {})[row["size"]] = ms
        elif row["kind"] == "tiles" and "ms" in row:
            self.tiles.setdefault(f"{row['kernel']} {row['math']}", []).append((row["config"], row["ms"]))

    def ended(self, operation: str, why: str | None) -> None:
        """Its process is gone before its time: what it was at is wrong, or (``None``) simply not verified."""
        for dtype, by_backend in self.verdicts.pop(operation, {}).items():
            ends = {name: why if verdict == _CUT else verdict for name, verdict in by_backend.items()}
            known = {name: verdict for name, verdict in ends.items() if verdict is not None}
            if known:
                self.verdicts.setdefault(operation, {})[dtype] = known

    @property
    def failures(self) -> list[str]:
        """What is wrong, a line for each."""
        return machine_plan.Table("this run", verified=self.verdicts).failures

    def allowed(self, operation: str, dtype: str) -> list[str]:
        """Backends that may be chosen: the reference, and those that are verified."""
        verdicts = self.verdicts.get(operation, {}).get(dtype, {})
        return [name for name in machine_plan.BACKENDS if name == "eager" or verdicts.get(name) is True]

    def choices(self, curve: str) -> dict[str, machine_plan.Steps]:
        """Steps of a curve for each type, from its times or those of a type like it; nothing without float32's."""
        found, own = dict[str, machine_plan.Steps](), self.points[curve]
        for dtype in DTYPES if "float32" in own else ():
            timed = next(each for each in (dtype, *_LIKE[dtype]) if each in own)
            found[dtype] = steps(list(own[timed].items()), self.allowed(self.operations[curve], dtype))
        return {dtype: each for dtype, each in found.items() if dtype == "float32" or each != found["float32"]}

    def best_tiles(self) -> dict[str, list[int]]:
        """Configurations that are clearly faster than our own."""
        best = {name: min(found, key=lambda each: each[1]) for name, found in self.tiles.items()}
        return {name: config for name, (config, ms) in best.items() if ms < _CLEARLY * self.tiles[name][0][1]}

    def plan(self, earlier: dict[str, Any]) -> dict[str, Any]:
        """The plan: what this run found, and from an earlier plan of the same machine what it did not ask."""
        choices = {curve: each for curve in self.points if (each := self.choices(curve))}
        verified = earlier.get("verified", {})
        verified = verified | {name: _joined(verified.get(name, {}), each) for name, each in self.verdicts.items()}
        return {
            "format": machine_plan.FORMAT,
            "machine": machine_plan.machine(self.device),
            "made": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
            "seconds": round(self.seconds, 1),
            "threads": torch.get_num_threads(),
            "checks": self.checks,
            "left": self.left,
            "choices": earlier.get("choices", {}) | choices,
            "verified": verified,
            "tiles": earlier.get("tiles", {}) | self.best_tiles(),
            "times": earlier.get("times", {}) | {curve: _listed(each) for curve, each in self.points.items()},
        }


def _joined(earlier: dict[str, Any], own: dict[str, Any]) -> dict[str, Any]:
    """Verdicts on an operation by type and backend; what was not verified again keeps its own."""
    return earlier | {dtype: earlier.get(dtype, {}) | each for dtype, each in own.items()}


def _listed(times: dict[str, dict[int, dict[str, float]]]) -> dict[str, list[Row]]:
    found: dict[str, list[Row]] = {}
    for dtype, by_size in times.items():
        for size, by_backend in sorted(by_size.items()):
            found.setdefault(dtype, []).append({"size": size, **by_backend})
    return found
