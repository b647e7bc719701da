"""Fixtures of the command line: small folders, a stand-in teacher, and a way to run a command in this process."""

import shlex

import pytest

from graphkd.cli.main import main
from tests.main_job import class_folders, digits, teacher_checkpoint

__all__ = ["class_folders", "digits", "teacher_checkpoint"]


class Answer:
    """What a command left: exit code, standard output, the lines of standard error."""

    def __init__(self, code, captured):
        self.code, self.out, self.err = code, captured.out, captured.err.splitlines()


@pytest.fixture
def graphkd(capsys, tmp_path, monkeypatch):
    """Run one command line in ``tmp_path`` and return its answer."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))

    def run(line, *more):
        capsys.readouterr()
        code = main([*shlex.split(line), *map(str, more)])
        return Answer(code, capsys.readouterr())

    return run


@pytest.fixture
def teacher(teacher_checkpoint):
    """The options that name the stand-in teacher."""
    return f"--teacher {teacher_checkpoint} --templates photo"
