"""From words to a typed configuration: flags over the file of ``--config`` over the defaults."""

import argparse
import re
from collections.abc import Sequence
from dataclasses import MISSING, dataclass
from pathlib import Path
from typing import Any, NoReturn

from graphkd.cli.errors import UsageError, nearest
from graphkd.cli.options import Option, build, convert, documentation, options_of, plain
from graphkd.files import local_path

_CONFIG = "YAML file of options; a flag goes before it. Every run saves its own, resolved, as run.yaml."


_LENDERS = {"store repair": "embed"}  # a command that takes what it knows from the file of another


@dataclass(frozen=True)
class Parsed:
    """What a command was asked.

    Args:
        config: the configuration.
        given: names of the options that were given, by flag or by file.
    """

    config: Any
    given: frozenset[str]


class _Parser(argparse.ArgumentParser):
    """argparse that raises and explains instead of printing and leaving."""

    def error(self, message: str) -> NoReturn:
        found = re.match(r"argument ([^:]+): (.*)", message)
        flag = found.group(1).split("/")[0] if found else ""
        if found and "expected" in found.group(2):
            raise UsageError(f"{flag} needs a value", f"{self.helps.get(flag, f'{self.prog} --help')}")
        raise UsageError(message, f"{self.prog} --help lists every option")

    helps: dict[str, str] = {}  # noqa: RUF012  # replaced per parser


def make_parser(command: str, cls: type, options: Sequence[Option]) -> _Parser:
    """The parser of one command; it holds only what was given, as texts."""
    doc = documentation(cls)
    parser = _Parser(
        prog=f"graphkd {command}",
        usage=" ".join([f"graphkd {command}", *_positionals(options), "[options]"]),
        description="\n\n".join(part for part in (doc.title, doc.body) if part),
        epilog=f"examples:\n{_indented(doc.examples)}" if doc.examples else None,
        formatter_class=_Formatter,
        argument_default=argparse.SUPPRESS,
        add_help=False,
        allow_abbrev=False,
    )
    groups: dict[str, Any] = {}
    for option in sorted(options, key=lambda each: each.part is not None):
        if option.group not in groups:
            groups[option.group] = parser.add_argument_group(option.group)
            if option.part is None:
                groups[option.group].add_argument("--config", metavar="PATH", help=_CONFIG)
        _add(groups[option.group], option)
    groups.setdefault("output", parser).add_argument("-h", "--help", action="store_true", help="show this and leave")
    parser.helps = {each.flag: f"{each.flag} {each.metavar}: {each.help}" for each in options if each.kind is not bool}
    parser.helps["--config"] = f"--config PATH: {_CONFIG}"
    return parser


def _positionals(options: Sequence[Option]) -> list[str]:
    each = [option for option in options if option.positional]
    return [option.flag if option.default is MISSING else f"[{option.flag}]" for option in each]


def _add(group: Any, option: Option) -> None:
    text = _help(option).replace("%", "%%")
    if option.positional:
        group.add_argument(option.name, nargs="*" if option.many else "?", metavar=option.flag, help=text)
    elif option.kind is bool:
        group.add_argument(option.flag, dest=option.name, action="store_const", const=True, help=text)
        negative = f"--no-{option.flag[2:]}"
        group.add_argument(negative, dest=option.name, action="store_const", const=False, help=argparse.SUPPRESS)
    else:
        action = "append" if option.metavar == "OPTION=VALUE" else "store"
        group.add_argument(option.flag, dest=option.name, metavar=option.metavar, action=action, help=text)


def _help(option: Option) -> str:
    """The option's text and its default."""
    default = option.default
    if default is True:
        return f"{option.help.rstrip('.')} (default; --no-{option.flag[2:]} turns it off)"
    if default is MISSING or default in (None, False, (), {}, "") or "efault" in option.help:
        return option.help
    shown = ",".join(default) if isinstance(default, tuple) else default
    return f"{option.help.rstrip('.')} (default {shown})"


class _Formatter(argparse.RawDescriptionHelpFormatter):
    """Wide enough to read, and no wider than the terminal."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=30)


def _indented(text: str) -> str:
    return "\n".join(f"  {line}".rstrip() for line in text.splitlines())


def parse(command: str, cls: type, arguments: Sequence[str]) -> Parsed:
    """The configuration that a command line makes.

    Args:
        command: such as ``"distill"``, for messages.
        cls: dataclass of the configuration.
        arguments: words after the command.

    Raises: UsageError, OptionError.
    """
    options = options_of(cls)
    parser = make_parser(command, cls, options)
    space, rest = parser.parse_known_args(list(arguments))
    if rest:
        raise _unexpected(command, rest[0], parser)
    texts = vars(space)
    by_name = {option.name: option for option in options}
    values: dict[str, Any] = {}
    if "config" in texts:
        path = local_path(texts.pop("config"))
        values |= _from_file(command, path, by_name)
    for name, text in texts.items():
        value = convert(by_name[name], text)
        values[name] = {**values.get(name, {}), **value} if isinstance(value, dict) else value
    for option in options:
        if option.default is MISSING and values.get(option.name) in (None, ()):
            hint = option.help.partition(";")[0].rstrip(".")
            raise UsageError(f"graphkd {command} needs {option.flag}", f"give {option.flag}: {hint}")
    return Parsed(build(cls, options, values), frozenset(values))


def resolved(config: Any) -> dict[str, Any]:
    """A configuration as it is saved beside the results: without what only concerns the terminal."""
    options = [option for option in options_of(type(config)) if option.part != "output"]
    return {name: value for name, value in plain(config, options).items() if name != "resume"}


def _from_file(command: str, path: Path, options: dict[str, Option]) -> dict[str, Any]:
    from graphkd.cli.config_file import read_config  # YAML only where there is a file: --help is quick

    found = read_config(path)
    made_by = found.pop("command", command)
    if made_by == _LENDERS.get(command):
        found = {name: value for name, value in found.items() if name in options}
    elif made_by != command:
        raise UsageError(f"{path} holds options of 'graphkd {made_by}'", f"run graphkd {made_by} --config {path}")
    for name in found:
        if name not in options:
            raise UsageError(
                f"{path}: unknown option {name!r}{nearest(name, options)}",
                f"graphkd {command} --help lists every option",
            )
    return {name: convert(options[name], value, f"{path}: ") for name, value in found.items()}


def _unexpected(command: str, word: str, parser: _Parser) -> UsageError:
    remedy = f"graphkd {command} --help lists every option"
    if not word.startswith("-"):
        return UsageError(f"unexpected argument {word!r}", f"options are written --name value; {remedy}")
    flag = word.partition("=")[0]
    known = [name for action in parser._actions for name in action.option_strings]
    hint = nearest(flag, known).replace("'", "")
    return UsageError(f"unknown option {flag}{hint}", remedy)
