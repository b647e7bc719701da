"""graphkd conformance."""

from graphkd.cli.configs.tools import Conformance
from graphkd.cli.console import Console
from graphkd.conformance.table import conforms, markdown, page, table
from graphkd.files import write_file


def run(config: Conformance, console: Console) -> int:
    """Our losses against golden files."""
    paths = sorted(config.golden.glob("*.json")) if config.golden.is_dir() else [config.golden]
    rows = table(paths)
    if config.markdown is not None:
        write_file(config.markdown, page(rows))
    good = conforms(rows)
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
    console.result({"good": good, "rows": each}, markdown(rows))
    return 0 if good else 1
