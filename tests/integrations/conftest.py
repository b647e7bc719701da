"""The digits job and the command line."""

import pytest

from tests.cli.conftest import graphkd, teacher
from tests.integrations.digits_job import Job
from tests.main_job import digits, teacher_checkpoint

__all__ = ["digits", "graphkd", "teacher", "teacher_checkpoint"]


@pytest.fixture(scope="session")
def job(digits, teacher_checkpoint):
    return Job(digits, teacher_checkpoint)
