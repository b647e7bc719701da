"""Names that resolve to callables, with the nearest name suggested on a miss."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, Generic, TypeVar, overload
from warnings import warn

from graphkd.errors import OptionError, UnknownNameError

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

T = TypeVar("T")
D = TypeVar("D", bound="DataclassInstance")
P = TypeVar("P")


def unknown(kind: str, name: str, known: list[str]) -> UnknownNameError:
    """The error for a name that is not known: the nearest one, then the list."""
    near = get_close_matches(str(name), known, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else "."
    return UnknownNameError(f"unknown {kind} {name!r}{hint} Known: {', '.join(known) or 'none'}")


def warn_renamed(old: str, new: str) -> None:
    """Say once where it is used that a name is deprecated."""
    warn(f"{old} is deprecated: it is {new} now", DeprecationWarning, stacklevel=3)


class Renamed:
    """A deprecated name of an attribute or method: ``compute = Renamed("as_float32")``."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __set_name__(self, owner: type, name: str) -> None:
        self.old = f"{owner.__name__}.{name}"

    def __get__(self, instance: Any, owner: type) -> Any:
        warn_renamed(self.old, self.name)
        return getattr(owner if instance is None else instance, self.name)


def preset_of(presets: Mapping[str, D], name: str, **given: object) -> D:
    """The preset of that name, with what is given beside it; ``None`` is not given.

    Raises: UnknownNameError.
    """
    if name not in presets:
        raise unknown("preset", name, sorted(presets))
    return replace(presets[name], **{key: value for key, value in given.items() if value is not None})


class Registry(Generic[T]):
    """A dictionary of parts of one kind, filled by a decorator.

    Args:
        kind: what the parts are called in error messages, such as ``"relation"``.

    Example::

        RELATIONS = Registry("relation")

        @RELATIONS.register            # under the function's own name
        def cosine(x, y): ...

        @RELATIONS.register("dot")     # or under a given one
        def gram(x, y): ...
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._parts: dict[str, T] = {}

    @overload
    def register(self, name: str) -> Callable[[P], P]: ...
    @overload
    def register(self, name: P) -> P: ...
    def register(self, name: Any) -> Any:
        """Add a part, under the name given or its own; a name is taken once."""
        if isinstance(name, str):
            return lambda part: self._add(name, part)
        return self._add(name.__name__, name)

    def _add(self, name: str, part: Any) -> Any:
        if name in self._parts:
            raise OptionError(f"{self.kind} {name!r} is registered already: choose another name")
        self._parts[name] = part
        return part

    def get(self, name: str) -> T:
        """The part of that name. Raises: UnknownNameError with a suggestion and the list."""
        if name not in self._parts:
            raise unknown(self.kind, name, self.names())
        return self._parts[name]

    def resolve(self, part: str | T) -> T:
        """A name becomes its part; anything else passes through."""
        return self.get(part) if isinstance(part, str) else part

    def names(self) -> list[str]:
        """All names, sorted."""
        return sorted(self._parts)

    def __iter__(self) -> Iterator[str]:
        return iter(self.names())

    def __contains__(self, name: object) -> bool:
        return name in self._parts

    def __len__(self) -> int:
        return len(self._parts)
