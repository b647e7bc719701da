"""The program: finds the command, runs it, and turns every error into two lines and an exit code.

==== =====================================================================
code meaning
==== =====================================================================
0    done
1    the command ran, and its answer is no (a check failed, a file is damaged)
2    bad input: an option, a file, a folder, or what was found in them
70   an error that nobody foresaw
130  interrupted (143: terminated); what was finished is kept
==== =====================================================================
"""

import json
import logging
import os
import signal
import sys
import traceback
import warnings
from collections.abc import Sequence
from contextlib import redirect_stdout
from io import TextIOWrapper
from types import FrameType

from graphkd.cli.app import command_of, options_of, parse
from graphkd.cli.console import Console, plain
from graphkd.cli.errors import explained
from graphkd.cli.option_groups import Output
from graphkd.text import shown

DONE, NO, BAD_INPUT, UNFORESEEN, INTERRUPTED, TERMINATED = 0, 1, 2, 70, 130, 143


class _Plain(logging.Formatter):
    """Lines of the log, in which other libraries quote names, too."""

    def format(self, record: logging.LogRecord) -> str:
        """One record."""
        return plain(super().format(record))


class Terminated(KeyboardInterrupt):
    """SIGTERM: a scheduler wants the machine."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command line; returns the exit code and never raises.

    Args:
        arguments: words after ``graphkd``; default those of the process.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    console = Console(Output(quiet="--quiet" in words, json="--json" in words, debug="--debug" in words))
    try:
        asked = parse(words)
        if asked is None:
            return DONE
        console = Console(asked.config.output, asked.given)
        with redirect_stdout(sys.stderr if asked.config.output.json else sys.stdout):  # whatever the library prints
            return asked.run(asked.config, console=console)
    except (KeyboardInterrupt, SystemExit) as stop:  # the loop answers a signal by a checkpoint and SystemExit
        return _stopped(stop, console)
    except BrokenPipeError:  # the reader of a pipe has left, as head does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return DONE
    except Exception as error:
        return _failed(error, command_of(words), console)


def _stopped(stop: KeyboardInterrupt | SystemExit, console: Console) -> int:
    """Tell of an interruption; returns the exit code."""
    code = TERMINATED if isinstance(stop, Terminated) else INTERRUPTED
    if isinstance(stop, SystemExit):
        code = stop.code if isinstance(stop.code, int) else UNFORESEEN
    if code in (INTERRUPTED, TERMINATED):
        left, go_on = console.go_on
        _tell(console, f"interrupted: {left}", go_on)
    return code


def _failed(error: Exception, command: str, console: Console) -> int:
    """Tell of an error; returns the exit code."""
    if console.output.debug:
        print(plain(traceback.format_exc()), end="", file=sys.stderr)
    lines = explained(error, options_of(command), command)
    if lines is not None:
        _tell(console, f"error: {lines[0]}", lines[1])
        return BAD_INPUT
    text = " ".join(str(error).split())[:300]
    _tell(
        console,
        f"error: unforeseen {type(error).__name__}: {text}",
        "run it again with --debug for the traceback, and report it with the output of graphkd doctor",
    )
    return UNFORESEEN


def _tell(console: Console, what: str, todo: str) -> None:
    print(f"{shown(what)}\ntry:   {shown(todo)}", file=sys.stderr)
    if console.output.json:
        kind, _, text = what.partition(": ")
        print(json.dumps({kind: text, "try": todo}), file=console.stdout, flush=True)


def entry() -> int:
    """The installed program ``graphkd``: :func:`main` with the process's signals, warnings and log set up."""
    debug = "--debug" in sys.argv
    if not debug:
        warnings.simplefilter("ignore")
    level = logging.ERROR if "--quiet" in sys.argv else logging.WARNING
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Plain("%(message)s"))
    logging.basicConfig(level=level, handlers=[handler])
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # as stderr: a terminal that cannot write a name is no error
    logging.getLogger("huggingface_hub").propagate = False  # it has a handler of its own: each line would come twice
    logging.getLogger("timm.scheduler").setLevel(logging.ERROR)  # of a run of one epoch it says that no cosine is left
    if level == logging.ERROR:
        os.environ.setdefault("HF_HUB_VERBOSITY", "error")
    signal.signal(signal.SIGTERM, _terminate)
    return main()


def _terminate(number: int, frame: FrameType | None) -> None:
    raise Terminated
