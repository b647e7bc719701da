"""graphkd methods: every method with one line and its paper."""

from dataclasses import KW_ONLY, asdict, dataclass, field
from textwrap import fill
from typing import Annotated

from cyclopts import Parameter

from graphkd.cli.catalogue import methods
from graphkd.cli.console import Console
from graphkd.cli.errors import without_markup
from graphkd.cli.option_groups import Output


@Parameter(name="*")
@dataclass(frozen=True)
class Methods:
    """Every method with one line and its paper; with a name, all that there is to know of one.

    Args:
        name: a method.

    Example::

        graphkd methods
        graphkd methods prg
    """

    name: Annotated[str, Parameter(choices=tuple(methods()), show_choices=False)] = ""
    _: KW_ONLY
    output: Output = field(default_factory=Output)


def run(config: Methods = Methods(), *, console: Console) -> int:
    """All methods, or one."""
    known = methods()
    if config.name:
        method = known[config.name]
        page = f"use: graphkd distill --method {method.name} [--set OPTION=VALUE ...]"
        doc = without_markup(method.doc, flow=False)
        console.result(asdict(method), f"{method.name}: {doc}\n\n{page}")
        return 0
    lines = [
        fill(text, 118, initial_indent=f"{mark:9} ", subsequent_indent=" " * 10)
        for method in known.values()
        for mark, text in ((method.name, without_markup(method.line)), ("", method.paper))
    ]
    each = [{"name": m.name, "line": without_markup(m.line), "paper": m.paper} for m in known.values()]
    console.result({"methods": each}, "\n".join([*lines, "", "graphkd methods NAME explains one, with its options."]))
    return 0
