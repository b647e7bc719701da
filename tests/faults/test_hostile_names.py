"""Hostile names through every output: none steers a terminal, forges a line, runs in a page or stops a run."""

import io
import json
import logging
import re
import signal
import sys
import traceback
import warnings
from contextlib import redirect_stderr, redirect_stdout
from types import SimpleNamespace

import pytest

from graphkd.cli.config_file import read_config, write_config
from graphkd.cli.console import Console
from graphkd.cli.main import entry, main
from graphkd.cli.option_groups import Output
from graphkd.cli.scoring import text
from graphkd.conformance.golden import Entry
from graphkd.conformance.table import Row as Conformance
from graphkd.conformance.table import markdown
from graphkd.errors import DataError
from graphkd.files import write_json
from graphkd.training.devices import tracking
from graphkd.training.report import Row, text_table, write_report

NAMES = [
    *("\x1b[2J", "\x1b]0;title\x07", "\x1b]8;;http://x\x1b\\link", "\x1bP+q\x1b\\", "\x1b[31mred", "\x9b31m", "\x90q\x9c"),
    *("cat\rOK: all is well", "cat\nerror: forged", "cat\x0bdog", "cat\x0cdog", "cat\x85dog", "cat\u2028dog", "cat\u2029dog"),
    *("\x08\x08\x08dog", "\x07", "\x7f", "a\0b", "\u202egnp.tac", "\u202dcat", "\u2066cat\u2069", "\u2067cat", "\u061ccat"),
    *("\u200fcat", "c\u200bat", "c\u00adat", "\ufeffcat", "cat\udce9", "\ud800", "\U000e0001", "\ue000", "caf\xe9", "cafe\u0301"),
    *("<script>alert(1)</script>", "<img src=x onerror=alert(1)>", "&lt;", "a | b", "[x](javascript:alert(1))", "`a`", "'\"`"),
    *("$\\frac{", "%s %d {} {0}", "=1+1", "@SUM(1)", "../../outside", "-rf", "!!python/name:os.system", "&a [*a]", "# x", ""),
]  # fmt: skip
FEW = [
    "\x1b]0;title\x07",
    "cat\nerror: forged",
    "\u202egnp.tac",
    "cat\udce9",
    "<script>alert(1)</script>",
    "a | b\n| c",
]


def as_file(name):
    """The name without what no file of Linux has in its own."""
    return name.translate({0: "\1", 0xD800: "\udc80"})


def a_traceback(name, place):
    try:
        raise DataError(f"class folder {name.replace(chr(10), '')} holds no image")
    except DataError:
        return traceback.format_exc()


def an_error_of_the_program(name, place):
    said, told = io.StringIO(), io.StringIO()
    with redirect_stderr(said), redirect_stdout(told):
        assert main(["methods", f"x{name}", "--json"]) == 2
    assert len(said.getvalue().split("\n")) == 3
    assert json.loads(told.getvalue())["error"]
    return said.getvalue() + told.getvalue()


def a_log(name, place):
    stream, log = io.StringIO(), logging.getLogger("graphkd")
    handler = logging.StreamHandler(stream)
    log.addHandler(handler)
    log.warning("left out %s", name)
    log.removeHandler(handler)
    return stream.getvalue()


def a_remark(name, place):
    with redirect_stderr(io.StringIO()) as said:
        Console(Output()).remark(f"left out {name}")
    return said.getvalue()


def scores_by_class(name, place):
    row = {"class": name, "images": 2, "right": 0.5, "taken_for": name}
    found = {"top1": 0.5, "mean_class": 0.5, "calibration_error": 0.1, "images": 2, "per_class": [row]}
    return text(name, found)


def a_result(name, place):
    console = Console(Output())
    console.stdout = io.StringIO()
    console.result({}, f"classes: {name.replace(chr(10), '')}")
    return console.stdout.getvalue()


def a_json_result(name, place):
    console = Console(Output(json=True))
    console.stdout = io.StringIO()
    console.result({"class": name}, "")
    assert json.loads(console.stdout.getvalue()) == {"class": name}
    return console.stdout.getvalue()


def a_table(name, place):
    return text_table([Row(name, 0.5), Row("cat", 0.5)], name)


def a_report(name, place):
    write_report(
        place / "report.md",
        [Row(name, 0.5)],
        title=name,
        notes=[name],
        pictures={name: place / as_file(f"x{name}.png")},
    )
    return (place / "report.md").read_text(encoding="utf-8")


def a_conformance_table(name, place):
    return markdown([Conformance(name, name, Entry("kd", None))])


