"""What a command says: results on standard output, remarks and progress on standard error."""

import json
import sys
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

from cyclopts import Parameter

from graphkd.cli.option_groups import Output
from graphkd.text import shown

T = TypeVar("T")


def plain(text: str) -> str:
    """Text of several lines as a terminal may have it: names from outside cannot steer it."""
    return shown(text, keep="\n\t")


def listed(facts: Mapping[str, Any]) -> list[str]:
    """A line each: names and what they are."""
    width = max(map(len, facts))
    return [shown(f"{name.replace('_', ' '):{width}}  {value}") for name, value in facts.items()]


@Parameter(parse=False)
class Console:
    """One command's way to speak.

    Args:
        output: ``quiet`` drops remarks and progress; ``json`` makes the result one JSON object.
        given: names of the options that the user gave.

    Attributes:
        go_on: what an interrupted command left and how to go on, as two lines; a command sets it as it proceeds.
    """

    def __init__(self, output: Output, given: frozenset[str] = frozenset()) -> None:
        self.output, self.given = output, given
        self.stdout = sys.stdout
        self.go_on = ("nothing was written", "run the command again")

    @property
    def progress(self) -> bool:
        """Whether the way is shown at all."""
        return not self.output.quiet

    @property
    def bars(self) -> bool:
        """Whether bars are drawn: for people only, not into a file."""
        return self.progress and sys.stderr.isatty()

    def remark(self, text: str) -> None:
        """One line on the way."""
        if not self.output.quiet:
            print(shown(text), file=sys.stderr)

    def result(self, data: Mapping[str, Any], text: str) -> None:
        """What the command found: for people, or as one JSON object."""
        print(json.dumps(dict(data), indent=1) if self.output.json else plain(text), file=self.stdout, flush=True)

    def bar(self, items: Iterable[T], total: int, what: str) -> Iterable[T]:
        """The items, with a bar that shows rate and time left."""
        from tqdm import tqdm

        bar: Iterable[T] = tqdm(items, total=total, desc=what, unit="batch", disable=not self.bars)
        return bar
