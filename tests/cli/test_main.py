"""The program: overview, exit codes, JSON, interruptions, and what it costs to ask for help."""

import json
import os
import resource
import sys
import tomllib
from pathlib import Path

import pytest
from graphkd_kernels import machine_plan
from graphkd_kernels.tuning import run

import graphkd as package
from graphkd import ops
from graphkd.cli.app import COMMANDS, doc_of
from graphkd.cli.catalogue import DATA_SETS, methods
from graphkd.cli.commands import doctor
from graphkd.cli.main import Terminated, main
from graphkd.data.datasets import TORCHVISION
from graphkd.distillers.factory import distillers

ROOT = Path(__file__).parents[2]
HEAVY = ("torch", "torch_geometric", "numpy", "timm", "open_clip", "yaml")


def test_help_lists_every_command(graphkd):
    for line in ("--help", "-h", "help", ""):
        answer = graphkd(line)
        for name in COMMANDS:
            first, _, second = name.partition(" ")
            assert f"{first} " in answer.out
            if not second:
                assert doc_of(name)[0][:30] in answer.out


def test_a_group_of_commands_ends_with_its_own_examples(graphkd):
    answer = graphkd("store --help").out
    assert "graphkd store merge machine0 machine1 --out features" in answer
    assert "graphkd doctor" not in answer


def test_help_loads_nothing_heavy(process):
    for words in (["--help"], ["distill", "--help"], ["methods"], ["completion", "bash"], ["--version"]):
        code = f"import sys\nfrom graphkd.cli.main import main\ncode = main({words!r})\n"
        code += f"print(code, [name for name in {HEAVY} if name in sys.modules])"
        assert process("-c", code).stdout.endswith("0 []\n"), words


def test_help_is_quick(process):
    """At most half a second of processor time: a clock on the wall would measure what else the machine does."""

    def once():
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        assert process("-m", "graphkd.cli", "--help").returncode == 0
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    assert min(once() for _ in range(3)) <= 0.5


def test_the_catalogue_is_the_registry():
    known = methods()
    assert list(known) == distillers().names()
    assert DATA_SETS == TORCHVISION
    page = (Path(__file__).parents[2] / "docs" / "cli.md").read_text()
    assert ", ".join(f"`{name}`" for name in TORCHVISION) in page
    for name, method in known.items():
        assert method.line == (distillers().get(name).__doc__ or "").strip().splitlines()[0]
        assert method.paper, name


def test_methods_are_listed_and_explained(graphkd):
    listed = graphkd("methods").out
    assert all(f"{name} " in listed for name in methods())
    one = graphkd("methods prg").out
    assert "rho: share of the feature block in [0, 1]; default from the preset, 0.5, for" in one
    assert "graphkd distill --method prg" in one
    found = graphkd.json("methods")["methods"]
    assert [each["name"] for each in found] == list(methods())


def test_json_holds_an_error_too(graphkd):
    answer = graphkd.refused("methods prq --json", 'Did you mean "prg"?')
    assert json.loads(answer.out)["error"].endswith('Did you mean "prg"?')
    assert len(answer.err) == 2


@pytest.mark.parametrize(("stop", "code"), [
    (KeyboardInterrupt(), 130), (Terminated(), 143), (SystemExit(143), 143), (SystemExit(130), 130),
])  # fmt: skip
def test_an_interruption_says_how_to_go_on(graphkd, monkeypatch, stop, code):
    def run(config, *, console):
        console.go_on = ("half is kept", "run it again")
        raise stop

    monkeypatch.setattr("graphkd.cli.commands.doctor.run", run)
    answer = graphkd("doctor", code)
    assert answer.err == ["interrupted: half is kept", "try:   run it again"]


def test_what_nobody_foresaw_is_one_line_a_code_of_its_own_and_a_traceback_for_debug(graphkd, monkeypatch):
    def broken(config, *, console):
        raise RuntimeError("a bug\nof two lines")

    monkeypatch.setattr("graphkd.cli.commands.doctor.run", broken)
    answer = graphkd("doctor", 70)
    assert answer.err[0] == "error: unforeseen RuntimeError: a bug of two lines"
    assert "--debug" in answer.err[1]
    for line, code in (("doctor --debug", 70), ("methods prq --debug", 2)):
        assert graphkd(line, code).err[0] == "Traceback (most recent call last):"


def test_a_reader_that_leaves_is_no_error(process):
    line = f"set -o pipefail; {sys.executable} -m graphkd.cli methods | head -1"
    shell = process("-c", f"import subprocess, sys\nsys.exit(subprocess.run(['bash', '-c', {line!r}]).returncode)")
    assert (shell.returncode, shell.stderr) == (0, "")


def test_golden_files_come_with_graphkd(graphkd):
    found = graphkd.json("conformance")
    assert found["good"]
    assert len({row["source"] for row in found["rows"]}) > 1
    wheel = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    assert wheel["force-include"] == {"tests/golden": "graphkd/conformance/values"}


