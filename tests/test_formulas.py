"""Formulas of the pages become MathML, or the page is not built."""

import re
import sys

import pytest

from tests.pages import PAGES, ROOT

pytest.importorskip("latex2mathml")
pytest.importorskip("mkdocs")


@pytest.fixture
def formulas(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "docs"))
    yield __import__("formulas")
    sys.modules.pop("formulas")


def test_a_formula_is_mathml_and_aligned_rows_are_a_table(formulas):
    assert "<mfrac>" in formulas.mathml(r"\frac{a}{b}", "inline")
    made = formulas.mathml(r"\begin{aligned} a &= b \\ c &= d \end{aligned}", "block")
    assert made.count("<mtr>") == 2
    assert "&</mi>" not in made


def test_an_unknown_command_is_an_error_that_names_it(formulas):
    with pytest.raises(ValueError, match=r"unknown commands \\frobnicate in the formula"):
        formulas.mathml(r"\frobnicate{x}", "inline")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_formula_of_a_page_is_understood(formulas, page):
    text = re.sub(r"```.*?```|`[^`\n]*`", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    for block in re.findall(r"\$\$(.*?)\$\$", text, flags=re.DOTALL):
        assert formulas.mathml(block, "block")
    for inline in re.findall(r"\$([^$\n]+)\$", re.sub(r"\$\$.*?\$\$", "", text, flags=re.DOTALL)):
        assert formulas.mathml(inline, "inline")
