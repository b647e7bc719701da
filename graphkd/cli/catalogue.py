"""The methods as their source files tell of them: names, one line, paper; read without importing torch."""

import ast
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from inspect import cleandoc
from pathlib import Path
from typing import Any

import graphkd
from graphkd.registry import unknown

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
        options: that it takes, sorted.
        presets: that it knows by name.
    """

    name: str
    line: str
    paper: str
    doc: str
    options: tuple[str, ...] = ()
    presets: tuple[str, ...] = ()


@cache
def methods() -> dict[str, Method]:
    """Every method of the library by name, sorted; those registered elsewhere are not seen here."""
    found = {}
    for file in sorted((Path(graphkd.__file__).parent / "distillers").rglob("*.py")):
        body = ast.parse(file.read_text(encoding="utf-8")).body
        for node in body:
            if isinstance(node, ast.ClassDef) and (name := _registered(node)):
                doc = cleandoc(ast.get_docstring(node) or "")
                found[name] = Method(name, doc.partition("\n")[0], _paper(doc), doc, _options(node), _presets(body))
    return dict(sorted(found.items()))


def _registered(node: ast.ClassDef) -> str | None:
    """The name in ``@DISTILLERS.register("name")``."""
    for each in node.decorator_list:
        if isinstance(each, ast.Call) and ast.unparse(each.func) == "DISTILLERS.register":
            name = ast.literal_eval(each.args[0])
            return str(name)
    return None


def _options(node: ast.ClassDef) -> tuple[str, ...]:
    """Names of all that its constructor, or its own ``between``, takes."""
    functions = [each for each in node.body if isinstance(each, ast.FunctionDef)]
    lists = [each.args for each in functions if each.name in ("__init__", "between")]
    found = {each.arg for listed in lists for each in (*listed.args, *listed.kwonlyargs)}
    return tuple(sorted(found - {"self", "cls", "student", "teacher"}))


def _presets(body: list[ast.stmt]) -> tuple[str, ...]:
    """The names in the module's ``PRESETS = {...}``."""
    tables = [node.value for node in body if isinstance(node, ast.AnnAssign) and ast.unparse(node.target) == "PRESETS"]
    keys = (key for table in tables if isinstance(table, ast.Dict) for key in table.keys if key is not None)
    return tuple(str(ast.literal_eval(key)) for key in keys)


def _paper(doc: str) -> str:
    found = _PAPER.search(doc)
    return " ".join(found.group(1).split()) if found else ""


def require_options(name: str, options: Mapping[str, Any]) -> None:
    """Refuse what a method does not take: names of options, presets, and the parts of a combination.

    Raises: UnknownNameError with the nearest name.
    """
    known = methods()
    if name not in known:  # one that is registered elsewhere
        return
    for option in options:
        if option not in known[name].options:
            raise unknown(f"option of {name!r}", option, list(known[name].options))
    _require_preset(known[name], options.get("preset"))
    parts = options.get("parts")
    for part, inside in parts.items() if name == "combined" and isinstance(parts, dict) else ():
        if part not in known:
            raise unknown("method", part, list(known))
        require_options(part, inside if isinstance(inside, dict) else {})


def _require_preset(method: Method, preset: object) -> None:
    if isinstance(preset, str) and method.presets and preset not in method.presets:
        raise unknown("preset", preset, sorted(method.presets))
