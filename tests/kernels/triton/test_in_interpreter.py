"""The tests of this folder in Triton's interpreter: a process of its own, because triton decides at import."""

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent
pytestmark = pytest.mark.skipif(find_spec("triton") is None, reason="triton is not installed")


def run(selection):
    command = [sys.executable, "-m", "pytest", str(FOLDER), "-q", "-p", "no:cacheprovider", "-m", selection]
    environment = os.environ | {"TRITON_INTERPRET": "1"}
    done = subprocess.run(command, env=environment, cwd=FOLDER.parents[2], capture_output=True, text=True)
    print(done.stdout[-2000:])
    assert done.returncode == 0, done.stdout[-20000:] + done.stderr[-2000:]


def test_the_short_matrix():
    run("not slow and not gpu")


@pytest.mark.slow
def test_the_wide_matrix():
    run("slow and not gpu")
