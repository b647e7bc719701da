"""Our losses against values computed by the original implementations, as ``graphkd conformance`` tells it.

Reads every JSON file of the golden format, makes the inputs again from their seeds, and prints for each method how far
value and gradient of our function, and of the distiller that trains by it, are from the stored ones.
"""

from dataclasses import dataclass
from pathlib import Path

import torch

from graphkd.conformance.golden import METHODS, NOT_OFFERED, Entry, Expected, Loss, read
from graphkd.text import in_markdown

PAGE = """# Conformance

Largest relative difference of our losses from the original implementations, which ran on the same inputs in float64.
Made by `graphkd conformance --markdown docs/conformance.md`.

"""
TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-4}


@dataclass
class Row:
    """A line of the table: largest relative differences over all cases."""

    name: str
    source: str
    entry: Entry
    value: float = 0.0
    norm: float = 0.0
    entries: float = 0.0
    single: float = 0.0
    method: float | None = None

    @property
    def status(self) -> str:
        """Whether it should agree."""
        return NOT_OFFERED if self.entry.loss is None else "deviates" if self.entry.why else "conforms"

    @property
    def double(self) -> float:
        """Largest difference in float64."""
        return max(self.value, self.norm, self.entries, self.method or 0.0)


def compare(expected: Expected, dtype: torch.dtype, loss: Loss | None = None) -> tuple[float, float, float]:
    """Relative differences of value, gradient norm and first entries (these relative to the largest of them).

    Args:
        expected: the stored result.
        dtype: that ours is computed in.
        loss: ours; default the function.
    """
    loss = loss or expected.entry.loss
    assert expected.inputs is not None
    assert loss is not None
    inputs = expected.inputs.cast(dtype)
    value = loss(inputs)
    if expected.norm is None:
        return abs(value.item() / expected.value - 1), 0.0, 0.0
    gradient = torch.autograd.grad(value, inputs.student)[0].double()
    first = torch.tensor(expected.first, dtype=torch.float64)
    entries = (gradient.flatten()[: len(first)] - first).abs().max() / first.abs().max()
    return abs(value.item() / expected.value - 1), abs(gradient.norm().item() / expected.norm - 1), entries.item()


def table(paths: list[Path]) -> list[Row]:
    """One row for each method of the files, over all of its cases. Raises: DataError as of :func:`read`."""
    rows: dict[str, Row] = {}
    for expected in (each for path in paths for each in read(path)):
        row = rows.setdefault(expected.name, Row(expected.name, expected.source, expected.entry))
        if expected.inputs is not None:
            value, norm, entries = compare(expected, torch.float64)
            row.value, row.norm, row.entries = max(row.value, value), max(row.norm, norm), max(row.entries, entries)
            row.single = max(row.single, *compare(expected, torch.float32))
            if expected.name in METHODS:
                row.method = max(row.method or 0.0, *compare(expected, torch.float64, METHODS[expected.name]))
    return list(rows.values())


def markdown(rows: list[Row]) -> str:
    """The table as Markdown, with the two largest differences."""
    head = ["implementation", "graphkd.functional", "status", "value", "gradient norm", "entries", "float32"]
    head += ["as a distiller", "source"]
    lines = ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
    for row in rows:
        numbers = (row.value, row.norm, row.entries, row.single)
        cells = ["" if row.entry.loss is None else f"{number:.1e}" for number in numbers]
        cells.append("" if row.method is None else f"{row.method:.1e}")
        status = f"{row.status}: {row.entry.why}" if row.entry.why else row.status
        name, source = in_markdown(row.name), f"`{in_markdown(row.source)}`"
        lines.append("| " + " | ".join([name, row.entry.ours, status, *cells, source]) + " |")
    return "\n".join([*lines, "", summary(rows)]) + "\n"


def summary(rows: list[Row]) -> str:
    """How many rows conform, deviate, are not offered, and the largest relative differences, in one sentence."""
    kept = [row for row in rows if row.status == "conforms"]
    other = sum(row.status.startswith("deviates") for row in rows)
    double, single = max((row.double for row in kept), default=0.0), max((row.single for row in kept), default=0.0)
    return (
        f"{len(kept)} of {len(rows)} conform, {other} deviate and {len(rows) - len(kept) - other} are not offered, "
        f"each for the reason in its row; largest relative difference {double:.1e} in float64, {single:.1e} in float32."
    )


def conforms(rows: list[Row]) -> bool:
    """Whether every row that should agree does, within 1e-9 (float64) and 1e-4 (float32)."""
    kept = [row for row in rows if row.status == "conforms"]
    within = (row.double <= TOLERANCE[torch.float64] and row.single <= TOLERANCE[torch.float32] for row in kept)
    return bool(kept) and all(within)
