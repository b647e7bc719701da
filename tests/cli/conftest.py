"""Fixtures of the command line: small folders, a stand-in teacher, and a way to run a command in this process."""

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from graphkd.cli.app import program
from graphkd.cli.main import main
from graphkd.teachers.clip import CLIPTeacher
from tests.main_job import class_folders, digits, teacher_checkpoint

__all__ = ["class_folders", "digits", "teacher_checkpoint"]


class Program:
    """The command line in this process."""

    def __init__(self, capsys):
        self.capsys = capsys

    def __call__(self, line, code=0):
        """One command line, which must end with this exit code; what it said."""
        self.capsys.readouterr()
        found = main(shlex.split(line))
        answer = Answer(self.capsys.readouterr())
        assert found == code, answer.err
        return answer

    def json(self, line, code=0):
        """What it says as JSON."""
        return json.loads(self(line if "--json" in line else f"{line} --json", code).out)

    def refused(self, line, what, todo=""):
        """A command line that is bad input, and the two lines that say so, the last of standard error."""
        answer = self(line, 2)
        first, second = answer.err[-2:]
        assert (first[:7], second[:7]) == ("error: ", "try:   "), answer.err
        assert what in first
        assert todo in second
        assert not any("Traceback" in each for each in answer.err)
        return answer


class Answer:
    """What a command left: standard output, the lines of standard error."""

    def __init__(self, captured):
        self.out, self.err = captured.out, captured.err.splitlines()


ROOT = Path(__file__).parents[2]
ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "kernels")]), "OMP_NUM_THREADS": "1"}


@pytest.fixture
def process(tmp_path):
    """Run Python in ``tmp_path`` as a process of its own; ``start=True`` does not wait for it."""

    def run(*words, start=False, **variables):
        options = {"cwd": tmp_path, "env": ENVIRONMENT | {"XDG_CACHE_HOME": str(tmp_path)} | variables, "text": True}
        if start:
            return subprocess.Popen([sys.executable, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options)
        return subprocess.run([sys.executable, *words], capture_output=True, timeout=300, **options)

    return run


@pytest.fixture
def graphkd(capsys, tmp_path, monkeypatch):
    """The command line, in ``tmp_path``."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    program()  # built before a test replaces a part of it
    return Program(capsys)


def write_digits(folder, digits, count):
    """So many of them as loose images."""
    folder.mkdir()
    for index in range(count):
        digits.image(index).resize((32, 32)).save(folder / f"{index:02}.png")


@pytest.fixture
def asked(monkeypatch):
    """How many images the teacher sees, call by call."""
    features, seen = CLIPTeacher.features, []
    monkeypatch.setattr(
        CLIPTeacher, "features", lambda self, images: seen.append(len(images)) or features(self, images)
    )
    return seen


@pytest.fixture
def teacher(teacher_checkpoint):
    """The options that name the stand-in teacher."""
    return f"--teacher {teacher_checkpoint} --templates photo"
