"""Results as Markdown: one function for each table of docs/performance-tables.md, from rows of one environment."""

from collections.abc import Iterable, Sequence
from typing import Any

from graphkd_kernels.targets import TARGETS

from benchmarks.case import cases, label
from benchmarks.gpu import NAMED, reached
from benchmarks.machine import floor_ms
from benchmarks.results import Row, find

Made = dict[str, Any]
NONE = "-"
COLUMNS = ("eager", "official", "compile", "blocked", "triton")


def markdown(head: Sequence[str], rows: Iterable[Sequence[object]], left: int = 1) -> str:
    """A table; the first ``left`` columns are text."""
    rule = ["---"] * left + ["--:"] * (len(head) - left)
    return "\n".join(f"| {' | '.join(map(str, each))} |" for each in (head, rule, *rows))


def number(value: float | None, digits: int = 3) -> str:
    """Three digits, without an exponent; a dash for nothing."""
    if value is None or value != value:
        return NONE
    if value >= 10 ** (digits - 1):
        return f"{value:,.0f}"
    return f"{value:.{digits}g}" if value >= 1e-3 else f"{value:.0e}"


def head(made: Made) -> str:
    """What the numbers were measured on."""
    e = made["environment"]
    versions = ", ".join(f"{name} {version}" for name, version in e["versions"].items())
    limits = e["roofline"]
    rates = ", ".join(f"{limits[k]:.3g} TFLOP/s ({k[8:]})" for k in limits if k.startswith("tflop"))
    text = (
        f"**{e['device']}**, {e['cores']} cores, {e['threads']} threads, {e['memory_gib']} GiB, {e['system']}; "
        f"Python {e['python']}, {versions}; library `{e['library']}`, commit `{e['commit']}`, {e['date']}. "
        f"Largest product here: {rates}; copy: {limits['gb_s']:.3g} GB/s."
    )
    if is_busy(e):
        text += (
            f"\n\n!!! warning\n    The machine had other work (load {e['load']:g} at the start): "
            "times scatter, ratios within a run are nearer to the truth."
        )
    return text


def is_busy(environment: dict[str, Any]) -> bool:
    """Whether the processor did something else when the measurement began."""
    return bool(environment["kind"] == "cpu" and environment["load"] > 0.5)


def largest(rows: Sequence[Row], kind: str) -> list[tuple[str, str]]:
    """(case, shape) of each case at its largest shape with an eager time."""
    found = dict[str, str]()
    for name, case in cases(kind).items():
        for shape in (*case.shapes, *case.long):
            if find(rows, kind=kind, case=name, shape=label(shape), form="eager"):
                found[name] = label(shape)
    return list(found.items())


def speed(made: Made, kind: str) -> str:
    """Milliseconds of forward and gradient, and the ratio to eager."""
    rows, lines = made["rows"], []
    columns = [form for form in COLUMNS if form != "compile" or kind == "op"]
    for case, shape in largest(rows, kind):
        lines.append([f"`{case}`", shape, *(_time(rows, kind, case, shape, form) for form in columns)])
    return markdown(["", "shape", *columns], lines, 2)


def _time(rows: Sequence[Row], kind: str, case: str, shape: str, form: str) -> str:
    found = find(rows, kind=kind, case=case, shape=shape, form=form)
    note = ""
    if form == "compile" and not found:  # compiled at one size only
        found = find(rows, kind=kind, case=case, form=form)
        note = f" at {found[0]['shape']}" if found else ""
    if not found or "ms" not in found[0]:
        return NONE
    ratio = found[0].get("over_eager")
    return f"{number(found[0]['ms'])}{note}" + (f" ({ratio:.2g}x)" if ratio and form != "eager" else "")


def memory(made: Made, kind: str) -> str:
    """Peak MiB above the inputs."""
    rows, lines = made["rows"], []
    for case, shape in largest(rows, kind):
        cells = [find(rows, kind=kind, case=case, shape=shape, form=form) for form in COLUMNS if form != "compile"]
        lines.append([f"`{case}`", shape, *(number(each[0].get("peak_mib")) if each else NONE for each in cells)])
    return markdown(["", "shape", *(form for form in COLUMNS if form != "compile")], lines, 2)


def accuracy(made: Made) -> str:
    """Largest relative error against float64, and share of the predicted floor, by the best limits that were seen."""
    rows, limits, lines = made["rows"], made["environment"]["roofline"], []
    for case, shape in largest(rows, "op"):
        for form in ("eager", "official", "blocked", "triton"):
            for row in find(rows, kind="op", case=case, shape=shape, form=form):
                if "ms" in row:
                    names = ("value_error", "gradient_error", "near_value_error", "near_gradient_error")
                    errors = [f"{row[name]:.0e}" if name in row else NONE for name in names]
                    share = NONE
                    if "flops" in row:
                        share = f"{floor_ms(row['flops'], row['bytes'], limits, row['dtype']) / row['ms']:.0%}"
                    lines.append([f"`{case}`", shape, form, *errors, share, number(row.get("tflop_s"))])
    return markdown(
        ["", "shape", "form", "value", "gradient", "value, near", "gradient, near", "of floor", "TFLOP/s"], lines, 3
    )


def peers(made: Made) -> str:
    """Other libraries beside ours on the same work."""
    lines = []
    for case in cases().values():
        for peer in case.peers:
            for row in find(made["rows"], case=case.name, form=peer):
                ours = [
                    each["ms"]
                    for form in ("eager", "blocked", "triton")
                    for each in find(made["rows"], case=case.name, shape=row["shape"], form=form)
                    if "ms" in each
                ]
                cell = number(row["ms"]) if "ms" in row else row["why"]
                times = f"{row['ms'] / min(ours):.2g}x" if ours and "ms" in row else NONE
                lines.append([f"`{case.name}`", row["shape"], peer, cell, number(min(ours, default=None)), times])
    return markdown(["", "shape", "library", "its ms", "our best ms", "ours is faster"], lines, 3)


