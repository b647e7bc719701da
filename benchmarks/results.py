"""Result files: one environment each, rewritten after every row, so that an interrupted run keeps what it measured."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from benchmarks.machine import same_versions, slug
from graphkd.files import write_file

Row = dict[str, Any]
KEY = ("kind", "case", "shape", "dtype", "form", "axis")
FOLDER = Path(__file__).parent / "results"


class Results:
    """Rows of one environment in one file.

    Args:
        path: file to continue or to begin. One that other versions wrote is left as it is: a number is added to the
            name, so that no file, and no table, mixes versions.
        environment: from ``machine.environment``.
    """

    def __init__(self, path: Path, environment: dict[str, Any]) -> None:
        self.environment, self.rows = environment, list[Row]()
        self.path, number = path, 1
        while self.path.is_file():
            made = read(self.path)
            if same_versions(made["environment"], environment):
                self.environment, self.rows = made["environment"], made["rows"]
                self.environment["roofline"] = _best(made["environment"]["roofline"], environment["roofline"])
                break
            number += 1
            self.path = path.with_name(f"{path.stem}-{number}{path.suffix}")

    @classmethod
    def today(cls, environment: dict[str, Any], folder: Path = FOLDER) -> "Results":
        """The file ``<device>-<date>.json``, or that of an earlier day if it is of the same device and versions."""
        name = f"{environment['kind']}-{slug(environment['device'])}"
        earlier = [path for path in folder.glob(f"{name}-*.json") if same_versions(_environment(path), environment)]
        return cls(max(earlier, default=folder / f"{name}-{environment['date'][:10]}.json"), environment)

    def add(self, row: Row) -> None:
        """Keep a row, in place of an older one of the same cell, and write the file."""
        key = key_of(row)
        self.rows = [each for each in self.rows if key_of(each) != key] + [rounded(row)]
        write_file(self.path, dumps({"environment": self.environment, "rows": self.rows}))


def key_of(row: Row) -> tuple[Any, ...]:
    """Which cell a row fills."""
    return tuple(row.get(name) for name in KEY)


def told(row: Row) -> str:
    """A row in a line: its times, ratio to eager and memory; nothing of what was not measured."""
    name = " ".join(str(row[field]) for field in ("case", "shape", "form", "axis") if field in row)
    times = [f"{field.removesuffix('ms').rstrip('_')} {row[field]:.4g} ms".strip() for field in row if _is_told(field)]
    if "over_eager" in row:
        times.append(f"{row['over_eager']:.2f}x eager")
    if "peak_mib" in row:
        times.append(f"{row['peak_mib']:.4g} MiB")
    if row.get("points"):
        times.append(", ".join(f"{point['size']}: {point['ms']:.4g} ms" for point in row["points"]))
    return f"{name:44} {', '.join(times)}" if times else ""


def _is_told(field: str) -> bool:
    return field.endswith("ms") and field not in (
        "low_ms",
        "high_ms",
        "forward_ms",
        "no_grad_ms",
        "near_ms",
        "floor_ms",
    )


def rounded(row: Row) -> Row:
    """Numbers to four digits: a clock has no more."""
    return {key: float(f"{value:.4g}") if isinstance(value, float) else value for key, value in row.items()}


def dumps(made: dict[str, Any]) -> str:
    """One line for each row: small files, and differences that can be read."""
    head = json.dumps(made["environment"], indent=1)
    rows = ",\n".join(json.dumps(row) for row in made["rows"])
    return f'{{"environment": {head},\n"rows": [\n{rows}\n]}}\n'


def read(path: Path) -> dict[str, Any]:
    """A file's environment and rows."""
    made: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return made


def _best(*limits: dict[str, float]) -> dict[str, float]:
    """A machine's limits are the highest rates that were seen."""
    return {name: max(each.get(name, 0.0) for each in limits) for name in limits[0] | limits[-1]}


def _environment(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = read(path)["environment"]
    return found


def latest(folder: Path = FOLDER) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The newest results of each device, and all older ones: rows of two files are never put together."""
    made = [read(path) | {"name": path.name} for path in sorted(folder.glob("*.json"))]
    made.sort(key=lambda each: each["environment"]["date"], reverse=True)
    newest: dict[str, dict[str, Any]] = {}
    for each in made:
        newest.setdefault(each["environment"]["device"], each)
    kept = list(newest.values())
    return kept, [each for each in made if not any(each is one for one in kept)]


def find(rows: Iterable[Row], **wanted: Any) -> list[Row]:
    """Rows whose fields are as given."""
    return [row for row in rows if all(row.get(key) == value for key, value in wanted.items())]
