"""What the benchmarks share: fixed threads, correctness before speed, units in the keys.

Each test races one form of an operation. The forms of one (operation, shape) are a group:

- ``eager``: the library's own operation on its reference backend, and what every other form is divided by;
- ``auto``: the same operation on the backend that its plan picks;
- ``official``: the dense form that papers and their code publish, written here;
- ``compiled``: the library's operation under ``torch.compile``.

A form is timed only after its value and gradient agree with those of the official form in float64.
"""

import os
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from graphkd import backend

THREADS = int(os.environ.get("GRAPHKD_BENCH_THREADS", "2"))
FORMS = ("eager", "auto", "official", "compiled")  # eager first: the others are divided by it
Function = Callable[..., Tensor]


@pytest.fixture(scope="session", autouse=True)
def fixed_threads() -> Iterator[None]:
    """The same number of threads whatever the machine, and back again."""
    before = torch.get_num_threads()
    torch.set_num_threads(THREADS)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def baselines() -> dict[str, float]:
    """Group -> milliseconds of the eager form."""
    return {}


@pytest.fixture(scope="session")
def compiler() -> Callable[[Function], Function]:
    """``torch.compile``, or a skip with the reason where this machine cannot compile."""
    try:
        torch.compile(lambda x: (2 * x).sum())(torch.ones(8))
    except Exception as error:  # whatever the compiler's own tools raise
        pytest.skip(f"torch.compile cannot run here: {str(error).splitlines()[0]}")
    return torch.compile


@pytest.fixture
def race(benchmark: Any, baselines: dict[str, float], request: pytest.FixtureRequest) -> Callable[..., None]:
    """Check one form against float64, then time its value and gradient."""

    def run(group: str, form: str, ours: Function, official: Function, *inputs: Tensor, rtol: float = 1e-3) -> None:
        """Race a form; the gradient is that of the first input.

        Args:
            group: ``"<operation>-<shape>"``.
            form: one of ``FORMS``.
            ours, official: functions of the inputs; the gradient of their sum is taken.
            rtol: largest difference from float64, relative to the largest entry.
        """
        function = official if form == "official" else ours
        if form == "compiled":
            function = request.getfixturevalue("compiler")(ours)
        if form == "eager":
            function = on_reference(ours)
        assert_same(function, official, *inputs, rtol=rtol)
        benchmark.group = group
        benchmark(value_and_gradient, function, *inputs)
        milliseconds = 1e3 * benchmark.stats.stats.median
        if form == "eager":
            baselines[group] = milliseconds
        benchmark.extra_info |= {"median_ms": milliseconds, "threads": THREADS, "torch": torch.__version__}
        if group in baselines:
            benchmark.extra_info["speedup_over_eager"] = baselines[group] / milliseconds

    return run


def on_reference(function: Function) -> Function:
    """The function on the reference backend."""

    def run(*inputs: Tensor) -> Tensor:
        with backend("eager"):
            return function(*inputs)

    return run


def value_and_gradient(function: Function, first: Tensor, *others: Tensor) -> tuple[Tensor, Tensor]:
    """The result, and the gradient of its sum in the first input."""
    first = first.detach().requires_grad_()
    value = function(first, *others)
    return value.detach(), torch.autograd.grad(value.sum(), first)[0]


def assert_same(function: Function, truth: Function, *inputs: Tensor, rtol: float) -> None:
    """No number from a wrong form: value and gradient agree with the truth in float64."""
    expected = value_and_gradient(truth, *(each.double() for each in inputs))
    for found, exact in zip(value_and_gradient(function, *inputs), expected, strict=True):
        assert_close(found.double(), exact, rtol=0, atol=rtol * float(exact.abs().max()))


def random(*shape: int, seed: int = 0) -> Tensor:
    """Normal numbers that are the same in every run."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))
