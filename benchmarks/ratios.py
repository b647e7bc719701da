"""python -m benchmarks.ratios: what the fused forms are promised to gain, measured side by side in one run.

Speed: forms in turn, in pairs, medians. Memory: the peak above the inputs of a fresh process each. Large graphs: the
highest resident set of a whole process, and the exponent of time. Light: every distiller against its published form
written plainly, on one thread, with a bare ``autograd.Function`` beside them. ``--save`` keeps the rows.
"""

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from math import exp, log
from pathlib import Path
from statistics import median
from typing import Any

import torch

from benchmarks import machine
from benchmarks.case import Case, Shape, UnavailableError, cases, label
from benchmarks.check import errors
from benchmarks.forms import Runner
from benchmarks.memory import weighed
from benchmarks.results import Results, Row, rounded
from benchmarks.scaling import exponent
from benchmarks.timing import interleaved, ratios, sample

SMALL, PAIRS = (64, 128, 256), 60
BUDGET, LEAST = 5.0, 7  # seconds of a published form, and pairs at least, where it is slow
LARGE = (8192, 16384, 32768, 65536)


@dataclass(frozen=True)
class Claim:
    """A form against another: at least so many times faster, with at most that share of its extra memory."""

    case: str
    shape: Shape
    over: str
    faster: float
    memory: float | None = None
    value_error: float | None = None
    form: str = "blocked"


CLAIMS = (
    Claim("ega_sums", (4096, 512), "official", 15, 0.10, 1e-6),
    Claim("ega_sums", (4096, 512), "eager", 4),
    Claim("rkd_angle", (512, 512), "official", 20, 0.02),
    Claim("rkd_distance", (4096, 512), "official", 3, 0.25),
    Claim("unit_edge_sum", (4096, 512), "official", 3),
    Claim("unit_edge_sum", (8192, 256), "official", 8),
    Claim("edge_kl", (8192, 1000, 512), "official", 1.1, 0.25),
    Claim("dist_sums", (8192, 1000), "official", 2),
    Claim("edge_sum.channels", (64, 2048, 49), "official", 15),
)
ROOM = (("ega_sums", (256,)), ("unit_edge_sum", (256,)), ("edge_kl", (1000, 256)), ("knn", (256,)))
LINEAR = ("ega_sums", "unit_edge_sum")  # whose D x D path must grow like N
PLAIN = {64: 0.80, 256: 0.95, 1024: 0.95}  # samples: a distiller is at least so many times faster than its plain form
NARROW = {"combined": 256, "rkd": 256}  # whose plain form holds N^3 angles: samples at most
LIMIT_GIB, LIMIT_EXPONENT, LIMIT_SLOWER, LIMIT_MEAN = 4.0, 1.1, 0.95, 1.0


def speed(case: Case, shape: Shape, form: str, over: str, pairs: int) -> dict[str, float]:
    """Median ratio of the times of ``over`` and ``form``, taken in turn, with its quantiles."""
    runners = {name: Runner(case, shape, name) for name in (over, form)}
    for runner in runners.values():
        runner.tried()
    times = interleaved(runners, pairs)
    found = ratios(times[over], times[form])
    return {"faster": found.ms, "low": found.low, "high": found.high, "ms": median(times[form]), "pairs": pairs}


def claim(each: Claim, pairs: int) -> Row:
    """A claim measured: ``holds`` is the verdict."""
    case = cases()[each.case]
    row: Row = {"kind": "ratio", "case": each.case, "shape": label(each.shape), "form": each.form, "axis": each.over}
    try:
        value, gradient = errors(case, each.shape, each.form, False, "cpu", torch.float32)
        row |= {"value_error": value, "gradient_error": gradient}
        row |= speed(case, each.shape, each.form, each.over, pairs)
        peaks = {
            form: weighed(each.case, each.shape, form, threads=torch.get_num_threads()).peak_mib
            for form in (each.form, each.over)
        }
    except (UnavailableError, RuntimeError) as why:
        return row | {"why": str(why), "holds": None}
    row |= {"peak_mib": peaks[each.form], "memory": peaks[each.form] / peaks[each.over]}
    limits = {"asked_faster": each.faster, "asked_memory": each.memory, "asked_value_error": each.value_error}
    holds = row["faster"] >= each.faster and (each.memory is None or row["memory"] <= each.memory)
    return row | limits | {"holds": holds and (each.value_error is None or value <= each.value_error)}


def small(n: int, pairs: int = PAIRS) -> list[Row]:
    """Every operation at batches where papers train: ``auto`` over eager, and the geometric mean over operations."""
    found = []
    for case in cases("op").values():
        if case.name != case.operation:
            continue
        shape = (n, *case.shapes[0][1:])
        row: Row = {"kind": "small", "case": case.name, "shape": label(shape), "form": "auto", "axis": "eager"}
        try:
            row |= speed(case, shape, "auto", "eager", pairs)
            found.append(row | {"asked_faster": LIMIT_SLOWER, "holds": row["faster"] >= LIMIT_SLOWER})
        except UnavailableError as why:
            found.append(row | {"why": str(why), "holds": None})
    return [*found, _mean(found)]


def _mean(found: Sequence[Row]) -> Row:
    """The geometric mean of all that has a ratio."""
    rates = [row["faster"] for row in found if "faster" in row]
    mean = exp(sum(map(log, rates)) / len(rates))
    row = {"case": "geometric mean", "asked_faster": LIMIT_MEAN, "faster": mean, "holds": mean >= LIMIT_MEAN}
    return {key: found[0][key] for key in ("kind", "form", "axis")} | {"shape": found[0]["shape"].split("x")[0]} | row


