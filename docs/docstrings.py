"""Our docstrings, with Sphinx's way of writing formulas and references, as the Markdown that the pages are made of."""

import re
from inspect import cleandoc
from typing import Any

from griffe import Extension, Object

LABEL = re.compile(
    r"^(Paper|Shapes|Raises|Returns|Example|Differs from the official code[^:\n]*): (?=\S)", re.MULTILINE
)
MATH = re.compile(r"^\.\. math::(.*(?:\n(?:[ \t]+\S.*|[ \t]*$))*)", re.MULTILINE)
ROLE = re.compile(r":(?!math)[a-z]+:`~?([^`]+)`")


def markdown(text: str) -> str:
    """Formulas between dollars, roles as code, and each one-line part (``Raises: ...``) as a paragraph of its own."""
    text = MATH.sub(lambda found: "".join(f"$$\n{each}\n$$\n\n" for each in cleandoc(found[1]).split("\n\n")), text)
    text = re.sub(r":math:`([^`]+)`", r"$\1$", text)
    text = ROLE.sub(lambda found: f"`{found[1].rpartition('.')[2]}`", text)
    text = re.sub(r"^(Args|Attributes):$", r"\n\1:", text.replace("(*b", r"(\*b"), flags=re.MULTILINE)
    text = re.sub(r"^(\w+)::$", r"**\1:**", text, flags=re.MULTILINE)
    return LABEL.sub(r"\n**\1:** ", text.replace("``", "`"))


class Markdown(Extension):
    """Rewrites each docstring before it is parsed."""

    def on_instance(self, *, obj: Object, **kwargs: Any) -> None:
        """One object's docstring."""
        if obj.docstring is not None:
            obj.docstring.value = markdown(obj.docstring.value)