def test_conformance_has_the_exit_code_of_its_answer(graphkd, monkeypatch):
    golden = ROOT / "tests" / "golden" / "ega.json"
    found = graphkd.json(f"conformance --golden {golden} --json --markdown table.md")
    assert found["good"]
    assert all(row["float64"] < 1e-9 for row in found["rows"] if row["status"] == "conforms")
    monkeypatch.setattr("graphkd.conformance.table.conforms", lambda rows: False)
    printed = graphkd(f"conformance --golden {golden}", 1).out
    page = Path("table.md").read_text()
    assert page.startswith("# Conformance")
    assert page.endswith(printed.rstrip("\n") + "\n")


def test_doctor_says_what_runs_and_why(graphkd, monkeypatch):
    found = graphkd.json("doctor")["findings"]
    by_name = {each["name"]: each for each in found}
    assert by_name["eager"]["fine"]
    assert by_name["torch"]["text"].endswith("(needs >=2.11)")
    assert by_name["cpu"]["fine"]
    assert "edge_sum cosine square: " in by_name["4096 images"]["text"]
    needs = ["torch>=99", "nothing-of-this-name>=1", 'onnx>=999; extra == "export"']
    monkeypatch.setattr(doctor, "requires", lambda name: needs)
    answer = graphkd("doctor", 1)
    assert "!! torch" in answer.out
    assert "missing (needs >=1): pip install 'nothing-of-this-name>=1'" in answer.out
    assert "-- export" in answer.out
    assert "pip install 'graphkd[export]'" in answer.out


def test_doctor_shows_the_plan_and_what_failed_in_it(graphkd):
    by_name = {each["name"]: each for each in graphkd.json("doctor")["findings"]}
    assert by_name["plan"]["text"].startswith("the shipped table: graphkd tune verifies")
    wrong = {"row_kl": {"float16": {"blocked": "value off by 0.1", "eager": True}}}
    with ops.using("cpu", ops.Table("the plan of this machine (a file)", ops.in_force("cpu").choices, wrong)):
        by_name = {each["name"]: each for each in graphkd.json("doctor")["findings"]}
    assert by_name["plan"] | {"topic": ""} == {
        "topic": "",
        "name": "plan",
        "fine": True,
        "text": "the plan of this machine (a file): 1 operations verified",
    }
    assert by_name["not used"]["text"] == "row_kl, blocked, float16: value off by 0.1"


@pytest.fixture
def tuned(monkeypatch):
    """``graphkd tune`` on rows that are written down here."""

    def rows_of(what, arguments, silent, seconds):
        about = {"kind": "verify", "operation": arguments[0], "backend": "blocked", "dtype": "float32"}
        verdict = True if arguments[0] == "row_kl" else "97x65: value off by 0.1"
        yield {"kind": "device"}
        if what.__name__ == "verified":
            yield from (
                about | each for each in ({"begins": True}, {"case": "97x65"}, {"ends": True, "verdict": verdict})
            )

    monkeypatch.setenv("GRAPHKD_PLAN", "plan.json")
    monkeypatch.setattr(run, "rows_of", rows_of)
    yield
    machine_plan.put("cpu", None)


def test_tune_has_the_exit_code_of_its_answer(graphkd, tuned):
    found = graphkd.json("tune --operations row_kl --quiet")
    assert (found["good"], found["checks"], found["plan"]) == (True, 1, "plan.json")
    found = graphkd.json("tune --operations unit_rows,row_kl", 1)
    assert found["failures"] == ["unit_rows, blocked, float32: 97x65: value off by 0.1"]
    answer = graphkd("tune --operations unit_rows", 1)
    assert answer.out.startswith("unit_rows, blocked, float32: 97x65: value off by 0.1\n1 checks in ")


def test_tune_refuses_what_it_does_not_know_and_a_full_disk(graphkd, tuned, monkeypatch):
    graphkd.refused("tune --operations row_klo", "unknown operation 'row_klo'", "choose among edge_sum, ")
    graphkd("tune --operations row_kl --quiet")
    monkeypatch.setattr(os, "fsync", lambda handle: os.write(os.open("/dev/full", os.O_WRONLY), b"0"))
    before = Path("plan.json").read_text()
    graphkd.refused(
        "tune --operations unit_rows", "the plan was not written: No space left on device (plan.json)", "the free space"
    )
    assert Path("plan.json").read_text() == before
    monkeypatch.setenv("GRAPHKD_PLAN", "none")
    graphkd.refused("tune", "GRAPHKD_PLAN is 'none', so the plan has no place", "unset it, or name a file")


def test_main_takes_the_words_of_the_process(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["graphkd", "--version"])
    assert main() == 0
    assert capsys.readouterr().out == f"graphkd {package.__version__}\n"
    assert 'graphkd = "graphkd.cli.main:entry"' in (ROOT / "pyproject.toml").read_text()  # the installed program
