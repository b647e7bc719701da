"""Formulas as MathML while the pages are made: a browser shows them without a script and without the network."""

import re
from html import unescape
from typing import Any

from latex2mathml.converter import convert
from mkdocs.exceptions import PluginError

FORMULA = re.compile(r'<(div|span) class="arithmatex">\\[(\[](.*?)\\[)\]]</\1>', re.DOTALL)
SPELLING = {  # as the converter has it
    "{aligned}": "{split}",
    r"\arg\max": r"\mathrm{argmax}",
    r"\Big\lVert": r"\Big\|",
    r"\Big\rVert": r"\Big\|",
}


def mathml(tex: str, display: str) -> str:
    """One formula. Raises: ValueError if a command is not understood; it would be printed as text."""
    for ours, theirs in SPELLING.items():
        tex = tex.replace(ours, theirs)
    made = convert(tex, display=display)
    strange = re.findall(r">(\\[A-Za-z]+)<", unescape(made))
    if strange:
        raise ValueError(f"unknown commands {', '.join(strange)} in the formula {tex.strip()}")
    return made


def on_page_content(html: str, page: Any, **kwargs: Any) -> str:
    """MkDocs hands over each page's HTML."""

    def replace(found: re.Match[str]) -> str:
        display = "block" if found[1] == "div" else "inline"
        try:
            return f'<{found[1]} class="arithmatex">{mathml(unescape(found[2]), display)}</{found[1]}>'
        except Exception as error:
            raise PluginError(f"{page.file.src_uri}: {error}") from error

    return FORMULA.sub(replace, html)
