"""graphkd compare: several runs side by side."""

from dataclasses import KW_ONLY, dataclass, field
from pathlib import Path

from cyclopts import Parameter
from cyclopts.types import File

from graphkd.cli.commands.report import require_report
from graphkd.cli.console import Console
from graphkd.cli.errors import require
from graphkd.cli.option_groups import Output, require_run
from graphkd.text import shown

_WIDEST = 32  # characters of a column


@Parameter(name="*")
@dataclass(frozen=True)
class Compare:
    """Runs side by side: the options that differ, the latest scores, and the curves on one page.

    Everything comes from the run folders, also of runs that were interrupted.

    Args:
        runs: folders of graphkd distill, or of any Trainer.
        out: the page; default comparison.html beside the first run, where pip install 'graphkd[report]' was.

    Example::

        graphkd compare runs/photos-1 runs/photos-2
        graphkd compare runs/photos-1 runs/photos-2 --out two.html
    """

    runs: tuple[Path, ...]
    _: KW_ONLY
    out: File | None = None
    output: Output = field(default_factory=Output)

    def __post_init__(self) -> None:
        different = len({run.resolve() for run in self.runs})
        what = f"expected two different runs or more, found {', '.join(map(str, self.runs))}"
        require(
            different == len(self.runs) >= 2, what, "give their folders: graphkd compare runs/photos-1 runs/photos-2"
        )
        for run in self.runs:
            require_run(run, "run.yaml", "config.json")


def run(config: Compare, *, console: Console) -> int:
    """A table of several runs, and a page."""
    drawn = require_report(True if config.out is not None else None)
    from graphkd.pictures.compare import compare_runs, rows_of_options, rows_of_scores, write_comparison

    console.go_on = ("nothing was changed in the runs", "run the command again")
    found = compare_runs(config.runs)
    page = write_comparison(found, config.out or config.runs[0].parent / "comparison.html") if drawn else None
    rows = [("", found.runs), *rows_of_scores(found), ("options that differ", [""] * len(found.runs))]
    lines = _table([*rows, *(rows_of_options(found) or [("none", [""] * len(found.runs))])])
    lines += [f"note: {found.note}"] if found.note else []
    console.result({**found.to_json(), "page": None if page is None else str(page)}, "\n".join(lines))
    console.remark(f"page: {page}" if page else "no page: pip install 'graphkd[report]'")
    return 0


def _table(rows: list[tuple[str, list[str]]]) -> list[str]:
    """Rows in columns; of a long cell the end is kept, which tells runs and paths apart."""
    short = [[shown(each) for each in (name, *cells)] for name, cells in rows]
    short = [[each if len(each) <= _WIDEST else f"...{each[3 - _WIDEST :]}" for each in row] for row in short]
    widths = [max(map(len, column)) for column in zip(*short, strict=True)]
    return ["  ".join(f"{each:{width}}" for each, width in zip(row, widths, strict=True)).rstrip() for row in short]
