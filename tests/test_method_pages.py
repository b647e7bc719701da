"""Every registered method has a page that says what the code does: its options, its defaults, what is our choice."""

import inspect
import re
from pathlib import Path

import pytest

from graphkd import functional
from graphkd.conformance import golden
from graphkd.conformance.table import Row, markdown
from graphkd.distillers.factory import distillers

ROOT = Path(__file__).parents[1]
PAGES = ROOT / "docs" / "methods"
METHODS = {name: distillers().get(name) for name in distillers().names()}
SECTIONS = ("Provenance", "Options", "What to watch", "Differs from the official code", "Reference numbers")
LABELS = {
    "prg": "PRG-style: reconstructed from the abstract and third-party summaries, with EGA-type node and edge losses; "
    "not PRG as published.",
    "crg": "CRG/SEKD-style: follows the abstract and the loss decomposition L_origin + alpha L_V + beta L_E + "
    "gamma L_S; not a reproduction.",
    "eikd": "EIKD-style: reconstructed from the abstract and the DFND protocol; not a reproduction.",
}


def page(name: str) -> str:
    return (PAGES / f"{name}.md").read_text(encoding="utf-8")


def section(text: str, title: str) -> str:
    return text.split(f"\n## {title}\n")[1].split("\n## ")[0]


def rows(text: str) -> list[list[str]]:
    lines = [line for line in text.splitlines() if line.startswith("|")][2:]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]


def said(default: object) -> str:
    return "required" if default is inspect.Parameter.empty else f"`{default!r}`".replace("'", '"')


def options(name: str) -> dict[str, str]:
    """Every option of the constructor with its default."""
    found = dict(inspect.signature(METHODS[name].__init__).parameters)
    del found["self"]
    return {option: said(parameter.default) for option, parameter in found.items()}


@pytest.mark.parametrize("name", METHODS)
def test_the_page_is_complete_and_in_the_navigation(name: str) -> None:
    text = page(name)
    assert [title for title in SECTIONS if not section(text, title).strip()] == []
    assert name == "combined" or "$$" in text
    assert "\nPaper: " in text or "arxiv.org/abs/" in text
    assert "```python\n" in text
    assert f": methods/{name}.md\n" in (ROOT / "mkdocs.yml").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", METHODS)
def test_the_options_are_those_of_the_code(name: str) -> None:
    written = {row[0].strip("`"): row[1] for row in rows(section(page(name), "Options"))}
    assert written == options(name)
    assert all(row[2] for row in rows(section(page(name), "Options")))


@pytest.mark.parametrize("name", METHODS)
def test_a_reconstruction_says_so(name: str) -> None:
    docstring = " ".join((METHODS[name].__doc__ or "").split())
    assert ("-style:" in docstring) == (name in LABELS)
    if name in LABELS:
        assert LABELS[name] in docstring
        assert f'!!! warning "{LABELS[name]}"' in page(name)
    else:
        assert "-style:" not in page(name)


def test_no_page_is_of_an_unknown_method() -> None:
    assert {path.stem for path in PAGES.glob("*.md")} - {"index"} == set(METHODS)


def test_the_table_of_methods_is_that_of_the_code() -> None:
    index = section((PAGES / "index.md").read_text(encoding="utf-8"), "All methods")
    table = {re.findall(r"\((\w+)\.md\)", row[0])[0]: row for row in rows(index)}
    assert table.keys() == METHODS.keys()
    for name, row in table.items():
        assert row[4].startswith("yes") == ("target" in METHODS[name].needs)
        assert row[5] == f"`{METHODS[name].global_batch}`"
        assert all(row)


def test_the_table_of_functions_is_complete() -> None:
    table = rows(section((ROOT / "docs" / "functional.md").read_text(encoding="utf-8"), "All functions"))
    assert [row[0].strip("`") for row in table] == sorted(functional.__all__)
    assert all(all(row) for row in table)


def test_the_conformance_table_has_every_reference_and_no_large_difference() -> None:
    """Everything but the digits, which vary by machine: names, our functions, status with reason, sources."""
    files = sorted((ROOT / "tests" / "golden").glob("*.json"))
    fresh = {each.name: Row(each.name, each.source, each.entry) for path in files for each in golden.read(path)}
    committed = rows((ROOT / "docs" / "conformance.md").read_text(encoding="utf-8"))
    without_digits = [[*row[:3], row[-1]] for row in committed]
    assert without_digits == [[*row[:3], row[-1]] for row in rows(markdown(list(fresh.values())))]
    double = [float(cell) for row in committed if row[2] == "conforms" for cell in row[3:6]]
    assert double
    assert max(double) < 1e-12
    assert max(float(row[6]) for row in committed if row[2] == "conforms") < 1e-4
