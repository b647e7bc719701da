"""How long refusals take: what counts as one."""

import pytest

from benchmarks import refusals


def test_there_are_twenty_kinds():
    assert len(refusals.REFUSALS) == 20


def test_a_refusal_is_timed(capsys):
    assert refusals.main(["--only", "a command", "--limit", "60"]) == 0
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.startswith("1 kinds, the slowest ")
    assert last.endswith("0 not as they should be")


@pytest.mark.parametrize(
    ("line", "fault"), [("--version", "exit code 0, 0 lines, other words"), ("distil --data x", "other words")]
)
def test_what_is_no_refusal_is_named(tmp_path, monkeypatch, capsys, line, fault):
    monkeypatch.setattr(refusals, "REFUSALS", {"wrong": (line, "never said")})
    assert refusals.main(["--limit", "60"]) == 1
    assert fault in capsys.readouterr().out
