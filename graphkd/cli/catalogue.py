"""The methods as their source files tell of them: names, one line, paper; read without importing torch."""

import ast
import re
from dataclasses import dataclass
from functools import cache
from inspect import cleandoc
from pathlib import Path

import graphkd

_PAPER = re.compile(
    r"(?:Paper: |The (?:paper|abstract) \()(.*?)"
    r"(?: \(there|\) (?:gives|names) |\.?\s*\n(?:Args|Shapes|\s*\n)|\. (?!al)[A-Z])",
    re.DOTALL,
)
# the torchvision data sets that --data knows by name: those of graphkd.data.datasets, which needs torch
DATA_SETS = ("caltech101", "cifar10", "cifar100", "dtd", "flowers102", "food101", "imagenet", "oxford_pets", "stl10")


@dataclass(frozen=True)
class Method:
    """One method.

    Args:
        name: by which it is asked for.
        line: what it does.
        paper: where it comes from.
        doc: its docstring.
    """

    name: str
    line: str
    paper: str
    doc: str


@cache
def methods() -> dict[str, Method]:
    """Every method of the library by name, sorted; those registered elsewhere are not seen here."""
    found = {}
    for file in sorted((Path(graphkd.__file__).parent / "distillers").rglob("*.py")):
        for node in ast.parse(file.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef) and (name := _registered(node)):
                doc = cleandoc(ast.get_docstring(node) or "")
                found[name] = Method(name, doc.partition("\n")[0], _paper(doc), doc)
    return dict(sorted(found.items()))


def _registered(node: ast.ClassDef) -> str | None:
    """The name in ``@DISTILLERS.register("name")``."""
    for each in node.decorator_list:
        if isinstance(each, ast.Call) and ast.unparse(each.func) == "DISTILLERS.register":
            name = ast.literal_eval(each.args[0])
            return str(name)
    return None


def _paper(doc: str) -> str:
    found = _PAPER.search(doc)
    return " ".join(found.group(1).split()) if found else ""
