"""Options in a YAML file: those of ``--config``, and those that a command leaves beside its results."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from graphkd.cli.errors import UsageError
from graphkd.files import write_file
from graphkd.strict_yaml import load_yaml
from graphkd.text import read_text, shown


def read_config(path: Path) -> dict[str, Any]:
    """The options of a file.

    Raises: UsageError for a file that is missing, no YAML, or no mapping, and for an option that occurs twice.
    """
    remedy = "write one 'option: value' a line, as in the run.yaml of a run folder"
    try:
        found = load_yaml(read_text(path))
    except OSError as error:
        raise UsageError(
            f"cannot read --config {path}: {error.strerror or error}", "give the path of a YAML file"
        ) from None
    except ValueError as error:
        raise UsageError(f"--config {path} is no YAML file of options: {error}", remedy) from None
    if found is None:
        return {}
    if not isinstance(found, dict):
        raise UsageError(f"--config {path} holds a {type(found).__name__}, expected a mapping", remedy)
    options: dict[str, Any] = {}
    for key, value in found.items():
        name = str(key).replace("-", "_")
        if name in options:
            raise UsageError(f"--config {path} gives {name} twice, with a dash and with an underscore", remedy)
        options[name] = value
    return options


def write_config(path: Path, command: str, values: Mapping[str, Any]) -> None:
    """The resolved options of a command, ready for its ``--config``."""
    whole = {"command": command, **values}
    body = yaml.safe_dump(whole, sort_keys=False, allow_unicode=True, width=120)
    if shown(body, keep="\n") != body:  # a name with hidden characters
        body = yaml.safe_dump(whole, sort_keys=False, width=120)
    write_file(path, f"# graphkd {command} --config {path.name}\n{body}")
