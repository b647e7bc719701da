"""docs/evidence.md: the tables and pictures of committed results, each in its place between words written by hand.

python -m benchmarks.accuracy page
"""

import re
from collections.abc import Sequence
from pathlib import Path

from benchmarks.accuracy.report import (
    Scores,
    curves,
    hardware,
    in_order,
    of_methods,
    pairs_table,
    picture,
    read,
    table,
    verdicts,
)
from benchmarks.accuracy.runs import Record
from benchmarks.accuracy.studies import STUDIES, Study

PAGE = Path(__file__).parents[2] / "docs" / "evidence.md"
PLACE = re.compile(r"<!-- (results|verdicts): ([^\n]+?) -->.*?<!-- end -->", re.DOTALL)


def committed(name: str, results: Path) -> tuple[Scores, list[Record]]:
    """Scores of a study's results, by its own recipe and in its order, and their records."""
    study = STUDIES[name]
    methods = [*study.methods, *study.more]
    scores, records = read(of_methods(name, results, methods, study.base), results)
    return in_order(scores, [method.label for method in methods]), records


def words(study: Study, scores: Scores, records: Sequence[Record]) -> str:
    """The tables of a study, and what they were measured with."""
    parts = [table(scores, records, study.against)]
    if study.ours:
        parts.append(pairs_table(scores, study.ours, study.theirs))
    return "\n\n".join([*parts, f"Measured with {hardware(records)}"])


def section(name: str, results: Path, pictures: Path) -> str:
    """A study's picture and tables, and the command that repeats it."""
    study = STUDIES[name]
    scores, records = committed(name, results)
    if not scores:
        return "No results are committed yet."
    picture(scores, pictures / f"{name}.svg", study.title)
    shown = f"![Every seed of {study.title}](img/evidence/{name}.svg)\n\n"
    if study.chosen_in and any("curve" in record["result"] for record in records):
        curves(records, pictures / f"{name}-time.svg", study.title)
        shown += f"![Learning curves of {study.title}](img/evidence/{name}-time.svg)\n\n"
    choosing = "choose " if name in {each.chosen_in for each in STUDIES.values()} else ""
    return f"{shown}{words(study, scores, records)}; `python -m benchmarks.accuracy {choosing}{name}`."


def verdict(names: Sequence[str], against: str, results: Path) -> str:
    """What several studies say of the changes that all of them made to the same method."""
    return verdicts({STUDIES[name].data: committed(name, results)[0] for name in names}, against)


def filled(page: str, results: Path, pictures: Path) -> str:
    """The page with the tables as the results have them; each picture is drawn into the folder."""

    def place(found: re.Match[str]) -> str:
        kind, (names, _, against) = found[1], found[2].partition(" against ")
        text = verdict(names.split(), against, results) if against else section(names, results, pictures)
        return f"<!-- {kind}: {found[2]} -->\n\n{text}\n\n<!-- end -->"

    return PLACE.sub(place, page)


def main(results: Path) -> None:
    """Write the page anew."""
    pictures = PAGE.parent / "img" / "evidence"
    pictures.mkdir(parents=True, exist_ok=True)
    PAGE.write_text(filled(PAGE.read_text(), results, pictures))
    print(f"{PAGE}: {len(PLACE.findall(PAGE.read_text()))} studies")