def reasons(made: Made) -> str:
    """Every cell without a number, grouped by what it says."""
    groups = dict[str, list[str]]()
    for row in made["rows"]:
        if "why" in row and row["kind"] in ("op", "method"):
            groups.setdefault(row["why"], []).append(f"`{row['case']}` {row['form']}")
    return "\n".join(f"- {why}: {', '.join(dict.fromkeys(names))}." for why, names in groups.items())


def ratios(made: Made) -> str:
    """The promised ratios: found, asked, and whether they hold."""
    lines = []
    for row in [each for kind in ("ratio", "small", "light", "large") for each in find(made["rows"], kind=kind)]:
        name = [f"`{row['case']}`", row["shape"], f"{row['form']} over {row['axis']}"]
        if "why" in row:
            lines.append([*name, row["why"], "", "", ""])
            continue
        speed, room = "", ""
        if "host_us" in row:
            speed = f"{row['host_us']:.0f} µs"
        if "faster" in row:
            speed = f"{row['faster']:.3g}x (≥ {row['asked_faster']:g})"
        if "memory" in row:
            room = f"{row['memory']:.1%}" + (f" (≤ {row['asked_memory']:.0%})" if row["asked_memory"] else "")
        if "high_gib" in row:
            speed = f"N^{row['exponent']:.2f}" + (f" (≤ {row['asked_exponent']:g})" if row["asked_exponent"] else "")
            room = f"{row['high_gib']:.2f} GiB in all (≤ {row['asked_gib']:g})"
        error = f"{row['value_error']:.0e}" if "value_error" in row else ""
        lines.append([*name, speed, room, error, {True: "yes", False: "**no**", None: ""}[row["holds"]]])
    return markdown(["", "shape", "", "time", "memory", "value error", "holds"], lines, 3)


def scaling(made: Made) -> str:
    """Fitted exponents, the largest point, and what stopped the sweep."""
    lines = []
    for row in find(made["rows"], kind="scaling"):
        if not row["points"]:
            continue
        last = row["points"][-1]
        powers = [number(row[f"{what}_exponent"], 3) for what in ("time", "memory")]
        point = f"{row['axis']} = {last['size']:,}: {number(last['ms'])} ms, {number(last['peak_mib'])} MiB"
        lines.append([f"`{row['case']}`", row["shape"], row["form"], *powers, point, row.get("stopped", "")])
    return markdown(["", "shape", "form", "time ~", "memory ~", "largest measured", "next"], lines, 3)


def steps(made: Made) -> str:
    """Training steps: share of the loss, ratio to a step without distillation, images per second."""
    lines = []
    for row in find(made["rows"], kind="step"):
        for name in ("prg", "ega"):
            lines.append([
                row["shape"], name.upper(), number(row["plain_ms"]), number(row[f"{name}_ms"]),
                number(row[f"{name}_loss_ms"]), f"{row[f'{name}_share']:.1%}", f"{row[f'{name}_over_plain']:.3f}",
            ])  # fmt: skip
    step = markdown(["batch", "", "plain ms", "distilled ms", "of it loss ms", "share", "distilled / plain"], lines, 2)
    rates = [
        [row["shape"], *(number(row[f"{name}_images_s"]) for name in ("plain", "stored", "live"))]
        for row in find(made["rows"], kind="step")
    ]
    return f"{step}\n\n{markdown(['batch', 'no distillation, images/s', 'stored teacher', 'live teacher'], rates)}"


def start(made: Made) -> str:
    """Milliseconds to start."""
    words = {
        "python": "a bare interpreter", "torch": "`import torch`", "import": "`import graphkd`",
        "import_prg": "`from graphkd import PRGDistiller`", "first_step": "to the end of a first PRG step",
    }  # fmt: skip
    rows = find(made["rows"], kind="start")
    return markdown(
        ["from nothing", "ms"], [[words[name], number(row[f"{name}_ms"])] for row in rows for name in words]
    )


def targets(made: Made | None) -> str:
    """Floors and targets on one H200, beside what was measured; predictions where nothing was."""
    lines = []
    for each in TARGETS:
        cells, share = [], ""
        for form in ("triton", "eager", "compile"):
            place = {"kind": "target", "case": each.case, "shape": label(each.shape), "dtype": each.dtype, "form": form}
            found = find(made["rows"], **place) if made else []
            cells.append(_micro(found[0]) if found else NONE)
            if form == "triton" and found and "ms" in found[0]:
                share = f"{reached(found[0], each):.2f}"
                share = f"**{share}**" if float(share.strip("*")) < NAMED else share
        name = [f"`{each.case}`", label(each.shape), each.dtype, each.bound]
        lines.append([*name, f"{each.floor:g}", f"{each.target:g}", *cells, share or "predicted"])
    columns = ["", "shape", "inputs", "bound", "floor", "target", "fused", "eager", "compiled", "of target"]
    return markdown(columns, lines, 4)


def _micro(row: Row) -> str:
    if "ms" not in row:
        return str(row["why"])
    graph = f" ({number(1e3 * row['graph_ms'])} in a graph)" if "graph_ms" in row else ""
    return f"{number(1e3 * row['ms'])}{graph}, {number(row.get('peak_mib'))} MiB"
