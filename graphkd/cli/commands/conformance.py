"""graphkd conformance: our losses against golden files."""

from dataclasses import dataclass
from pathlib import Path

from cyclopts.types import File

import graphkd
from graphkd.cli.console import Console
from graphkd.cli.errors import require
from graphkd.cli.option_groups import Command


@dataclass(frozen=True, kw_only=True)
class Conformance(Command):
    """Compare our losses with values that the official implementations computed; exit code 1 if one differs.

    Args:
        golden: folder of golden files, or one file; default: those that come with graphkd.
        markdown: also write the table to this file.

    Example::

        graphkd conformance
        graphkd conformance --golden tests/golden/ega.json
    """

    golden: Path | None = None
    markdown: File | None = None


def shipped() -> Path:
    """The golden files of an installed graphkd, or of a checkout."""
    package = Path(graphkd.__file__).parent
    inside = package / "conformance" / "values"
    return inside if inside.is_dir() else package.parent / "tests" / "golden"


def run(config: Conformance = Conformance(), *, console: Console) -> int:
    """Our losses against golden files."""
    golden = config.golden or shipped()
    files = [golden] if golden.is_file() else sorted(golden.glob("*.json"))
    require(bool(files), f"no golden file (*.json) in --golden {golden}", "leave --golden out for those of graphkd")
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
