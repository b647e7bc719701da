"""The scripts complete what exists."""

import shutil
import subprocess

import pytest

from graphkd.cli.completion import SCRIPTS, words_of
from graphkd.cli.table import COMMANDS


def complete(words):
    """What bash would offer for the last word."""
    line = " ".join(f"'{word}'" for word in words)
    script = (
        f'{SCRIPTS["bash"]()}\nCOMP_WORDS=({line}); COMP_CWORD={len(words) - 1}; _graphkd; echo "${{COMPREPLY[*]}}"'
    )
    return subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True).stdout.split()


@pytest.mark.parametrize(("words", "offered"), [
    (["graphkd", "dis"], {"distill"}),
    (["graphkd", "store", ""], {"info", "verify", "repair", "merge"}),
    (["graphkd", "distill", "--ep"], {"--epochs"}),
    (["graphkd", "distill", "--no-fl"], {"--no-flip"}),
    (["graphkd", "distill", "--method", "p"], {"pkt", "prg"}),
    (["graphkd", "embed", "--dtype", ""], {"float32", "float16", "bfloat16"}),
    (["graphkd", "methods", "pr"], {"prg"}),
    (["graphkd", "completion", ""], {"bash", "zsh", "fish"}),
    (["graphkd", "rep"], {"report"}),
    (["graphkd", "report", "one", "--format", ""], {"png", "svg"}),
    (["graphkd", "embed", "--out", "--"], set()),
    (["graphkd", "store", "verify", "--d"], {"--data", "--debug"}),
])  # fmt: skip
def test_bash_offers_what_fits(words, offered):
    assert offered <= set(complete(words)) if offered else complete(words) == []


@pytest.mark.parametrize("shell", SCRIPTS)
def test_a_script_knows_every_flag(shell, graphkd):
    script = graphkd(f"completion {shell}").out
    for command in COMMANDS.values():
        for word in words_of(command):
            assert (f"-l {word[2:]}" if shell == "fish" else word) in script


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_shell_accepts_its_script(shell, tmp_path):
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not on this machine")
    file = tmp_path / "script"
    file.write_text(SCRIPTS[shell]())
    assert subprocess.run([shell, "-n", str(file)], capture_output=True, text=True).stderr == ""
