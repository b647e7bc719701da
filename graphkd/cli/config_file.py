"""Options in a YAML file, by safe loading only; words as YAML 1.2 has them (``no`` is a word, ``1e-3`` a number)."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from graphkd.cli.errors import UsageError
from graphkd.files import write_file

_NUMBER = re.compile(r"[-+]?(\d+(\.\d*)?|\.\d+)([eE][-+]?\d+)?")


class _Loader(yaml.SafeLoader):  # type: ignore[misc]
    """PyYAML's safe loader without YAML 1.1's surprises, and with repeated keys refused."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        """A mapping whose keys occur once."""
        keys = [key.value for key, _ in node.value]
        twice = [key for position, key in enumerate(keys) if key in keys[:position]]
        if twice:
            raise yaml.constructor.ConstructorError(None, None, f"the key {twice[0]!r} occurs twice", node.start_mark)
        found: dict[Any, Any] = super().construct_mapping(node, deep)
        return found


_Loader.yaml_implicit_resolvers = {
    first: [(tag, rule) for tag, rule in rules if not tag.endswith((":bool", ":float", ":timestamp"))]
    for first, rules in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile(r"^(true|false)$"), list("tf"))
_Loader.add_implicit_resolver("tag:yaml.org,2002:float", re.compile(rf"^({_NUMBER.pattern})$"), list("-+0123456789."))


def read_value(text: str) -> Any:
    """One value of the command line: a number, a word, a list, a mapping."""
    try:
        return yaml.load(text, _Loader)
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from None


def read_config(path: Path) -> dict[str, Any]:
    """The options of a file.

    Raises: UsageError for a file that is missing, no YAML, or no mapping.
    """
    remedy = "write one 'option: value' a line, as in the run.yaml of a run folder"
    try:
        found = yaml.load(path.read_text(encoding="utf-8"), _Loader)
    except OSError as error:
        raise UsageError(f"cannot read --config {path}: {error.strerror}", "give the path of a YAML file") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        mark = getattr(error, "problem_mark", None)
        line = f" line {mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or error
        raise UsageError(f"--config {path}{line} is no YAML: {problem}", remedy) from None
    if found is None:
        return {}
    if not isinstance(found, dict):
        raise UsageError(f"--config {path} holds a {type(found).__name__}, expected a mapping", remedy)
    return {str(key).replace("-", "_"): value for key, value in found.items()}


def write_config(path: Path, command: str, values: Mapping[str, Any]) -> None:
    """The resolved options of a command, ready for its ``--config``."""
    body = yaml.safe_dump({"command": command, **values}, sort_keys=False, allow_unicode=True, width=120)
    write_file(path, f"# graphkd {command} --config {path.name}\n{body}")
