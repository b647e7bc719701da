"""YAML by safe loading only, as YAML 1.2 reads words (``no`` is one, ``1e-3`` a number), and within bounds."""

import math
import re
from typing import Any, Final

import yaml

LIMIT: Final = 1 << 16  # characters; options take a few thousand
_DEPTH: Final = 20
_DIGITS: Final = 300  # what a float can hold
_WORDS: Final = {  # what a word without quotes may be, by YAML 1.2's core schema
    "null": (r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    "bool": (r"true|false", list("tf")),
    "int": (r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", list("-+0123456789")),
    "float": (r"[-+]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][-+]?[0-9]+)?", list("-+0123456789.")),
}


class _Loader(yaml.SafeLoader):  # type: ignore[misc]
    """PyYAML's safe loader without YAML 1.1's surprises, aliases and tags, of bounded depth, each key once."""

    depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        """One value and all that is in it."""
        event = self.peek_event()
        if self.check_event(yaml.AliasEvent):  # a few lines of them would stand for a billion values
            _refuse("aliases are not read: write the value out", event)
        if event.tag is not None:
            _refuse(f"tags such as {event.tag} are not read: leave it out", event)
        self.depth += 1
        if self.depth > _DEPTH:
            _refuse(f"it is nested more than {_DEPTH} deep", event)
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        """A mapping whose keys occur once."""
        found: dict[Any, Any] = super().construct_mapping(node, deep)
        if len(found) < len(node.value):
            keys: set[Any] = set()
            for place in (key for key, _ in node.value):
                key = self.construct_object(place, deep=True)
                if key in keys:  # by value: 1 and 0x1 are one key
                    _refuse(f"the key {key!r} occurs twice", place)
                keys.add(key)
        return found

    def construct_yaml_int(self, node: Any) -> int:
        """A whole number: decimal, whatever zeros it starts with, or after 0x and 0o."""
        text = self._number(node)
        return int(text, 0 if text[1:2] in ("x", "o") else 10)

    def construct_yaml_float(self, node: Any) -> float:
        """A number that a float can hold."""
        number = float(self._number(node))
        if not math.isfinite(number):
            _refuse(f"{node.value} is larger than a float can be", node)
        return number

    def _number(self, node: Any) -> str:
        if len(node.value) > _DIGITS:
            _refuse(f"a number has {len(node.value)} digits", node)
        return str(node.value)


def _refuse(problem: str, place: Any) -> None:
    raise yaml.constructor.ConstructorError(None, None, problem, place.start_mark)


_Loader.yaml_implicit_resolvers = {}
for _kind, (_pattern, _first) in _WORDS.items():
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_kind}", re.compile(rf"^(?:{_pattern})$"), _first)
_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.construct_yaml_int)
_Loader.add_constructor("tag:yaml.org,2002:float", _Loader.construct_yaml_float)


def load_yaml(text: str) -> Any:
    """What a text says.

    Raises: ValueError that names the line, for what is no YAML, has aliases, tags or a repeated key, or passes a bound.
    """
    if len(text) > LIMIT:
        raise ValueError(f"it has {len(text)} characters, at most {LIMIT} are read")
    try:
        return yaml.load(text, _Loader)
    except (yaml.YAMLError, ValueError, OverflowError) as error:  # the latter for an escape that no character has
        mark = getattr(error, "problem_mark", None)
        line = f"line {mark.line + 1}: " if mark else ""
        raise ValueError(f"{line}{getattr(error, 'problem', None) or error}") from None
