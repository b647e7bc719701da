"""Flags from dataclasses: names and types from the fields, texts from the ``Args:`` of their docstrings."""

import re
import types
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, dataclass, fields, is_dataclass
from inspect import cleandoc
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Union, get_args, get_origin, get_type_hints

from graphkd.cli.errors import UsageError, flag_of, unknown_name
from graphkd.files import local_path

POSITIONAL: Final = "positional"
_EXCERPT: Final = 80  # characters of a wrong value that a message shows
_TRUE, _FALSE = ("true", "yes", "on"), ("false", "no", "off")
_ENTRY = re.compile(r"^ {4}(\w+(?:, \w+)*): (.*)$")


@dataclass(frozen=True)
class Option:
    """One option of a command.

    Args:
        name: of the field, and of the key in a YAML file.
        kind: its type without ``None``.
        default: ``MISSING`` where it must be given.
        help: what it means.
        group: heading in the help.
        part: field of the configuration that holds it, or ``None`` for a field of its own.
        optional: whether ``None`` is a value.
        positional: whether it is written without its flag.
    """

    name: str
    kind: Any
    default: Any
    help: str
    group: str
    part: str | None
    optional: bool
    positional: bool

    @property
    def flag(self) -> str:
        """As it is typed."""
        return self.name.upper() if self.positional else flag_of(self.name)

    @property
    def choices(self) -> tuple[str, ...]:
        """The values that exist, where they are few."""
        return get_args(self.kind) if get_origin(self.kind) is Literal else ()

    @property
    def many(self) -> bool:
        """Whether it holds several values."""
        return get_origin(self.kind) is tuple

    @property
    def metavar(self) -> str:
        """What stands for the value in the help."""
        if self.choices:
            return "{" + ",".join(self.choices) + "}"
        names = {int: "N", float: "X", Path: "PATH", str: "NAME", dict: "OPTION=VALUE"}
        return "A,B" if self.many else names[get_origin(self.kind) or self.kind]


@dataclass(frozen=True)
class Doc:
    """A configuration's docstring taken apart.

    Args:
        title: first line.
        body: the paragraphs up to ``Args:``.
        arguments: name -> text.
        examples: the lines of ``Example::``.
    """

    title: str
    body: str
    arguments: Mapping[str, str]
    examples: str


def documentation(cls: type) -> Doc:
    """The docstring of a dataclass."""
    text = cleandoc(cls.__doc__ or "")
    head, _, rest = text.partition("\nArgs:\n")
    entries, _, examples = rest.partition("\nExample::\n")
    if not rest:
        head, _, examples = text.partition("\nExample::\n")
    title, _, body = head.partition("\n")
    found: dict[str, str] = {}
    names: list[str] = []
    for line in entries.split("\n\n")[0].splitlines():
        if entry := _ENTRY.match(line):
            names = entry.group(1).split(", ")
            found |= dict.fromkeys(names, entry.group(2).strip())
        else:
            found |= {name: f"{found[name]} {line.strip()}" for name in names}
    plain = {name: re.sub(r":\w+:`[~.]?([\w.]+)`", r"\1", value).replace("``", "") for name, value in found.items()}
    return Doc(title, body.strip().replace("``", ""), plain, cleandoc(examples))


def options_of(cls: type, part: str | None = None, without: tuple[str, ...] = ()) -> list[Option]:
    """Every option of a configuration, those of its parts included, in the order of the help."""
    return list(_options(cls, part, without))


def _options(cls: type, part: str | None, without: tuple[str, ...]) -> Iterator[Option]:
    hints, doc = get_type_hints(cls, include_extras=True), documentation(cls)
    group = "options" if part is None else doc.title.rstrip(".")
    for field in fields(cls):
        kind = hints[field.name]
        if is_dataclass(kind):
            assert isinstance(kind, type)
            yield from _options(kind, field.name, field.metadata.get("without", ()))
        elif field.name not in without:
            positional = get_origin(kind) is Annotated
            kind = get_args(kind)[0] if positional else kind
            optional = get_origin(kind) in (Union, types.UnionType)
            kind = next(each for each in get_args(kind) if each is not type(None)) if optional else kind
            default = field.default_factory() if field.default_factory is not MISSING else field.default
            text = doc.arguments[field.name]
            yield Option(field.name, kind, default, text, group, part, optional, positional)


