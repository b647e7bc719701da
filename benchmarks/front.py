"""docs/performance.md: what the tables of one device come to, for somebody who has a minute."""

from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.results import Row, find
from benchmarks.tables import Made, is_busy, markdown, number

_SLOWER, _BATCH = 1.05, "256"  # by more than a clock's noise; samples
_FAST_GROWTH = 1.5  # exponent


@dataclass(frozen=True)
class Headline:
    """One bar: a method, and the ratio row that it stands for."""

    method: str
    case: str
    shape: str
    what: str


HEADLINES = (
    Headline("CRG", "edge_sum.channels", "64x2048x49", "edges of 2,048 channels, 64 images"),
    Headline("RKD", "rkd_angle", "512x512", "angles of 512 samples"),
    Headline("EGA", "ega_sums", "4096x512", "edges and nodes of 4,096 samples"),
    Headline("SP", "unit_edge_sum", "8192x256", "edges of 8,192 samples"),
    Headline("DIST", "dist_sums", "8192x1000", "correlations, 8,192 samples, 1,000 classes"),
)
_LARGE = {"ega_sums": "EGA", "unit_edge_sum": "SP", "edge_kl": "edges to 1,000 class proxies, KL", "knn": "kNN graph"}
Bars = Sequence[tuple[Headline, Row]]


def headlines(made: Made) -> Bars:
    """The bars that were measured, the longest first."""
    found = []
    for each in HEADLINES:
        place = {"kind": "ratio", "case": each.case, "shape": each.shape, "form": "blocked", "axis": "official"}
        found += [(each, row) for row in find(made["rows"], **place) if "faster" in row]
    return sorted(found, key=lambda bar: -bar[1]["faster"])


def lead(made: Made, chart: str) -> str:
    """Three sentences, the chart, and its numbers."""
    bars, e = headlines(made), made["environment"]
    rates, rooms = ([row[name] for _, row in bars] for name in ("faster", "memory"))
    busy = ", which had other work" if is_busy(e) else ""
    said = [f"{each.method} {row['faster']:.3g} times faster" for each, row in bars]
    lines = [
        [
            each.method,
            each.what,
            f"{row['faster']:.3g}x",
            f"{row['low']:.3g} to {row['high']:.3g}",
            share(row["memory"]),
        ]
        for each, row in bars
    ]
    return f"""\
The term of a method that relates many samples or channels runs {min(rates):.2g} to {max(rates):.0f} times faster
than in its published form, with {share(min(rooms))} to {share(max(rooms))} of that form's extra memory. In a step of an
ordinary batch the loss is a small share of the time: you gain larger graphs rather than faster steps. Measured on
{e["threads"]} threads of {e["device"]}{busy}, in float32, value and gradient; figures of GPUs are predictions.

![{"; ".join(said)}]({chart})

{markdown(["", "", "times faster", "20 % to 80 % of the pairs", "extra memory, of the published form's"], lines, 2)}"""


def training(made: Made) -> str:
    """Share of the loss in a step, and what a stored teacher saves."""
    steps, lines = find(made["rows"], kind="step"), []
    if not steps:
        return ""
    for row in steps:
        for name in ("prg", "ega"):
            numbers = [number(row[f"{name}_{part}"]) for part in ("ms", "loss_ms")]
            lines.append([row["shape"], name.upper(), *numbers, share(row[f"{name}_share"])])
    first = steps[0]
    stored, live = (number(first[f"{name}_images_s"]) for name in ("stored", "live"))
    return f"""\
ResNet-18 on images of 32 x 32, 100 classes, the teacher's answers from a store. Loss is all that distillation adds:
reading the store, products with the texts of 18 prompts, loss, and gradient of the features.

{markdown(["batch", "", "step, ms", "of it loss, ms", "share"], lines, 2)}

The teacher matters more than the loss: at batch {first["shape"]} the student learns from {stored} images a second with
a stored teacher, and from {live} with a live ResNet-50 at 224 x 224."""


def drawbacks(made: Made) -> str:
    """Where the published form is faster, and what grows fast."""
    rows, lines, parts = made["rows"], [], []
    for row in find(rows, kind="method", form="official", shape=_BATCH):
        forms = [find(rows, kind="method", form=form, case=row["case"], shape=_BATCH) for form in ("eager", "blocked")]
        ours = min((each["ms"] for found in forms for each in found if "ms" in each), default=0.0)
        if "ms" in row and ours > _SLOWER * row["ms"]:
            lines.append([f"`{row['case']}`", number(row["ms"]), number(ours)])
    if lines:
        text = f"**Light losses.** At {_BATCH} samples these take longer than their published form, written plainly:"
        parts.append(f"{text}\n\n{markdown(['', 'published form, ms', 'here, ms'], lines)}")
    means = [f"{row['faster']:.2f} at {row['shape']}" for row in find(rows, kind="small", case="geometric mean")]
    if means:
        text = "**Small graphs.** `auto` gains little there. It is faster than `eager` by a factor of"
        parts.append(f"{text} {', '.join(means)} samples, the geometric mean over all operations.")
    for row in find(rows, kind="large"):
        if row.get("exponent", 0.0) > _FAST_GROWTH:
            name = _LARGE.get(row["case"], row["case"])
            parts.append(
                f"**Fast growth.** The time of a {name} grows as N^{row['exponent']:.1f}; its memory does not."
            )
    return "\n\n".join(parts)


def growth(made: Made) -> str:
    """The largest graphs, and the exponents on the way there."""
    lines = []
    for row in find(made["rows"], kind="large"):
        if "exponent" not in row:
            continue
        n, *rest = map(int, row["shape"].split("x"))
        matrix = 4 * n * (rest[0] if len(rest) > 1 else n) / 2**30
        numbers = [number(row["ms"] / 1e3), f"{row['high_gib']:.2f}", f"{matrix:.2g}", f"N^{row['exponent']:.2f}"]
        lines.append([_LARGE.get(row["case"], row["case"]), row["shape"], *numbers])
    if not lines:
        return ""
    head = ["", "shape", "seconds", "whole process, GiB", "one matrix of edges, GiB", "time grows as"]
    return f"Forward and gradient of the blocked form. The matrix of edges is never made:\n\n{markdown(head, lines, 2)}"


def share(value: float) -> str:
    """Two digits, in percent."""
    return f"{100 * value:.2g} %"
