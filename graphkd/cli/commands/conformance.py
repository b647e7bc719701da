"""graphkd conformance: our losses against golden files."""

from dataclasses import dataclass
from pathlib import Path

from cyclopts.types import File

from graphkd.cli.console import Console
from graphkd.cli.errors import require
from graphkd.cli.option_groups import Command


@dataclass(frozen=True, kw_only=True)
class Conformance(Command):
    """Compare our losses with values that the official implementations computed; exit code 1 if one differs.

    Args:
        golden: folder of golden files, or one file; they are in tests/golden of a checkout.
        markdown: also write the table to this file.

    Example::

        graphkd conformance
        graphkd conformance --golden tests/golden/ega.json
    """

    golden: Path = Path("tests/golden")
    markdown: File | None = None


def run(config: Conformance = Conformance(), *, console: Console) -> int:
    """Our losses against golden files."""
    files = [config.golden] if config.golden.is_file() else sorted(config.golden.glob("*.json"))
    what = f"no golden file (*.json) in --golden {config.golden}"
    require(bool(files), what, "give tests/golden of a checkout of graphkd")
    from graphkd.conformance import table
    from graphkd.files import write_file

    rows = table.table(files)
    text, good = table.markdown(rows), table.conforms(rows)
    if config.markdown is not None:
        write_file(config.markdown, table.PAGE + text)
    each = [
        {
            "name": row.name,
            "ours": row.entry.ours,
            "status": row.status,
            "why": row.entry.why,
            "float64": row.double,
            "float32": row.single,
            "source": row.source,
        }
        for row in rows
    ]
    console.result({"good": good, "rows": each}, text)
    return 0 if good else 1
