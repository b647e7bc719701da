"""What the benchmarks share: fixed threads, the file of results, and the measuring of one cell.

``pytest benchmarks --benchmark-only`` measures every operation and every distiller; ``-m quick`` the short sizes in a
quarter of the time each, ``-m slow`` the long ones. Every row is printed and kept as it comes. Forms of one (operation,
shape, dtype, device) are a group; see ``benchmarks/case.py``.
"""

import os
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch

os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", "1")  # no pool of compilers beside what is measured

from benchmarks import machine
from benchmarks.case import FORMS, Case, Shape, UnavailableError, cases, label
from benchmarks.cell import key, measure
from benchmarks.check import WrongResultError
from benchmarks.results import FOLDER, Results, told
from benchmarks.timing import Timing, plan

THREADS = int(os.environ.get("GRAPHKD_BENCH_THREADS", "2"))
UNSAVED = machine.ROOT / ".benchmarks"  # not committed
BUDGET, QUICK = 0.2, 0.05  # seconds of timing, for each mode of a cell


def pytest_addoption(parser: pytest.Parser) -> None:
    """--device, --dtype and --save."""
    group = parser.getgroup("graphkd benchmarks")
    group.addoption("--device", default="cpu", help="where operations are measured: cpu (default), cuda")
    group.addoption("--dtype", default="float32", help="of the inputs: float32 (default), bfloat16, float16")
    group.addoption("--save", action="store_true", help="keep the rows in benchmarks/results, not in .benchmarks")


@pytest.fixture(scope="session", autouse=True)
def fixed_threads() -> Iterator[None]:
    """The same number of threads whatever the machine, and back again."""
    before = torch.get_num_threads()
    torch.set_num_threads(THREADS)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def device(request: pytest.FixtureRequest) -> str:
    """Where to measure. Skips, with the reason, where that is not here."""
    name: str = request.config.getoption("--device")
    if name != "cpu" and not torch.cuda.is_available():
        pytest.skip(f"--device {name}: no CUDA device here")
    return name


@pytest.fixture(scope="session")
def save(request: pytest.FixtureRequest, device: str, fixed_threads: None) -> Callable[[dict[str, Any]], None]:
    """Keeps a row at once, in ``<device>-<date>.json``, and prints what was measured."""
    config = request.config
    results = Results.today(machine.environment(device, THREADS), FOLDER if config.getoption("--save") else UNSAVED)

    def keep(row: dict[str, Any]) -> None:
        results.add(row)
        if text := told(row):
            plugin = config.pluginmanager.get_plugin
            with plugin("capturemanager").global_and_fixture_disabled():
                plugin("terminalreporter").ensure_newline()
                plugin("terminalreporter").write_line(text)

    return keep


@pytest.fixture(scope="session")
def eager_ms() -> dict[tuple[str, str], float]:
    """(case, shape) -> milliseconds of the eager form, which the other forms are divided by."""
    return {}


@pytest.fixture
def fill(
    request: pytest.FixtureRequest, benchmark: Any, device: str, save: Any, eager_ms: dict[tuple[str, str], float]
) -> Callable[[Case, Shape, str], None]:
    """Measure one cell; a form that cannot run, or a foreign one that is wrong, is skipped with its reason."""
    dtype, quick = request.config.getoption("--dtype"), request.config.getoption("-m") == "quick"
    budget = QUICK if quick else BUDGET

    def run(case: Case, shape: Shape, form: str) -> None:
        benchmark.group = f"{case.name}-{label(shape)}-{dtype}-{device}"
        try:
            row = measure(case, shape, form, device, dtype, budget, _timer(benchmark, budget))
        except (UnavailableError, WrongResultError) as why:
            save(key(case, shape, form, device, dtype) | {"why": str(why)})
            if isinstance(why, WrongResultError) and form not in ("official", *case.peers):
                raise
            pytest.skip(str(why))
        if form == "eager":
            eager_ms[case.name, label(shape)] = row["ms"]
        if (base := eager_ms.get((case.name, label(shape)))) and "over_eager" not in row:
            row["over_eager"] = base / row["ms"]  # slow calls, and a GPU's: nothing disturbs them for long
        save(row)
        benchmark.extra_info |= row | {"torch": torch.__version__, "device": machine.device_name(device)}

    return run


def _timer(benchmark: Any, budget: float) -> Callable[[Callable[[], Any]], Timing]:
    """pytest-benchmark's clock, with as many rounds as fit."""

    def time(call: Callable[[], Any]) -> Timing:
        repeats, rounds = plan(call, budget)
        benchmark.pedantic(call, rounds=rounds, iterations=repeats)
        if benchmark.stats is None:  # --benchmark-disable
            return Timing(float("nan"), float("nan"), float("nan"), 0)
        return Timing.of([1e3 * each for each in benchmark.stats.stats.data])

    return time


def cells(kind: str) -> list[Any]:
    """Every (case, shape, form) as a test parameter; compiled forms at one size, long shapes marked slow."""
    found = []
    for case in cases(kind).values():
        for shape in (*case.shapes, *case.long):
            for form in (*FORMS, *case.peers):
                if form == "compile" and (shape != case.shapes[0] or kind != "op"):
                    continue
                marks = [pytest.mark.slow] if shape in case.long else []
                if shape == case.shapes[0] and form != "compile":
                    marks.append(pytest.mark.quick)
                found.append(pytest.param(case, shape, form, id=f"{case.name}-{label(shape)}-{form}", marks=marks))
    return found
