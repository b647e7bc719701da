"""SECURITY.md: each promise has a test by name, and nothing that is read can run."""

import ast
import re

from tests.pages import ROOT, rows

PAGE = (ROOT / "SECURITY.md").read_text(encoding="utf-8")


def below(heading):
    """The cells of each row of the table below a heading."""
    return rows(PAGE.partition(heading)[2].partition("\n#")[0])


def test_every_promise_has_a_test_by_name():
    defended = [row[0] for row in below("## What is defended")]
    rules = re.findall(r"^- \*\*(.+?)\*\*", PAGE.partition("## What is not")[0], re.MULTILINE)
    assert len(defended) >= 8
    assert len(rules) >= 5
    assert [row[0] for row in below("### Which test holds which promise")] == [*defended, *rules]


def test_every_test_that_is_named_exists():
    for promise, tests in below("### Which test holds which promise"):
        named = re.findall(r"`(tests/[\w/]+\.py)::(test_\w+)`", tests)
        assert named, promise
        for file, name in named:
            assert f"def {name}(" in (ROOT / file).read_text(encoding="utf-8"), f"{file}::{name}"


RUNNING = {"eval", "exec", "os.system", "pickle.load", "pickle.loads", "torch.save", "yaml.load", "yaml.safe_load"}


def test_nothing_of_the_library_runs_what_it_reads():
    found = []
    for path in sorted((ROOT / "graphkd").rglob("*.py")):
        for call in (node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)):
            name, options = ast.unparse(call.func), [ast.unparse(each) for each in call.keywords]
            unsafe = name == "torch.load" and "weights_only=True" not in options
            if name in RUNNING or unsafe or {"trust_remote_code=True", "shell=True"} & set(options):
                found.append(f"{path.name}: {ast.unparse(call)}")
    assert found == ["strict_yaml.py: yaml.load(text, _Loader)"]
