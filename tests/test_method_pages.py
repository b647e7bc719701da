"""Every registered method has a page that says what the code does: its options, its defaults, what is our choice."""

import sys

import pytest

from graphkd import functional
from graphkd.conformance import golden
from graphkd.conformance.table import Row, markdown
from graphkd.distillers.factory import distillers
from tests.pages import ROOT, rows

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


@pytest.fixture
def tables(monkeypatch):
    """The hook that makes the tables while the site is built."""
    pytest.importorskip("mkdocs")
    monkeypatch.syspath_prepend(str(ROOT / "docs"))
    yield __import__("method_tables")
    sys.modules.pop("method_tables")


@pytest.mark.parametrize("name", METHODS)
def test_the_page_is_complete_and_its_table_has_every_option_with_its_meaning(tables, name: str) -> None:
    text = page(name)
    assert [title for title in SECTIONS if not section(text, title).strip()] == []
    assert name == "combined" or "$$" in text
    assert "\nPaper: " in text or "arxiv.org/abs/" in text
    assert "```python\n" in text
    assert "<!-- table -->" in section(text, "Options")
    assert tables.meanings(METHODS[name]).keys() == tables.options(METHODS[name]).keys()
    made = rows(tables.option_table(METHODS[name]))
    assert [row[0].strip("`") for row in made] == list(tables.options(METHODS[name]))
    assert all(all(row) for row in made)


def test_options_of_a_graph_stand_by_name_with_their_defaults(tables):
    assert tables.options(METHODS["kd"]) == {"weight": 0.9, "temperature": 4.0}
    assert tables.options(METHODS["crg"])["k"] == 8
    assert "| `temperature` | `4.0` | softmax temperature, > 0; default 4 |" in tables.option_table(METHODS["kd"])


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


def test_every_method_is_in_the_table_and_in_the_navigation(tables) -> None:
    made = {row[0]: row for row in rows(tables.method_table())}
    assert made.keys() == {f"[`{name}`]({name}.md)" for name in METHODS}
    assert all(all(row) and row[4][:2] in ("ye", "no") for row in made.values())
    places = [each for entry in tables.navigation() for each in entry.values()]
    flat = [
        path for each in places for path in ([each] if isinstance(each, str) else [p for e in each for p in e.values()])
    ]
    assert sorted(flat) == [f"methods/{name}.md" for name in METHODS]


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
