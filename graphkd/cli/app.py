"""The program: its commands, and how words become a typed configuration.

cyclopts parses, helps and completes from the dataclasses of ``graphkd.cli.commands``. Here are the table of commands,
the options of ``--config``, and a stricter reading of values than its own.
"""

import re
import types
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from inspect import cleandoc
from keyword import iskeyword
from pathlib import Path
from textwrap import indent
from typing import Any, Final, Literal, Union, get_args, get_origin, get_type_hints

from cyclopts import (
    UNSET,
    App,
    Argument,
    ArgumentCollection,
    CoercionError,
    Group,
    MissingArgumentError,
    Parameter,
    Token,
    UnknownOptionError,
)
from cyclopts.help import DefaultFormatter, HelpPanel

import graphkd
from graphkd.cli.errors import UsageError, flag_of, nearest, without_markup
from graphkd.errors import OptionError
from graphkd.files import local_path

_HEADINGS = {  # of the overview; "store info" is the function info of commands/store.py
    "distil": ("embed", "select", "distill"),
    "look": ("evaluate", "inspect", "report", "compare"),
    "use": ("predict", "export"),
    "stores": ("store info", "store verify", "store repair", "store merge", "store import", "store export"),
    "know": ("methods", "conformance", "doctor", "tune", "completion"),
}
COMMANDS: Final = [name for names in _HEADINGS.values() for name in names]
_TITLE = f"graphkd {graphkd.__version__}: train a small model on what a foundation model knows, by aligning graphs"
_STORES = "Look into a store, check it, mend it, bring several together; vectors from elsewhere, and for others."
_START = "graphkd doctor\ngraphkd methods\ngraphkd distill --data photos --teacher ViT-B-32 --pretrained openai"
_EXCERPT: Final = 80  # characters of a wrong value that a message shows
_BOOLS: Final = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}
_LENDERS = {"store repair": "embed"}  # a command that takes what it knows from the file of another


@dataclass(frozen=True)
class Asked:
    """What a command line asks for.

    Args:
        run: function of the command.
        config: its configuration.
        given: names of the options that were given, by flag or by file.
    """

    run: Callable[..., int]
    config: Any
    given: frozenset[str]


def parse(words: Sequence[str]) -> Asked | None:
    """The command and the configuration that a command line makes; ``None`` where help was asked for and printed.

    Raises: UsageError, OptionError, CycloptsError.
    """
    app, reader = program(), _Reader()
    app.config = (reader,)
    words = ["--help"] if list(words) in ([], ["help"]) else list(words)
    try:
        run, bound, not_parsed = app.parse_args(words, exit_on_error=False, print_error=False, verbose=False)
    except OptionError:  # what is missing or wrong may be what was misspelt
        _require_known(words)
        raise
    if "console" in not_parsed:
        bound.apply_defaults()
        return Asked(run_of(command_of(words)), bound.arguments["config"], reader.given)
    run(*bound.args, **bound.kwargs)
    if run != app.version_print:
        print(f"\nexamples:\n{indent(_examples(words), '  ')}")
    return None


def _examples(words: Sequence[str]) -> str:
    """Those of a command, of every command of a group, or of the program."""
    group = [name for name in COMMANDS if name.partition(" ")[0] == (words or [""])[0]]
    names = [command_of(words)] if command_of(words) else group
    return "\n\n".join(doc_of(name)[1] for name in names) or _START


@cache
def program() -> App:
    """Every command, with its options and its help."""
    app = App(
        name="graphkd",
        version=f"graphkd {graphkd.__version__}",
        help=f"{_TITLE}\n\ngraphkd COMMAND --help explains a command, with examples.",
        help_format="plaintext",
        help_formatter=_Help(),
        default_parameter=_EVERY,
    )
    for number, (heading, names) in enumerate(_HEADINGS.items()):
        group = Group(heading, sort_key=number)
        for place, name in enumerate(names):
            first, _, second = name.partition(" ")
            if second and first not in app:
                app.command(App(name=first, help=_STORES, group=group))
            home, group_of = (app[first], None) if second else (app, group)
            home.command(run_of(name), name=second or first, help=doc_of(name)[0], group=group_of, sort_key=place)
    return app


