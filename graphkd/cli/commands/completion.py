"""graphkd completion: a script that completes a command line on TAB."""

from dataclasses import KW_ONLY, dataclass, field
from typing import Literal

from cyclopts import Parameter

from graphkd.cli.console import Console
from graphkd.cli.option_groups import Output


@Parameter(name="*")
@dataclass(frozen=True)
class Completion:
    """Print a script that completes commands, options and their values on TAB.

    Args:
        shell: bash, zsh or fish.

    Example::

        # bash: now, and in every shell from now on
        source <(graphkd completion bash)
        graphkd completion bash > ~/.local/share/bash-completion/completions/graphkd

        # zsh, into a folder of $fpath; fish
        graphkd completion zsh > ~/.zfunc/_graphkd
        graphkd completion fish > ~/.config/fish/completions/graphkd.fish
    """

    shell: Literal["bash", "zsh", "fish"]
    _: KW_ONLY
    output: Output = field(default_factory=Output)


def run(config: Completion, *, console: Console) -> int:
    """A script for the shell."""
    from graphkd.cli.app import program

    script = program().generate_completion(shell=config.shell)
    console.result({"shell": config.shell, "script": script}, script)
    return 0
