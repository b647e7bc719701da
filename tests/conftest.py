"""What every test shares: seeds, the place of image data, and the list of skips at the end of a run."""

import os
from pathlib import Path

import pytest
import torch

os.environ["GRAPHKD_PLAN"] = "none"  # the shipped table, whatever plan the user has; processes of tests inherit it
torch.set_num_threads(1)  # small tensors: more threads only wait for each other


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


@pytest.fixture
def data_dir():
    """The folder named by GRAPHKD_DATA; a test that needs image data skips without it."""
    place = os.environ.get("GRAPHKD_DATA")
    if not place or not Path(place).is_dir():
        pytest.skip(f"GRAPHKD_DATA names no folder of image data (found {place!r})")
    return Path(place)


def pytest_terminal_summary(terminalreporter):
    skipped = terminalreporter.stats.get("skipped", [])
    if skipped:
        terminalreporter.section("skipped, and why")
    for report in skipped:
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
        terminalreporter.write_line(f"{report.nodeid}: {str(reason).removeprefix('Skipped: ')}")
