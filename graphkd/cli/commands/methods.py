"""graphkd methods."""

import re
from dataclasses import asdict
from textwrap import fill

from graphkd.cli.catalogue import methods
from graphkd.cli.configs.tools import Methods
from graphkd.cli.console import Console


def run(config: Methods, console: Console) -> int:
    """All methods, or one."""
    known = methods()
    if config.name:
        method = known[config.name]
        page = f"use: graphkd distill --method {method.name} [--set OPTION=VALUE ...]"
        console.result(asdict(method), f"{method.name}: {_plain(method.doc)}\n\n{page}")
        return 0
    lines = []
    for method in known.values():
        for mark, text in ((method.name, _plain(method.line)), ("", method.paper)):
            lines.append(fill(text, 118, initial_indent=f"{mark:9} ", subsequent_indent=" " * 10))
    lines += ["", "graphkd methods NAME explains one, with its options."]
    each = [{"name": m.name, "line": _plain(m.line), "paper": m.paper} for m in known.values()]
    console.result({"methods": each}, "\n".join(lines))
    return 0


def _plain(text: str) -> str:
    """A docstring as a terminal shows it."""
    return re.sub(r":\w+:`~?([^`]*)`", r"\1", text).replace("``", "").replace(".. math::", "")
