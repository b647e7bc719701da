"""python -m benchmarks.report: two pages of docs/ and their chart, from the results in benchmarks/results alone."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks import front, tables
from benchmarks.chart import draw
from benchmarks.gpu import NAMED
from benchmarks.machine import ROOT
from benchmarks.results import FOLDER, latest
from benchmarks.tables import Made

DOCS = ROOT / "docs"
PAGE, TABLES, CHART = "performance.md", "performance-tables.md", "img/performance.svg"
MADE = "<!-- made by `python -m benchmarks.report` from benchmarks/results: change those, not this page -->"
MEASURE = """## Measure it

```bash
make bench                        # everything, on your machine
make bench ARGS="-m quick"        # the short sizes
make ratios                       # the promised ratios, side by side, in pairs
python -m benchmarks.ratios --only light  # every distiller beside its plain form, and its host time
python -m benchmarks.gpu --run 1  # on a GPU: graphkd tune, then the targets, in 5 minutes
python -m benchmarks.compare REF  # another git revision beside this one
```

What is measured is printed as it comes and kept at once: an interruption loses one line. Every operation and method,
the machine, the versions: [All tables](performance-tables.md)."""
TOP = f"""{MADE}
# Performance: all tables

Time and memory of every operation and every distiller, beside the published forms, `torch.compile` and other libraries.
In short: [Performance](performance.md).
`eager` is the library's reference and what ratios are taken of; `official` the published form, written from its
equation; `blocked` and `triton` are fused. Milliseconds of forward and gradient (medians), MiB above the inputs (peak
of a fresh process). A form is timed only after its value and gradient agree with float64."""
SECTIONS = (
    ("Promised ratios", tables.ratios, "ratio"),
    ("Operations: milliseconds (times faster than eager)", lambda made: tables.speed(made, "op"), "op"),
    ("Operations: peak extra MiB", lambda made: tables.memory(made, "op"), "op"),
    ("Distillers: milliseconds (times faster than eager)", lambda made: tables.speed(made, "method"), "method"),
    ("Growth", tables.scaling, "scaling"),
    ("Training step", tables.steps, "step"),
    ("Time to start", tables.start, "start"),
    ("Other libraries", tables.peers, "op"),
    ("Errors against float64, and use of the machine", tables.accuracy, "op"),
    ("Cells without a number", tables.reasons, "op"),
)
NOTES = {
    "Training step": (
        "ResNet-18 with a stem for 32 x 32 images, 100 classes. The teacher is stored; reading the store and the "
        "products with 18 prompts' texts are part of the loss. The live teacher is a ResNet-50 at 224 x 224."
    ),
    "Errors against float64, and use of the machine": (
        "Largest difference relative to the largest entry; *near*: the teacher is the student and noise of 1e-3. The "
        "floor is that of the cheapest form known, on this machine's own limits."
    ),
    "Other libraries": "On the same work; they come with the extra `bench-peers`.",
    "Growth": "Exponents are fitted to the last four points; *next* says why a sweep ended.",
}


def page(newest: Sequence[Made]) -> str:
    """The short page, of the newest device that has the headline ratios."""
    made = next((each for each in newest if front.headlines(each)), None)
    parts = [f"{MADE}\n# Performance"]
    if made is None:
        parts.append("No results are committed yet.")
    else:
        parts += [front.lead(made, CHART)]
        for title, text in (
            ("In a training step", front.training(made)),
            ("Where it does not help", front.drawbacks(made)),
            ("Scaling", front.growth(made)),
        ):
            parts += [f"## {title}", text] if text else []
    return "\n\n".join([*parts, MEASURE]) + "\n"


def tables_page(newest: Sequence[Made], older: Sequence[Made]) -> str:
    """Every table: a part for each device, then the targets."""
    parts = [TOP]
    for made in newest:
        parts += [f"## {made['environment']['device']}", tables.head(made)]
        for title, table, kind in SECTIONS:
            if any(row["kind"] == kind for row in made["rows"]):
                parts += [f"### {title}", *([NOTES[title]] if title in NOTES else []), table(made)]
    gpu = next((made for made in newest if made["environment"]["kind"] == "cuda"), None)
    parts += ["## Targets on one H200", _targets_note(gpu), tables.targets(gpu)]
    if not newest:
        parts.append("No results are committed yet.")
    if older:
        names = ", ".join(f"`{made['name']}` (library `{made['environment']['library']}`)" for made in older)
        parts.append(f"Results of other versions, in no table above: {names}.")
    return "\n\n".join(part for part in parts if part) + "\n"


def _targets_note(gpu: Made | None) -> str:
    if gpu is None:
        return (
            "**Predicted**: no results of a GPU are committed. Floors and targets in µs, forward and gradient; "
            "`python -m benchmarks.gpu` fills the table."
        )
    return (
        f"Floors and targets are predictions in µs; measured on {gpu['environment']['device']}: µs of forward and "
        f"gradient, peak MiB. *Of target* above 1 is faster; entries below {NAMED:g} are bold."
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--results", type=Path, default=FOLDER)
    parser.add_argument("--docs", type=Path, default=DOCS, help="folder of the pages")
    given = parser.parse_args(arguments)
    newest, older = latest(given.results)
    (given.docs / PAGE).write_text(page(newest), encoding="utf-8")
    (given.docs / TABLES).write_text(tables_page(newest, older), encoding="utf-8")
    bars = next((found for made in newest if (found := front.headlines(made))), None)
    if bars:
        (given.docs / CHART).parent.mkdir(exist_ok=True)
        draw(bars, given.docs / CHART)
    print(f"{given.docs / PAGE}, {TABLES}: {len(newest)} devices")
    return 0


if __name__ == "__main__":
    sys.exit(main())
