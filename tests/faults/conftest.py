"""Fixtures of the main job, and of fault injection: a seed that is printed, and figures that are printed at the end."""

import os
import secrets

import pytest

from tests.main_job import class_folders, digits, flat_folder, run_job, teacher_checkpoint

__all__ = ["class_folders", "digits", "flat_folder", "run_job", "teacher_checkpoint"]
_FIGURE = "figure: "


@pytest.fixture(scope="session")
def context():
    """Where jobs are forked from."""
    from tests.faults import jobs

    return jobs.server()


@pytest.fixture(params=["short", pytest.param("full", marks=pytest.mark.faults)])
def both_forms(request):
    """For what runs in both forms of the suite."""
    return request.param


@pytest.fixture
def fault_seed(record_figure):
    """The seed that faults are drawn from: GRAPHKD_FAULT_SEED, or a new one; printed with the test and at the end."""
    seed = int(os.environ.get("GRAPHKD_FAULT_SEED", secrets.randbits(32)))
    print(f"fault seed {seed}: repeat with GRAPHKD_FAULT_SEED={seed}")
    record_figure("seed", seed)
    return seed


@pytest.fixture
def record_figure(request):
    """Keep a figure for the end of the run: ``record_figure("corruptions", 500)``."""

    def record(name, value):
        request.node.user_properties.append(
            (_FIGURE + name, value)
        )  # travels with the report, from xdist's workers too

    return record


def pytest_terminal_summary(terminalreporter):
    reports = [each for key in ("passed", "failed") for each in terminalreporter.stats.get(key, [])]
    figures = {
        (report.nodeid, name.removeprefix(_FIGURE)): value
        for report in reports
        for name, value in getattr(report, "user_properties", [])
        if name.startswith(_FIGURE)
    }
    if figures:
        terminalreporter.section("fault injection: figures")
    for (node, name), value in figures.items():
        terminalreporter.write_line(f"{node.rpartition('/')[2]}: {name} = {value}")