def a_page(name, place):
    from graphkd.pictures.html import write_html_report

    write_json(place / "student.json", {"classes": [name, "cat"]})
    write_config(place / "run.yaml", "distill", {"method": name, name: name, "data": [name]})
    scores = {"top1": 0.5, "classes": 2, "confusion": [[0, 1, 3], [1, 1, 3]]}
    write_json(place / "scores.json", scores)
    return write_html_report(place, sections=[]).read_text(encoding="utf-8")


def a_picture(name, place):
    from graphkd.pictures.canvas import label

    return label(name)


def a_tracker(name, place):
    told = []
    tracker = SimpleNamespace(name="wandb", store_init_configuration=lambda options: told.append(options), finish=list)
    init = lambda *names, **options: told.append([names, options])  # noqa: E731
    accelerator = SimpleNamespace(log_with=["wandb"], trackers=[tracker], init_trackers=init)
    with tracking(accelerator, place / as_file(f"run{name}"), 0, {"data": name, "classes": [name]}):
        pass
    found = {key: value for key, value in told[0][1]["init_kwargs"]["wandb"].items() if key != "dir"}
    return "".join([*told[0][0], *found.values(), *told[1].values()])


def an_option_file(name, place):
    write_config(place / "run.yaml", "distill", {"data": name})
    assert read_config(place / "run.yaml") == {"command": "distill", "data": name}
    return (place / "run.yaml").read_text(encoding="utf-8")


def a_file_of_a_run(name, place):
    write_json(place / "student.json", {"classes": [name]})
    written = (place / "student.json").read_text(encoding="utf-8")
    assert json.loads(written) == {"classes": [name]}
    return written


OUTPUTS = [
    *(a_traceback, an_error_of_the_program, a_log, a_remark, a_result, a_json_result, scores_by_class, a_table),
    *(a_report, a_conformance_table, a_page, a_picture, a_tracker, an_option_file, a_file_of_a_run),
]  # fmt: skip
PAGES = (a_report, a_conformance_table, a_page)


def through(output, name, folder):
    """One name through one output, and what must hold of what comes out."""
    folder.mkdir(parents=True)
    written = output(name, folder)
    hidden = [each for each in written.replace("\n", "") if not each.isprintable()]
    assert hidden == [], f"{output.__name__} lets {hidden[0]!a} of {name!a} through"
    written.encode("utf-8")
    assert "error: forged" not in [line.strip() for line in written.split("\n")], output.__name__
    if output in PAGES:
        assert not re.search(r"<script>alert|<img src=x", written), output.__name__
        assert output is a_page or not re.search(r"(?<!\\)\]\(java", written), output.__name__
    if output is a_page:
        assert "<script" not in written
    if output is a_report:  # seven bars in each line of the table: no name adds a cell
        assert all(len(re.findall(r"(?<!\\)\|", line)) == 7 for line in written.split("\n") if line.startswith("|"))


@pytest.mark.parametrize("output", OUTPUTS)
def test_a_hostile_name_is_only_text(output, tmp_path):
    for number, name in enumerate(FEW):
        through(output, name, tmp_path / str(number))


@pytest.mark.faults
def test_hostile_names_in_full(tmp_path, record_figure):
    for number, name in enumerate(NAMES):
        for output in OUTPUTS:
            through(output, name, tmp_path / f"{number}-{output.__name__}")
    assert len(NAMES) >= 30
    record_figure("hostile names", len(NAMES))
    record_figure("outputs", len(OUTPUTS))
    record_figure("characters that got through", 0)


@pytest.fixture
def started(monkeypatch):
    """The program, started with streams of the test's; what it does to signals is undone."""

    def start(**streams):
        monkeypatch.setattr(logging.getLogger(), "handlers", [])  # here: pytest adds its own before each test
        for name, stream in streams.items():
            monkeypatch.setattr(sys, name, stream)
        with warnings.catch_warnings():
            assert entry() == 0

    monkeypatch.setattr(sys, "argv", ["graphkd", "--version"])
    before = signal.getsignal(signal.SIGTERM)
    yield start
    signal.signal(signal.SIGTERM, before)


def test_a_terminal_that_cannot_write_a_name_is_no_error(started):
    stream = io.TextIOWrapper(io.BytesIO(), "ascii")
    started(stdout=stream)
    print("\u732b")
    stream.flush()
    assert stream.buffer.getvalue().endswith(b"\\u732b\n")


def test_other_libraries_cannot_steer_the_terminal_through_the_log(started):
    said = io.StringIO()
    started(stderr=said)
    logging.getLogger("open_clip").warning("loading %s", "a\x1b[2J")
    assert said.getvalue() == "loading a\\x1b[2J\n"


def test_a_folder_with_escape_sequences_is_named_in_the_error(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    assert main(["embed", "--data", "\x1b]0;title\x07\u202e", "--out", "x"]) == 2
    assert r"there is no folder --data \x1b]0;title\x07\u202e" in capfd.readouterr().err
