"""All results of a study as one table of means and one of paired differences, in Markdown, and a picture."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import mean, median
from typing import Any

from benchmarks.accuracy import runs
from benchmarks.accuracy.config import Config, Method, Recipe
from benchmarks.accuracy.runs import Record
from benchmarks.accuracy.stats import Difference, mean_std, paired

Scores = dict[str, dict[int, float]]
"""label -> seed -> top-1 in per cent"""

WEAK = "†"
"""Marks a term of less than 5 % of the gradient."""


def read(configs: Iterable[Config], results: Path) -> tuple[Scores, list[Record]]:
    """Scores of the configurations that have a result, and their whole records."""
    configs = list(configs)
    known = runs.read(results, (config.study for config in configs))
    scores: Scores = {}
    records = []
    for config in configs:
        if record := known.get(config.digest):
            scores.setdefault(config.label, {})[config.seed] = record["result"]["top1"]
            records.append(record)
    return scores, records


def of_methods(study: str, results: Path, methods: Iterable[Method], base: Recipe) -> list[Config]:
    """Configurations of all results of these methods in a study, in whichever precision; seed by seed."""
    wanted = [(each.label, each.name, each.options, each.variant, each.recipe(base)) for each in methods]
    found = [Config.of(record["config"]) for record in runs.read(results, [study]).values()]
    kept = [each for each in found if _row(each, base.precision) in wanted]
    return sorted(kept, key=lambda each: each.seed)


def _row(config: Config, precision: str) -> tuple[str, str, Mapping[str, Any], str, Recipe]:
    return config.label, config.method, config.options, config.variant, replace(config.recipe, precision=precision)


def difference(scores: Scores, ours: str, theirs: str) -> Difference | None:
    """Over the seeds that both have."""
    common = sorted(scores.get(ours, {}).keys() & scores.get(theirs, {}).keys())
    return paired([scores[ours][s] for s in common], [scores[theirs][s] for s in common]) if common else None


def table(scores: Scores, records: Sequence[Record], against: str, chosen: Collection[str] = ()) -> str:
    """Mean of each method, and its paired difference from one of them: 95 % interval, and in standard errors.

    Where the runs recorded them: CPU seconds in place of those of the clock, and each term's share of the gradient.

    Args:
        scores, records: of a study.
        against: the row that the others are compared with.
        chosen: rows in bold.
    """
    results = {label: [r["result"] for r in records if r["config"]["label"] == label] for label in scores}
    every = [each for found in results.values() for each in found]
    seconds = "cpu_seconds" if all("cpu_seconds" in each for each in every) else "seconds"
    shared = any("shares" in each for each in every)
    head = ["method", "top-1, %", "seeds", f"minus {against} [95 %]", "in standard errors"]
    head += ["CPU s" if seconds == "cpu_seconds" else "s a run", *["% of the gradient"] * shared]
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    for label, each in scores.items():
        gap = None if label == against else difference(scores, label, against)
        name = f"**{label}**, chosen" if label in chosen else label
        cells = [name, mean_std(list(each.values())), len(each), gap or "", gap.errors if gap else ""]
        cells += [f"{median(found[seconds] for found in results[label]):.0f}", *[shares(results[label])] * shared]
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n".join(lines)


def shares(results: Sequence[Record]) -> str:
    """``ce 28; edge 0.3†``: each term's share of the gradient in %, mean over its moments and the seeds; † under 5."""
    found = [each["shares"] for each in results if "shares" in each]
    if not found or len(found[0]) == 1:
        return ""
    means = {term: 100 * mean(x for each in found for x in each[term]) for term in found[0]}
    return "; ".join(f"{term.partition('/')[2] or term} {_percent(share)}" for term, share in means.items())


def _percent(share: float) -> str:
    shown = f"{share:.0f}" if share >= 10 else f"{share:.1f}" if share >= 0.05 else "< 0.1"
    return shown + WEAK * (round(share, 1) < 5)


def pairs_table(scores: Scores, ours: Sequence[str], theirs: Sequence[str]) -> str:
    """Paired differences, ours that ran in rows, theirs in columns; bold where the interval lies above 0."""
    lines = ["| minus | " + " | ".join(theirs) + " |", "|---" * (len(theirs) + 1) + "|"]
    for label in (each for each in ours if each in scores):
        cells = [difference(scores, label, other) for other in theirs]
        lines.append(f"| {label} | " + " | ".join(_cell(cell) for cell in cells) + " |")
    return "\n".join(lines)


def verdicts(found: Mapping[str, Scores], against: str) -> str:
    """Changes of one method on several data sets, and whether the rule for defaults accepts each."""
    head = ["change", *[cell for name in found for cell in (f"{name} [95 %]", "in standard errors")], "by the rule"]
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    for label in next(iter(found.values())):
        gaps = [gap for each in found.values() if (gap := difference(each, label, against))]
        if label != against and len(gaps) == len(found):
            said = "a gain" if all(gap.beyond_two_errors for gap in gaps) else "none"
            cells = [label, *[cell for gap in gaps for cell in (str(gap), gap.errors)], said]
            lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _cell(gap: Difference | None) -> str:
    if gap is None:
        return ""
    return f"**{gap}**" if gap.above_zero else str(gap)


def hardware(records: Sequence[Record]) -> str:
    """On what the results were measured: one line for each combination of versions."""
    return "; ".join(sorted({", ".join(f"{k} {v}" for k, v in record["versions"].items()) for record in records}))


def in_order(scores: Scores, labels: Sequence[str]) -> Scores:
    """The same, methods in the order of the labels; those of other labels are left out."""
    return {label: scores[label] for label in labels if label in scores}


def picture(scores: Scores, path: Path, title: str) -> Path:
    """Every seed as a dot, the mean as a bar, sorted as in the table."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 0.42 * len(scores) + 1.2), layout="constrained")
    for row, each in enumerate(scores.values()):
        axes.plot(list(each.values()), [row] * len(each), "o", color="#3b6ea5", alpha=0.6)
        axes.plot([mean(each.values())] * 2, [row - 0.3, row + 0.3], color="#b3402e", linewidth=2.5)
    axes.set_yticks(range(len(scores)), list(scores))
    axes.invert_yaxis()
    axes.set_xlabel("top-1, %")
    axes.set_title(title)
    axes.grid(axis="x", alpha=0.3)
    return _saved(figure, path)


def curves(records: Sequence[Record], path: Path, title: str) -> Path:
    """Top-1 against CPU seconds of training, mean over the seeds, a line a method."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 4.2), layout="constrained")
    axes.set_prop_cycle(color=plt.get_cmap("tab20").colors)
    for label in dict.fromkeys(record["config"]["label"] for record in records):
        found = [r["result"]["curve"] for r in records if r["config"]["label"] == label and "curve" in r["result"]]
        if found:
            _, seconds, top1 = zip(*(map(mean, zip(*at, strict=True)) for at in zip(*found, strict=True)), strict=True)
            axes.plot(seconds, top1, "o-", markersize=3, linewidth=1.2, label=label)
    axes.set_xlabel("CPU seconds, scorings included")
    axes.set_ylabel("top-1, %")
    axes.set_title(title)
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small")
    return _saved(figure, path)


def _saved(figure: Any, path: Path) -> Path:
    """The same results, the same file."""
    from matplotlib import pyplot as plt

    with plt.rc_context({"svg.hashsalt": "graphkd"}):
        figure.savefig(path, metadata={"Date": None})
    plt.close(figure)
    return path