def run_of(name: str) -> Callable[..., int]:
    """The function of a command."""
    module, _, function = name.partition(" ")
    function = f"{function}_" if iskeyword(function) else function or "run"
    found: Callable[..., int] = getattr(import_module(f"graphkd.cli.commands.{module}"), function)
    return found


def config_of(name: str) -> type:
    """The dataclass of a command's options."""
    found: type = get_type_hints(run_of(name))["config"]
    return found


def doc_of(name: str) -> tuple[str, str]:
    """What the help of a command says above and below the options: its configuration's docstring, without ``Args:``."""
    doc = cleandoc(config_of(name).__doc__ or "")
    text = re.split(r"\n(?:Args:|Example::)\n", doc)[0].strip()
    return "\n\n".join(map(without_markup, text.split("\n\n"))), cleandoc(doc.partition("\nExample::\n")[2])


def command_of(words: Sequence[str]) -> str:
    """The command that a command line begins with, or ``""``."""
    names = (" ".join(words[:length]) for length in (2, 1))
    return next((name for name in names if name in COMMANDS), "")


def _require_known(words: Sequence[str]) -> None:
    """Raises: UnknownOptionError for the first flag that its command does not have."""
    arguments = _arguments_of(command_of(words))
    known = {name for each in arguments for name in each.names}
    for flag in (word.partition("=")[0] for word in words if word.startswith("--")):
        if flag not in known:
            token = Token(keyword=flag, source="cli")
            raise UnknownOptionError(token=token, argument_collection=arguments, verbose=False)


def _arguments_of(name: str) -> ArgumentCollection:
    app = program()
    for word in name.split():
        app = app[word]
    return app.assemble_argument_collection(default_parameter=_EVERY, parse_docstring=True)


def options_of(name: str) -> dict[str, Argument]:
    """The options of a command by the names of their fields; none for the name ``""``."""
    return _by_name(_arguments_of(name)) if name else {}


class _Help(DefaultFormatter):
    """cyclopts' own help; the texts of docstrings flow, and have no markup."""

    def __call__(self, console: Any, options: Any, panel: HelpPanel) -> None:
        """Print one group of options."""
        for entry in panel.entries:
            text: Any = getattr(entry.description, "primary_renderable", None)
            if text is not None:
                text.plain = without_markup(text.plain)
        entries = [entry.copy(default=entry.default or None) for entry in panel.entries]
        super().__call__(console, options, panel.copy(entries=entries))


def _shown(value: Any) -> str:
    """A default as it would be typed; nothing where the option is off or empty."""
    if value is None or value is False:
        return ""
    return ",".join(map(str, value)) if isinstance(value, tuple | dict) else str(value)


_EVERY = Parameter(
    allow_repeating=True, negative_iterable=(), show_default=_shown, parse=re.compile("^(?!progress$)")
)  # of all options


class _Reader:
    """Takes the options of a file, and reads every value; cyclopts calls it between the words and the configuration.

    Attributes:
        given: names of the options that have a value.
    """

    def __init__(self) -> None:
        self.given: frozenset[str] = frozenset()

    def __call__(self, app: App, commands: Sequence[str], arguments: ArgumentCollection) -> None:
        """Leave each option with one token, which holds its value."""
        options, values = _by_name(arguments), {}
        for name, option in options.items():
            if option.tokens:
                texts = [each.value if each.implicit_value is UNSET else each.implicit_value for each in option.tokens]
                values[name] = read_value(option, texts[0] if len(texts) == 1 else texts)
        if "config" in values:
            from_file = _from_file(" ".join(commands), values["config"], options)
            for name, value in from_file.items():
                values[name] = {**value, **values.get(name, {})} if isinstance(value, dict) else values.get(name, value)
        for name, value in values.items():
            whole = UNSET if isinstance(value, str) else value  # of a text, cyclopts checks whether it is a choice
            options[name].tokens = [Token(keyword=flag_of(name), value=str(value), implicit_value=whole)]
        self.given = frozenset(values)
        for option in options.values():
            if option.required and not option.tokens:
                raise MissingArgumentError(argument=option)


