"""docs/evidence.md: the tables and pictures of committed results, each in its place between words written by hand.

python -m benchmarks.accuracy page
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.accuracy.report import Scores, hardware, in_order, of_methods, pairs_table, picture, read, table
from benchmarks.accuracy.studies import STUDIES, Study

PAGE = Path(__file__).parents[2] / "docs" / "evidence.md"
PLACE = re.compile(r"<!-- results: ([\w-]+) -->.*?<!-- end -->", re.DOTALL)


def tables(name: str, study: Study, results: Path) -> tuple[Scores, str]:
    """Scores of a study's results, by its own recipe, and their tables in Markdown."""
    methods = [*study.methods, *study.more]
    every, records = read(of_methods(results / name, methods, study.base), results)
    scores = in_order(every, [method.label for method in methods])
    if not scores:
        return scores, "No results are committed yet."
    return scores, f"{words(study, scores, records)}; `python -m benchmarks.accuracy {name}`."


def words(study: Study, scores: Scores, records: Sequence[dict[str, Any]]) -> str:
    """The tables of a study, and what they were measured with."""
    parts = [table(scores, records, study.against)]
    if study.ours:
        parts.append(pairs_table(scores, study.ours, study.theirs))
    return "\n\n".join([*parts, f"Measured with {hardware(records)}"])


def filled(page: str, results: Path, pictures: Path) -> str:
    """The page with the tables as the results have them; each picture is drawn into the folder."""

    def place(found: re.Match[str]) -> str:
        name = found[1]
        study = STUDIES[name]
        scores, text = tables(name, study, results)
        if scores:
            picture(scores, pictures / f"{name}.svg", study.title)
            text = f"![Every seed of {study.title}](img/evidence/{name}.svg)\n\n{text}"
        return f"<!-- results: {name} -->\n\n{text}\n\n<!-- end -->"

    return PLACE.sub(place, page)


def main(results: Path) -> None:
    """Write the page anew."""
    pictures = PAGE.parent / "img" / "evidence"
    pictures.mkdir(parents=True, exist_ok=True)
    PAGE.write_text(filled(PAGE.read_text(), results, pictures))
    print(f"{PAGE}: {len(PLACE.findall(PAGE.read_text()))} studies")
