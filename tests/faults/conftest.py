"""Fixtures of the main job, the seed of the faults, and the figures that they give."""

import os
import random

import pytest

from tests.main_job import class_folders, digits, flat_folder, run_job, teacher_checkpoint

__all__ = ["class_folders", "digits", "flat_folder", "run_job", "teacher_checkpoint"]


@pytest.fixture
def fault_seed():
    """A new seed each time, printed; GRAPHKD_FAULT_SEED repeats one."""
    seed = int(os.environ.get("GRAPHKD_FAULT_SEED") or random.randrange(2**32))
    print(f"GRAPHKD_FAULT_SEED={seed}")
    return seed


@pytest.fixture
def record_figure(record_property):
    """Keep a figure and print it."""

    def record(name, value):
        record_property(name, value)
        print(f"{name}: {value}")

    return record
