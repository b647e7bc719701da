"""Every operation has a benchmark and a test, every distiller a benchmark, and nothing is measured that is not there."""

import inspect
import re
from pathlib import Path

import pytest
from graphkd_kernels import dispatch

from benchmarks import ops as operations
from benchmarks.case import cases
from graphkd import ops
from graphkd.distillers.factory import distillers

ROOT = Path(__file__).parents[2]
TOOLS = {
    "backend",
    "check_known",
    "check_nodes",
    "gram_blocks",
    "kernels_read_16_bits",
    "positive_temperature",
    "row_map",
    "same_width",
    "tune",
}
ABOVE = {"align", "align_nodes"}  # measured beside the operations they choose among
DOORS = {
    name
    for name, each in vars(ops).items()
    if inspect.isfunction(each) and each.__module__.startswith("graphkd.") and not name.startswith("_")
} - TOOLS
OPERATIONS = sorted(DOORS | set(dispatch._BACKENDS["eager"]))
MEASURED = {case.operation for case in operations.CASES}
TESTS = "\n".join(
    path.read_text() for path in sorted((ROOT / "tests").rglob("*.py")) if "benchmarks" not in path.relative_to(ROOT / "tests").parts
)  # fmt: skip


@pytest.mark.parametrize("name", OPERATIONS)
def test_an_operation_has_a_benchmark_of_its_name(name):
    assert name in MEASURED, "add a case to benchmarks/ops.py"


@pytest.mark.parametrize("name", OPERATIONS)
def test_an_operation_has_a_test(name):
    assert re.search(rf"\b{name}\b", TESTS), f"no test mentions {name}"


def test_every_distiller_is_measured_and_nothing_that_no_version_has():
    assert {case.operation for case in cases("method").values()} == set(distillers().names())
    assert set(OPERATIONS) | ABOVE == MEASURED


@pytest.mark.parametrize("case", cases("op").values(), ids=lambda case: case.name)
def test_shapes_fit_their_inputs_and_work(case):
    shapes = [*case.shapes, *case.long, *(shape for sweep in case.sweeps.values() for shape in sweep)]
    for shape in shapes:
        flops, elements = case.work(*shape)
        assert flops > 0
        assert elements > 0
    assert len(case.tensors(case.shapes[0])) >= case.students
