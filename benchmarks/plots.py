"""Pictures of results: speed-ups, memory, growth and roofline, each with the machine and versions written on it."""

from collections.abc import Sequence
from math import log10
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import NullFormatter

from benchmarks.results import Row, find
from benchmarks.tables import Made, largest

COLOURS = {
    "eager": "#7f7f7f", "official": "#d55e00", "compile": "#cc79a7", "blocked": "#0072b2", "triton": "#009e73",
}  # fmt: skip
LEADER = {"arrowstyle": "-", "color": "#999999", "linewidth": 0.5, "shrinkA": 0, "shrinkB": 2}
STYLE: dict[Any, Any] = {"svg.fonttype": "none", "svg.hashsalt": "graphkd", "font.size": 9, "axes.spines.top": False,
         "axes.spines.right": False, "axes.grid": True, "grid.alpha": 0.3, "axes.axisbelow": True,
         "legend.frameon": False}  # fmt: skip


def stamp(made: Made) -> str:
    """The line under a picture."""
    e = made["environment"]
    return (
        f"{e['device']}, {e['cores']} cores, {e['threads']} threads, torch {e['versions']['torch']}, float32, "
        f"forward + gradient; library {e['library']}, {e['date'][:10]}"
    )


def bars(made: Made, field: str, title: str, axis: str, forms: Sequence[str], base: float) -> Figure | None:
    """A group of bars for each operation at its largest shape, logarithmic, from ``base`` on; in two columns."""
    rows, places = made["rows"], largest(made["rows"], "op")
    forms = [form for form in forms if any(_field(rows, *place, form, field) for place in places)]
    found = {place: [_field(rows, *place, form, field) for form in forms] for place in places}
    found = {place: values for place, values in found.items() if any(values)}
    if not found:
        return None
    half = -(-len(found) // 2)
    figure, axes = plt.subplots(1, 2, figsize=(11, 1.3 + 0.11 * half * (len(forms) + 1)), sharex=True)
    height = 0.85 / len(forms)
    for ax, places in zip(axes, (list(found)[:half], list(found)[half:]), strict=True):
        for i, form in enumerate(forms):
            drawn = [(k, found[place][i]) for k, place in enumerate(places) if found[place][i]]
            at = [k + (i - (len(forms) - 1) / 2) * height for k, _ in drawn]
            ax.barh(at, [value - base for _, value in drawn], height, left=base, color=COLOURS[form])
        ax.set_yticks(range(len(places)), [f"{case}  {shape}" for case, shape in places], fontsize=7)
        ax.set(xscale="log", xlabel=axis, ylim=(half - 0.4, -0.6))
        ax.axvline(base, color="black", linewidth=0.8)
    figure.suptitle(title, y=0.995)
    handles = [Patch(color=COLOURS[form], label=form) for form in forms]
    figure.legend(handles=handles, loc="upper center", ncols=len(forms), bbox_to_anchor=(0.5, 0.97))
    return _finished(figure, made, top=0.94)


def _field(rows: Sequence[Row], case: str, shape: str, form: str, field: str) -> float | None:
    found = find(rows, kind="op", case=case, shape=shape, form=form) or (
        find(rows, kind="op", case=case, form=form) if form == "compile" else []
    )
    return found[0].get(field) if found else None


def growth(made: Made) -> Figure | None:
    """Time and memory over size, a column for each sweep that has points."""
    sweeps = find(made["rows"], kind="scaling")
    names = list(dict.fromkeys((r["case"], r["axis"], r["shape"]) for r in sweeps if len(r["points"]) > 1))
    if not names:
        return None
    columns = min(4, len(names))
    blocks = -(-len(names) // columns)
    figure, axes = plt.subplots(2 * blocks, columns, figsize=(2.7 * columns, 4.4 * blocks), squeeze=False)
    for ax in axes.flat[: 2 * blocks * columns]:
        ax.set_visible(False)
    for i, name in enumerate(names):
        pair = [axes[2 * (i // columns) + k][i % columns] for k in range(2)]
        _lines(pair, [r for r in sweeps if (r["case"], r["axis"], r["shape"]) == name])
        pair[0].set_title(f"{name[0]}\n{name[2]}")
        pair[1].set_xlabel(name[1])
        if i % columns == 0:
            pair[0].set_ylabel("ms")
            pair[1].set_ylabel("extra MiB")
    handles = [Line2D([], [], color=colour, marker="o", label=form) for form, colour in COLOURS.items()]
    used = {row["form"] for row in sweeps}
    figure.legend(handles=[h for h in handles if h.get_label() in used], loc="upper center", ncols=len(used))
    return _finished(figure, made, top=0.97)


def _lines(pair: Sequence[Axes], rows: Sequence[Row]) -> None:
    for ax, field, least in ((pair[0], "ms", 0.0), (pair[1], "peak_mib", 0.5)):
        ax.set_visible(True)
        ax.set(xscale="log", yscale="log")
        for axis in (ax.xaxis, ax.yaxis):
            axis.set_minor_formatter(NullFormatter())
        for i, row in enumerate(rows):
            points = [(p["size"], p[field]) for p in row["points"] if p[field] > least]
            colour, power = COLOURS[row["form"]], row["time_exponent" if field == "ms" else "memory_exponent"]
            if points:
                ax.plot(*zip(*points, strict=True), color=colour, marker="o", markersize=3)
            if power is not None:
                text = f"{row['axis']}^{power:.2f}"
                ax.text(0.03, 0.99 - 0.1 * i, text, color=colour, fontsize=7, va="top", transform=ax.transAxes)


def roofline(made: Made) -> Figure | None:
    """Rates over intensity, both by the work of the cheapest form known, under this machine's two limits."""
    rows = [r for r in find(made["rows"], kind="op") if "tflop_s" in r and r["form"] in ("eager", "blocked", "triton")]
    chosen = set(largest(made["rows"], "op"))
    rows = [row for row in rows if (row["case"], row["shape"]) in chosen]
    if not rows:
        return None
    figure, (ax, key) = plt.subplots(1, 2, figsize=(9.5, 5.5), width_ratios=(4, 1))
    limits = made["environment"]["roofline"]
    top, slope = limits["tflop_s_float32"], limits["gb_s"] / 1e3
    xs = [0.05, top / slope, 3000]
    ax.plot(xs, [min(top, slope * x) for x in xs], color="black", linewidth=1)
    numbers = {case: i + 1 for i, case in enumerate(dict.fromkeys(row["case"] for row in rows))}
    best = {case: max(r["tflop_s"] for r in rows if r["case"] == case) for case in numbers}
    taken = list[tuple[float, float]]()
    for row in sorted(rows, key=lambda r: r["tflop_s"]):
        x, y = row["flops"] / row["bytes"], row["tflop_s"]
        ax.plot(x, y, "o", color=COLOURS[row["form"]], markersize=4)
        if y == best[row["case"]]:
            place = _free(log10(x), log10(y), taken)
            ax.annotate(str(numbers[row["case"]]), (x, y), (1.08 * x, 10**place), fontsize=7, arrowprops=LEADER)
    key.axis("off")
    key.text(0, 1, "\n".join(f"{number:2d}  {case}" for case, number in numbers.items()), fontsize=7, va="top")
    forms = dict.fromkeys(row["form"] for row in rows)
    ax.legend(handles=[Line2D([], [], marker="o", ls="", color=COLOURS[f], label=f) for f in forms], loc="lower right")
    ax.set(xscale="log", yscale="log", xlabel="FLOP per byte of the cheapest form", ylabel="TFLOP/s of useful work")
    ax.set_title("Roofline: useful work per second against this machine's limits")
    return _finished(figure, made)


def _free(x: float, y: float, taken: list[tuple[float, float]]) -> float:
    """The lowest height from y on, in decades, where a label at x covers no other."""
    while any(abs(x - a) < 0.13 and abs(y - b) < 0.06 for a, b in taken):
        y += 0.02
    taken.append((x, y))
    return y


def _finished(figure: Figure, made: Made, top: float = 1.0) -> Figure:
    figure.text(0.5, 0.004, stamp(made), ha="center", va="bottom", fontsize=7)
    figure.tight_layout(rect=(0, 0.02, 1, top))
    return figure


def draw(made: Made, folder: Path, name: str, kind: str = "svg") -> list[tuple[str, str]]:
    """Write all pictures there are rows for; (what it shows, file name) of each."""
    forms = ("official", "compile", "blocked", "triton")
    pictures: list[tuple[str, str, Any]] = [
        ("Speed-up over the eager reference", "speed", lambda: bars(
            made, "over_eager", "Speed-up over the eager reference", "times faster than eager", forms, 1.0)),
        ("Peak extra memory", "memory", lambda: bars(
            made, "peak_mib", "Peak memory above the inputs", "MiB", ("eager", "official", "blocked", "triton"), 0.05)),
        ("Growth of time and memory", "scaling", lambda: growth(made)),
        ("Roofline", "roofline", lambda: roofline(made)),
    ]  # fmt: skip
    written = []
    folder.mkdir(parents=True, exist_ok=True)
    with plt.rc_context(STYLE):
        for title, what, make in pictures:
            figure = make()
            if figure is not None:
                path = folder / f"{name}-{what}.{kind}"
                metadata = {"Date": None} if kind == "svg" else {}
                figure.savefig(path, metadata=metadata, dpi=130)
                plt.close(figure)
                written.append((title, path.name))
    return written