def light(n: int, pairs: int = PAIRS) -> list[Row]:
    """Every distiller that has a published form, over it, and the geometric mean; one thread."""
    found, threads = list[Row](), torch.get_num_threads()
    torch.set_num_threads(1)
    for case in cases("method").values():
        if isinstance(case.official, str) or n > NARROW.get(case.name, n):
            continue
        row: Row = {"kind": "light", "case": case.name, "shape": label((n,)), "form": "auto", "axis": "official"}
        seconds = sample(Runner(case, (n,), "official"), 1) / 1e3
        rate = speed(case, (n,), "auto", "official", min(pairs, max(LEAST, int(BUDGET / seconds))))
        found.append(row | rate | {"asked_faster": PLAIN[n], "holds": rate["faster"] >= PLAIN[n]})
    torch.set_num_threads(threads)
    return [*found, _mean(found)]


class _Bare(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, x: torch.Tensor) -> torch.Tensor:
        return x.sum()

    @staticmethod
    def backward(context: Any, gradient: torch.Tensor) -> Any:  # type: ignore[override]
        return gradient.expand(2, 100)


def host(rounds: int = PAIRS) -> list[Row]:
    """Time of each distiller at two samples, where work is next to nothing, beside a bare function's."""
    x = torch.randn(2, 100, requires_grad=True)
    calls: dict[str, Any] = {"bare autograd.Function": lambda: torch.autograd.grad(_Bare.apply(x), x)}
    calls |= {case.name: Runner(case, (2,), "auto") for case in cases("method").values()}
    row = {"kind": "light", "shape": "2", "form": "auto", "axis": "nothing", "holds": None}
    return [row | {"case": name, "host_us": 1e3 * median(found)} for name, found in interleaved(calls, rounds).items()]


def large(name: str, rest: Shape, sizes: Sequence[int] = LARGE) -> Row:
    """A case on its ``blocked`` form up to 65,536 nodes: highest resident set of the process, exponent of time."""
    row: Row = {"kind": "large", "case": name, "shape": label((sizes[-1], *rest)), "form": "blocked", "axis": "N"}
    try:
        threads = torch.get_num_threads()
        found = [weighed(name, (n, *rest), "blocked", threads=threads, timeout=600, budget=1.0) for n in sizes]
    except (UnavailableError, RuntimeError) as why:
        return row | {"why": str(why), "holds": None}
    power = exponent(sizes, [each.ms for each in found])
    gib = max(each.high_mib for each in found) / 1024
    asked = {"asked_gib": LIMIT_GIB, "asked_exponent": LIMIT_EXPONENT if name in LINEAR else None}
    holds = gib <= LIMIT_GIB and (name not in LINEAR or (power is not None and power <= LIMIT_EXPONENT))
    row |= {"ms": found[-1].ms, "high_gib": gib, "peak_mib": found[-1].peak_mib, "exponent": power}
    return row | asked | {"holds": holds}


def line(row: Row) -> str:
    """A row in words: what was found, and what was asked for."""
    text = f"{row['case']:22}{row['shape']:>15}  {row['form']:>8} over {row['axis']:<9}"
    if "why" in row:
        return f"{text} not measured: {row['why']}"
    if "host_us" in row:
        return f"{text}{row['host_us']:9.0f} us of host time"
    if row["kind"] == "large":
        text += f"{row['high_gib']:6.2f} GiB (<= {row['asked_gib']:g})  {row['ms']:9.0f} ms  N^{row['exponent']:.2f}"
        text += f" (<= {row['asked_exponent']:g})" if row["asked_exponent"] else ""
    else:
        text += f"{row['faster']:7.2f}x (>= {row['asked_faster']:g})"
        if "memory" in row:
            asked = f" (<= {row['asked_memory']:.0%})" if row["asked_memory"] else ""
            text += f"  memory {row['memory']:.1%}{asked}  value off by {row['value_error']:.0e}"
    return f"{text}  {'holds' if row['holds'] else 'MISSED'}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; exit code 1 if something that could be measured was missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=("claims", "small", "light", "large"), help="one part; default all")
    parser.add_argument("--pairs", type=int, help="interleaved pairs (default 7 of a claim, 60 of small N and light)")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--save", action="store_true", help="keep the rows in benchmarks/results")
    parser.add_argument("--json", type=Path, help="write the rows here as well")
    given = parser.parse_args(arguments)
    torch.set_num_threads(given.threads)
    environment = machine.environment("cpu", given.threads)
    print(f"{environment['device']}, {given.threads} threads, torch {environment['versions']['torch']}, float32")
    results = Results.today(environment) if given.save else None
    many = given.pairs or PAIRS
    parts: dict[str, list[Callable[[], list[Row]]]] = {
        "claims": [lambda each=each: [claim(each, given.pairs or 7)] for each in CLAIMS],
        "small": [partial(small, n, many) for n in SMALL],
        "light": [*(partial(light, n, many) for n in PLAIN), partial(host, many)],
        "large": [lambda each=each: [large(*each)] for each in ROOM],
    }
    rows: list[dict[str, Any]] = []
    with ExitStack() as stack:
        if given.json:
            stack.callback(lambda: given.json.write_text(json.dumps([rounded(row) for row in rows], indent=1)))
        for part in [given.only] if given.only else parts:
            for measure in parts[part]:
                for row in measure():
                    print(line(row), flush=True)
                    rows.append(row)
                    if results:
                        results.add(row)
    missed = [row["case"] for row in rows if row["holds"] is False]
    print(f"{len(rows)} measured, {len(missed)} missed {', '.join(missed)}")
    return bool(missed)


if __name__ == "__main__":
    sys.exit(main())
