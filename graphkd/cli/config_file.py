"""Options in a YAML file: those of ``--config``, and those that a command leaves beside its results."""

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import yaml

from graphkd.cli.errors import UsageError
from graphkd.files import write_file
from graphkd.text import read_text, shown
from graphkd.training.strict_yaml import load_yaml

_NOT_SAVED = ("output", "resume", "dry_run", "progress")  # fields that say nothing of the result


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


def resolved(config: Any) -> dict[str, Any]:
    """A configuration as it is saved beside the results: one flat mapping of JSON-ready values."""
    found: dict[str, Any] = {}
    for name, value in ((field.name, getattr(config, field.name)) for field in fields(config)):
        if is_dataclass(value):
            found |= resolved(value) if name not in _NOT_SAVED else {}
        elif name not in _NOT_SAVED:
            value = str(value) if isinstance(value, Path) else value
            found[name] = [str(each) for each in value] if isinstance(value, tuple) else value
    return found


def save(folder: Path, command: str, config: Any) -> None:
    """What a command was asked, as the ``run.yaml`` of the folder that it wrote."""
    write_config(folder / "run.yaml", command, resolved(config))


def write_config(path: Path, command: str, values: Mapping[str, Any]) -> None:
    """The resolved options of a command, ready for its ``--config``."""
    whole = {"command": command, **values}
    body = yaml.safe_dump(whole, sort_keys=False, allow_unicode=True, width=120)
    if shown(body, keep="\n") != body:  # a name with hidden characters
        body = yaml.safe_dump(whole, sort_keys=False, width=120)
    write_file(path, f"# graphkd {command} --config {path.name}\n{body}")
