"""graphkd completion."""

from graphkd.cli.completion import SCRIPTS
from graphkd.cli.configs.tools import Completion
from graphkd.cli.console import Console


def run(config: Completion, console: Console) -> int:
    """A script for the shell."""
    script = SCRIPTS[config.shell]()
    console.result({"shell": config.shell, "script": script}, script)
    return 0
