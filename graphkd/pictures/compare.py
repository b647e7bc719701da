"""Several runs side by side: the options that differ, their latest scores, and their curves on one page."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from graphkd.errors import MissingFeatureError, OptionError
from graphkd.files import local_path, write_file
from graphkd.pictures.canvas import COLOURS, canvas, drawn, label
from graphkd.pictures.curves import over_epochs
from graphkd.pictures.facts import Facts
from graphkd.pictures.gallery import Section
from graphkd.pictures.html import render
from graphkd.training.checkpoint import leaves

SCORES: Final = {  # by their names in metrics.jsonl; percent
    "top1": "top-1 (%)",
    "top5": "top-5 (%)",
    "mean_class": "mean of classes (%)",
    "calibration_error": "calibration error (%)",
    "agreement": "agreement with the teacher (%)",
}
_DRAWN = ("top1", "agreement")
_ITS_OWN = ("run", "command")  # options that differ between any two runs
_IMAGES = ("data", "classes", "split", "val", "held_out")
_DASHES = ("-", "--", ":", "-.")


@dataclass(frozen=True)
class Comparison:
    """Runs side by side; every list has one entry a run.

    Args:
        runs: names of the runs.
        options: those that differ, by name; ``None`` where a run does not have one.
        versions: of the libraries, those that differ.
        scores: the latest, as fractions, by their names in ``metrics.jsonl``; ``None`` where there is none.
        epochs, updates: done.
        lines: of each ``metrics.jsonl``.
    """

    runs: list[str]
    options: dict[str, list[Any]]
    versions: dict[str, list[Any]]
    scores: dict[str, list[float | None]]
    epochs: list[float]
    updates: list[int]
    lines: list[Sequence[Mapping[str, Any]]]

    @property
    def note(self) -> str:
        """What forbids to compare the scores, or ``""``."""
        other = [name for name in _IMAGES if name in self.options]
        told = f"the runs differ in {', '.join(other)}, so their scores are of other images"
        return told if other and self.scores else ""

    def to_json(self) -> dict[str, Any]:
        """All but the curves, JSON-ready."""
        names = ("runs", "options", "versions", "scores", "epochs", "updates", "note")
        return {name: getattr(self, name) for name in names}


def compare_runs(runs: Sequence[Path | str]) -> Comparison:
    """Read several run folders, finished or not.

    Args:
        runs: the folders, two or more.

    Raises: OptionError for fewer, or for the same one twice; CheckpointError for a damaged one.
    Example: ``compare_runs(["runs/photos-1", "runs/photos-2"]).options`` is ``{"lr": [0.001, 0.0003]}``
    """
    paths = [local_path(run) for run in runs]
    if len({path.resolve() for path in paths}) < max(2, len(paths)):
        raise OptionError(f"a comparison needs two different runs or more, found {', '.join(map(str, paths))}")
    found = [Facts.read(path) for path in paths]
    last: list[Mapping[str, Any]] = [each.lines[-1] if each.lines else {} for each in found]
    scores = {name: [_latest(each.lines, name) for each in found] for name in SCORES}
    return Comparison(
        runs=[str(path) for path in paths],
        options=_differing([{k: v for k, v in each.options.items() if k not in _ITS_OWN} for each in found]),
        versions=_differing([each.environment.get("versions") or {} for each in found]),
        scores={name: values for name, values in scores.items() if any(value is not None for value in values)},
        epochs=[float(line.get("epoch", 0)) for line in last],
        updates=[int(line.get("update", 0)) for line in last],
        lines=[each.lines for each in found],
    )


@drawn
def draw_compared_curves(runs: Mapping[str, Sequence[Mapping[str, Any]]]) -> Any:
    """The total loss and the scores of several runs over their epochs.

    Args:
        runs: the lines of each ``metrics.jsonl`` by the run's name.

    Returns: a ``matplotlib.figure.Figure``.
    Raises: MissingFeatureError where no run has a reading yet.
    Example: ``draw_compared_curves({"one": read_metrics(run / "metrics.jsonl")})``
    """
    there = [name for name in ("loss", *_DRAWN) if any(name in line for lines in runs.values() for line in lines)]
    if not there:
        raise MissingFeatureError("no loss was read yet: the runs ended before log_every updates were made")
    figure, axes = canvas(5 * len(there), 3.8 + 0.2 * len(runs), 1, len(there))
    for axis, name in zip(axes, there, strict=True):
        scale = 100 if name in SCORES else 1
        for number, (run, lines) in enumerate(runs.items()):
            known = [line for line in lines if name in line]
            style = {"color": COLOURS[number % len(COLOURS)], "linestyle": _DASHES[number // len(COLOURS) % 4]}
            at, values = [line["epoch"] for line in known], [scale * line[name] for line in known]
            axis.plot(at, values, marker="o" if len(known) < 30 else None, markersize=3, label=label(run, 40), **style)
        axis.set(title=SCORES.get(name, "Training loss, by each run's own method"))
        over_epochs(axis)
    handles, names = axes[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=min(3, len(names)), fontsize=9)
    return figure


def write_comparison(found: Comparison, path: Path | str) -> Path:
    """Write one self-contained page: scores, options that differ, curves.

    Args:
        found: of :func:`compare_runs`.
        path: of the page.

    Returns: the path.
    Raises: FileError where it cannot be written.
    Example: ``write_comparison(compare_runs(runs), "runs/comparison.html")``
    """
    path, curves = local_path(path), Section("curves", "Losses can be compared between runs of one method only.")
    by_name = dict(zip(found.runs, found.lines, strict=True))
    curves.add("curves", "Loss and scores over the epochs", lambda: draw_compared_curves(by_name))
    tables = [("Scores", rows_of_scores(found)), ("Options that differ", rows_of_options(found))]
    title = f"{len(found.runs)} runs compared"
    page = render("comparison.html", title=title, runs=found.runs, note=found.note, tables=tables, curves=curves)
    write_file(path, page)
    return path


def rows_of_scores(found: Comparison) -> list[tuple[str, list[str]]]:
    """What the runs reached, a name and a cell a run each."""
    rows = [(SCORES[name], [_percent(value) for value in values]) for name, values in found.scores.items()]
    rows.append(("epochs", [f"{value:g}" for value in found.epochs]))
    rows.append(("updates", [str(value) for value in found.updates]))
    return rows


def rows_of_options(found: Comparison) -> list[tuple[str, list[str]]]:
    """Where the runs differ, likewise."""
    rows = {**found.options, **{f"version of {name}": values for name, values in found.versions.items()}}
    return [(name, ["-" if value is None else str(value) for value in values]) for name, values in rows.items()]


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.2f}"


def _latest(lines: Sequence[Mapping[str, Any]], name: str) -> float | None:
    known = [line[name] for line in lines if line.get(name) is not None]
    return float(known[-1]) if known else None


def _differing(each: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """Values by their path in nested options, where they are not all the same."""
    flat = [dict(leaves(options)) for options in each]
    names = dict.fromkeys(name for options in flat for name in options)
    found = {name: [options.get(name) for options in flat] for name in names}
    return {name: values for name, values in found.items() if any(value != values[0] for value in values)}
