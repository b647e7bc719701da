"""The scripts complete what exists."""

import shutil
import subprocess

import pytest

from graphkd.cli.app import COMMANDS, options_of, program

SHELLS = ["bash", "zsh", "fish"]


def complete(words):
    """What bash would offer for the last word."""
    line = " ".join(f"'{word}'" for word in words)
    script = f'COMP_WORDS=({line}); COMP_CWORD={len(words) - 1}; _graphkd; echo "${{COMPREPLY[*]}}"'
    script = f"{program().generate_completion(shell='bash')}\n{script}"
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
    (["graphkd", "store", "verify", "--d"], {"--data", "--debug"}),
])  # fmt: skip
def test_bash_offers_what_fits(words, offered):
    assert offered <= set(complete(words))


@pytest.mark.parametrize("shell", SHELLS)
def test_a_script_knows_every_flag_and_the_shell_accepts_it(shell, graphkd, tmp_path):
    script = graphkd(f"completion {shell}").out
    for option in (option for name in COMMANDS for option in options_of(name).values()):
        for word in option.names:
            assert (f"-l {word[2:]}" if shell == "fish" else word) in script
    if shutil.which(shell) is not None:
        (tmp_path / "script").write_text(script)
        assert subprocess.run([shell, "-n", tmp_path / "script"], capture_output=True, text=True).stderr == ""