def build(cls: type, options: list[Option], values: Mapping[str, Any]) -> Any:
    """The configuration that these values make; what is absent has its default."""
    hints = get_type_hints(cls)
    of_part: dict[str | None, dict[str, Any]] = {}
    for option in options:
        if option.name in values:
            of_part.setdefault(option.part, {})[option.name] = values[option.name]
    parts = {field.name: hints[field.name] for field in fields(cls) if is_dataclass(hints[field.name])}
    return cls(**{name: kind(**of_part.get(name, {})) for name, kind in parts.items()}, **of_part.get(None, {}))


def plain(config: Any, options: list[Option]) -> dict[str, Any]:
    """A configuration as one flat mapping of JSON-ready values: what :func:`build` takes."""
    found = {}
    for option in options:
        value = getattr(config if option.part is None else getattr(config, option.part), option.name)
        value = str(value) if isinstance(value, Path) else value
        found[option.name] = [str(each) for each in value] if isinstance(value, tuple) else value
    return found


def convert(option: Option, value: Any, where: str = "") -> Any:
    """A text of the command line, or a value of a YAML file, as the option's type.

    Raises: UsageError that says what was expected, with the help of the option.
    """
    if option.optional and (value is None or value == "none"):
        return None
    kind = get_origin(option.kind) or option.kind
    readers: dict[Any, tuple[str, Any]] = {
        bool: ("true or false", _bool),
        int: ("a whole number", _int),
        float: ("a number", _float),
        Path: ("a path", _path),
        str: ("a text", _text),
        tuple: ("a list", lambda given: _list(given, get_args(option.kind)[0])),
        dict: ("OPTION=VALUE", _mapping),
    }
    if kind is Literal:
        if str(value) not in option.choices:
            raise unknown_name(f"value of {where}{option.flag}", str(value), option.choices)
        return str(value)
    expected, read = readers[kind]
    try:
        return read(value)
    except (ValueError, TypeError, OverflowError) as error:
        found = _excerpt(value[-1] if isinstance(value, list) and value else value)
        bound = " below 2^63" if isinstance(error, OverflowError) else ""
        raise UsageError(
            f"{where}{option.flag} expects {expected}{bound}, found {found}", f"{option.flag}: {option.help}"
        ) from None


def _excerpt(value: Any) -> str:
    """A value for a message, of a long one the beginning."""
    text = repr(value)
    return text if len(text) <= _EXCERPT else f"{text[:_EXCERPT]}... ({len(text)} characters)"


def _bool(value: Any) -> bool:
    text = str(value).lower()
    if text not in (*_TRUE, *_FALSE):
        raise ValueError
    return text in _TRUE


def _int(value: Any) -> int:
    if isinstance(value, bool | float):
        raise ValueError
    number = int(value)
    if abs(number) >= 2**63:
        raise OverflowError
    return number


def _float(value: Any) -> float:
    if isinstance(value, bool):
        raise ValueError
    return float(value)


def _text(value: Any) -> str:
    if isinstance(value, list | dict | bool) or value is None or not str(value):
        raise ValueError
    return str(value)


def _path(value: Any) -> Path:
    return local_path(_text(value))


def _list(value: Any, kind: Any) -> tuple[Any, ...]:
    if isinstance(value, dict):
        raise ValueError
    items = value.split(",") if isinstance(value, str) else list(value)
    read = _path if kind is Path else _text
    return tuple(read(item.strip() if isinstance(item, str) else item) for item in items if item != "")


def _mapping(value: Any) -> dict[str, Any]:
    """A mapping, or ``["rho=0.7", "edges=both"]``; a value is read as YAML."""
    if isinstance(value, dict):
        return dict(value)
    from graphkd.strict_yaml import load_yaml  # YAML only where it is needed: --help is quick

    found: dict[str, Any] = {}
    for each in [value] if isinstance(value, str) else value:
        name, equals, text = each.partition("=")
        if not equals or not name:
            raise ValueError
        found[name.strip()] = load_yaml(text)
    return found