def _by_name(arguments: Iterable[Argument]) -> dict[str, Argument]:
    """The options by the names of their fields."""
    return {each.name[2:].replace("-", "_"): each for each in arguments if each.parse and each.name.startswith("--")}


def _from_file(command: str, path: Path, options: Mapping[str, Argument]) -> dict[str, Any]:
    from graphkd.cli.config_file import read_config  # YAML only where there is a file: --help is quick

    found = read_config(path)
    made_by = found.pop("command", command)
    if made_by == _LENDERS.get(command):
        found = {name: value for name, value in found.items() if name in options}
    elif made_by != command:
        raise UsageError(f"{path} holds options of 'graphkd {made_by}'", f"run graphkd {made_by} --config {path}")
    for name in found:
        if name not in options:
            what = f"{path}: unknown option {name!r}{nearest(name, options)}"
            raise UsageError(what, f"graphkd {command} --help lists every option")
    return {name: read_value(options[name], value, f"{path}: ") for name, value in found.items()}


def read_value(option: Argument, value: Any, where: str = "") -> Any:
    """A value as the option's type.

    Args:
        option: whose type counts.
        value: a text, several of them, or what a YAML file holds.
        where: beginning of the message, such as the file's name.

    Raises: CoercionError that says what was expected and what was found.
    """
    kinds = get_args(option.hint) if get_origin(option.hint) in (Union, types.UnionType) else (option.hint,)
    if type(None) in kinds and value in (None, "none"):
        return None
    kind = get_origin(kinds[0]) or kinds[0]
    expected, read = _READERS[kind]
    try:
        return read(value, get_args(kinds[0])[0]) if kind is tuple else read(value)
    except (ValueError, TypeError, KeyError, OverflowError) as error:
        text = repr(value[-1] if isinstance(value, list) and value else value)
        found = text if len(text) <= _EXCERPT else f"{text[:_EXCERPT]}... ({len(text)} characters)"
        bound = " below 2^63" if isinstance(error, OverflowError) else ""
        message = f"{where}{option.name} expects {expected}{bound}, found {found}"
        raise CoercionError(msg=message, argument=option) from None


def _whole(value: Any) -> int:
    number = int(str(value))  # of the text: True and 1.5 are none
    if abs(number) >= 2**63:
        raise OverflowError
    return number


def _number(value: Any) -> float:
    return float(str(value))  # of the text: True is none


def _bool(value: Any) -> bool:
    return _BOOLS[str(value).lower()]


def _text(value: Any) -> str:
    if isinstance(value, list | dict | bool) or value is None or not str(value):
        raise ValueError
    return str(value)


def _path(value: Any) -> Path:
    return local_path(_text(value))


def _list(value: Any, kind: type) -> tuple[Any, ...]:
    """A list of a file or of several words, or one text with commas; a path may hold a comma."""
    if isinstance(value, dict):
        raise ValueError
    read: Callable[[Any], Any] = {Path: _path, float: _number}.get(kind, _text)
    items = value if isinstance(value, list) else [value] if kind is Path else str(value).split(",")
    return tuple(read(item.strip() if isinstance(item, str) else item) for item in items if item != "")


def _mapping(value: Any) -> dict[str, Any]:
    """A mapping, or ``["rho=0.7", "edges=both"]``; a value is read as YAML."""
    if isinstance(value, dict):
        return dict(value)
    from graphkd.training.strict_yaml import load_yaml  # YAML only where it is needed: --help is quick

    found: dict[str, Any] = {}
    for each in [value] if isinstance(value, str) else value:
        name, equals, text = each.partition("=")
        if not equals or not name:
            raise ValueError
        found[name.strip()] = load_yaml(text)
    return found


_READERS: Final[dict[Any, tuple[str, Callable[..., Any]]]] = {
    bool: ("true or false", _bool),
    int: ("a whole number", _whole),
    float: ("a number", _number),
    Path: ("a path", _path),
    str: ("a text", _text),
    tuple: ("a list", _list),
    dict: ("OPTION=VALUE", _mapping),
    Literal: ("a word", str),  # which one, cyclopts checks
}
