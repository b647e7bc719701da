"""YAML by safe loading only, as YAML 1.2 reads words (``no`` is one, ``1e-3`` a number), and within bounds."""

import re
from typing import Any, Final

import yaml

LIMIT: Final = 1 << 16  # characters; options take a few thousand
_DEPTH: Final = 20
_DIGITS: Final = 300  # what a float can hold
_NUMBER = re.compile(r"[-+]?(\d+(\.\d*)?|\.\d+)([eE][-+]?\d+)?")


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
        keys: set[str] = set()
        for key in (key for key, _ in node.value if isinstance(key, yaml.ScalarNode)):
            if key.value in keys:
                _refuse(f"the key {key.value!r} occurs twice", key)
            keys.add(key.value)
        found: dict[Any, Any] = super().construct_mapping(node, deep)
        return found

    def construct_scalar(self, node: Any) -> Any:
        """A text, or the text of a number of a length that Python reads."""
        if node.tag.endswith((":int", ":float")) and len(str(node.value)) > _DIGITS:
            _refuse(f"a number has {len(node.value)} digits", node)
        return super().construct_scalar(node)


def _refuse(problem: str, place: Any) -> None:
    raise yaml.constructor.ConstructorError(None, None, problem, place.start_mark)


_Loader.yaml_implicit_resolvers = {
    first: [(tag, rule) for tag, rule in rules if not tag.endswith((":bool", ":float", ":timestamp"))]
    for first, rules in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile(r"^(true|false)$"), list("tf"))
_Loader.add_implicit_resolver("tag:yaml.org,2002:float", re.compile(rf"^({_NUMBER.pattern})$"), list("-+0123456789."))


def load_yaml(text: str) -> Any:
    """What a text says.

    Raises: ValueError that names the line, for what is no YAML, has aliases, tags or a repeated key, or passes a bound.
    """
    if len(text) > LIMIT:
        raise ValueError(f"it has {len(text)} characters, at most {LIMIT} are read")
    try:
        return yaml.load(text, _Loader)
    except (yaml.YAMLError, ValueError) as error:  # the latter for 0x_, which YAML 1.1 calls a number
        mark = getattr(error, "problem_mark", None)
        line = f"line {mark.line + 1}: " if mark else ""
        raise ValueError(f"{line}{getattr(error, 'problem', None) or error}") from None
