"""The pages of evidence, and those that quote them: figures, tables and pictures of results between words of ours.

    python -m benchmarks.accuracy page

A comment says what stands in a place, which ends with ``<!-- end -->``; a sentence or a cell may hold the last three::

    <!-- results: caltech -->                       picture, tables and command of a study
    <!-- verdicts: caltech-prg cifar100-prg against PRG -->   changes of one method, on several data sets
    <!-- interval: caltech PRG against KD -->       paired difference of two rows
    <!-- score: caltech PRG -->                     mean of a row
    <!-- fact: tin100-teacher val teacher_top1 -->  value of a JSON file beside the results
"""

import json
import re
from collections.abc import Sequence
from functools import reduce
from pathlib import Path

from benchmarks.accuracy import runs
from benchmarks.accuracy.choice import chosen_labels, winners
from benchmarks.accuracy.report import (
    WEAK,
    Scores,
    curves,
    difference,
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
from benchmarks.accuracy.stats import mean_std
from benchmarks.accuracy.studies import STUDIES, Study

DOCS = Path(__file__).parents[2] / "docs"
QUOTING = [DOCS / "methods" / f"{name}.md" for name in ("combined", "prg")]
PAGES = [DOCS / "evidence.md", *sorted((DOCS / "evidence").glob("*.md")), *QUOTING]
PICTURES = DOCS / "img" / "evidence"
PLACE = re.compile(r"<!-- (results|verdicts|interval|score|fact): ([^\n]+?) -->.*?<!-- end -->", re.DOTALL)
NO_TABLE, NO_NUMBER = "No results are committed yet.", "not measured yet"
SHARES = "shares"
"""Folder beside the results: runs made later to learn the gradient shares of rows that were recorded without."""


def committed(name: str, results: Path) -> tuple[Scores, list[Record]]:
    """Scores of a study's results, by its own recipe and in its order, and their records."""
    if name not in STUDIES:  # announced on a page before it is built
        return {}, []
    study = STUDIES[name]
    methods = [*study.methods, *study.more]
    scores, records = read(of_methods(name, results, methods, study.base), results)
    later = read(of_methods(name, results / SHARES, methods, study.base), results / SHARES)[1]
    return in_order(scores, [method.label for method in methods]), with_shares(records, later)


def with_shares(records: Sequence[Record], later: Sequence[Record]) -> list[Record]:
    """The same records; those without shares have the later runs'."""
    known = {each["config"]["label"]: {"shares": each["result"]["shares"]} for each in later}
    return [{**each, "result": {**known.get(each["config"]["label"], {}), **each["result"]}} for each in records]


def is_choice(study: Study) -> bool:
    """Whether another study takes its rows from this one."""
    return any(STUDIES.get(each.chosen_in) is study for each in STUDIES.values())


def words(study: Study, scores: Scores, records: Sequence[Record]) -> str:
    """The tables of a study, and what they were measured with."""
    parts = [table(scores, records, study.against, winners(scores).values() if is_choice(study) else ())]
    if WEAK in parts[0]:
        parts.append(f"{WEAK} under 5 % of the gradient: a row that removes such a term does not measure it.")
    if study.ours:
        parts.append(pairs_table(scores, study.ours, study.theirs))
    return "\n\n".join([*parts, f"{len(records)} runs{_minutes(records)}, measured with {hardware(records)}"])


def _minutes(records: Sequence[Record]) -> str:
    """What they cost, where it was recorded."""
    known = [each["result"]["cpu_seconds"] for each in records if "cpu_seconds" in each["result"]]
    return f" of {sum(known) / 60:.0f} CPU minutes in all" if len(known) == len(records) else ""


def section(name: str, results: Path, pictures: Path) -> str:
    """A study's pictures and tables, and the command that repeats it."""
    scores, records = committed(name, results)
    if not scores:
        return NO_TABLE
    study = STUDIES[name]
    picture(scores, pictures / f"{name}.svg", study.title)
    parts = [f"![Every seed of {study.title}](../img/evidence/{name}.svg)"]
    if any("curve" in record["result"] for record in records) and not is_choice(study):
        curves(records, pictures / f"{name}-time.svg", study.title)
        parts.append(f"![Learning curves of {study.title}](../img/evidence/{name}-time.svg)")
    command = f"python -m benchmarks.accuracy {'choose ' if is_choice(study) else ''}{name}"
    parts.append(f"{words(study, scores, records)}; `{command}`.")
    if labels := chosen_labels(study.chosen_in, results):
        parts.append("Chosen: " + "; ".join(f"{row} is `{label}`" for row, label in labels.items()) + ".")
    if any("shares" in each["result"] and "cpu_seconds" not in each["result"] for each in records):
        parts.append("The gradient shares are those of later runs, one seed a row.")
    if others := len(runs.read(results, [name])) - len(records):
        parts.append(f"{others} more runs have options or a recipe that the study no longer has, and are left out.")
    return "\n\n".join(parts)


def number(name: str, row: str, against: str, results: Path) -> str:
    """Mean of a row, or its paired difference from another. Raises: SystemExit for rows that the study has not."""
    if name in STUDIES:
        STUDIES[name].chosen(";".join(filter(None, (row, against))))
    scores = committed(name, results)[0]
    if against:
        return str(difference(scores, row, against) or NO_NUMBER)
    return mean_std(list(scores[row].values())) if row in scores else NO_NUMBER


def fact(name: str, keys: Sequence[str], results: Path) -> str:
    """A number that another measurement left beside the results; numbers that are whole have no decimals."""
    found = reduce(lambda known, key: known[key], keys, json.loads((results / f"{name}.json").read_text()))
    return f"{found:,.1f}" if isinstance(found, float) else f"{found:,}"


def text(kind: str, what: str, results: Path, pictures: Path) -> str:
    """What stands in a place."""
    names, _, against = what.partition(" against ")
    name, *rest = names.split(" ")
    if kind == "results":
        return section(what, results, pictures)
    if kind == "verdicts":
        return verdicts({STUDIES[each].data: committed(each, results)[0] for each in names.split()}, against)
    return fact(name, rest, results) if kind == "fact" else number(name, " ".join(rest), against, results)


def filled(page: str, results: Path, pictures: Path) -> str:
    """The page with everything as the results have it; each picture is drawn into the folder."""

    def place(found: re.Match[str]) -> str:
        space = "\n\n" if found[1] in ("results", "verdicts") else ""
        return f"<!-- {found[1]}: {found[2]} -->{space}{text(found[1], found[2], results, pictures)}{space}<!-- end -->"

    return PLACE.sub(place, page)


def main(results: Path) -> None:
    """Write the pages anew."""
    PICTURES.mkdir(parents=True, exist_ok=True)
    for page in PAGES:
        page.write_text(filled(page.read_text(), results, PICTURES))
        print(f"{page}: {len(PLACE.findall(page.read_text()))} places filled")
