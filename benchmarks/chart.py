"""The chart of docs/performance.md: times faster and extra memory, a bar a method."""

from pathlib import Path
from typing import Any

from benchmarks.front import Bars, share

_INK, _SPEED, _ROOM = "#1f2430", "#3949ab", "#00897b"  # the colours of docs/img/graphkd.svg, on a white card as there
_STYLE = {"svg.hashsalt": "graphkd", "svg.fonttype": "none", "font.family": "sans-serif", "font.size": 11}


def draw(bars: Bars, path: Path) -> None:
    """Write the SVG; the same bars give the same file."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    names = [f"{each.method}\n{each.what}" for each, _ in bars]
    speeds, rooms = ([row[name] for _, row in bars] for name in ("faster", "memory"))
    with mpl.rc_context(_STYLE | dict.fromkeys(("text.color", "xtick.color", "ytick.color"), _INK)):
        figure = Figure(figsize=(9.6, 3.4), facecolor="white", layout="tight")
        left, right = figure.subplots(1, 2, sharey=True, width_ratios=(3, 2))
        _bars(left, names, speeds, [f"{each:.3g}x" for each in speeds], _SPEED, "times faster than the published form")
        _bars(right, names, rooms, [share(each) for each in rooms], _ROOM, "extra memory beside it")
        left.invert_yaxis()
        figure.savefig(path, format="svg", metadata={"Date": None})


def _bars(axes: Any, names: list[str], values: list[float], texts: list[str], color: str, title: str) -> None:
    axes.bar_label(axes.barh(names, values, color=color, height=0.6), texts, padding=4)
    axes.set_title(title, loc="left", fontsize=11)
    axes.set_xlim(0, 1.2 * max(values))
    axes.set_xticks([])
    axes.tick_params(length=0)
    axes.spines[["top", "right", "bottom", "left"]].set_visible(False)
