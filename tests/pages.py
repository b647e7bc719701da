"""The pages that people read, and the blocks of code in them."""

import re
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
DOCS = sorted((ROOT / "docs").rglob("*.md"))
PAGES = [*sorted(ROOT.glob("*.md")), ROOT / "kernels" / "README.md", *DOCS]
FENCE = re.compile(r"^(?P<indent> *)```(?P<kind>[^\n`]*)\n(?P<text>.*?)^(?P=indent)```$", re.DOTALL | re.MULTILINE)


class Block(NamedTuple):
    """One fenced block: where it stands, its language, its text."""

    page: Path
    line: int
    kind: str
    text: str

    @property
    def name(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def rows(text: str) -> list[list[str]]:
    """Cells of each row below the head of a table."""
    lines = [line for line in text.splitlines() if line.startswith("|")][2:]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]


def blocks(*kinds: str) -> list[Block]:
    """Every block of these languages; without languages, every block."""
    found = []
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for each in FENCE.finditer(text):
            line = text[: each.start()].count("\n") + 1
            found.append(Block(page, line, each["kind"].strip(), each["text"]))
    return [each for each in found if not kinds or each.kind in kinds]
