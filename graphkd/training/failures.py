"""What breaks or stops a run from outside: a signal, a dead worker, a lost process."""

import re
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, Self

import torch.distributed as dist

from graphkd.errors import DataError, DistributedError, GraphKDError

ASKING = (signal.SIGTERM, signal.SIGINT)
_LOST = ("gloo", "nccl", "connection closed by peer", "pair closure")  # theirs, where torch has no class of its own
_WRAPPED = re.compile(r"Caught \w+ in DataLoader worker.*\n[\w.]+Error: (.*?)\s*\Z", re.DOTALL)


class Interrupted(SystemExit):
    """A signal ended the run after a checkpoint; uncaught, it ends the process with the usual status, 128 + signal.

    Args:
        number: of the signal.
        checkpoint: where the run stands.
    """

    def __init__(self, number: int, checkpoint: Path) -> None:
        super().__init__(128 + number)
        self.signal, self.checkpoint = signal.Signals(number), checkpoint


class Signals:
    """Notes the first SIGTERM or SIGINT; a second one does what it did before.

    Outside the main thread Python allows no handlers, and signals do what they always did.

    Attributes:
        asked: number of the signal, 0 for none.
    """

    def __init__(self) -> None:
        self.asked = 0
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        self.asked = 0
        if threading.current_thread() is threading.main_thread():
            self._before = {each: signal.signal(each, self._note) for each in ASKING}
        return self

    def __exit__(self, *error: object) -> None:
        for each, handler in self._before.items():
            signal.signal(each, signal.SIG_DFL if handler is None else handler)
        self._before = {}

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.asked = number
        self.__exit__()


@contextmanager
def explain_failures(saved: Callable[[], str], processes: int) -> Iterator[None]:
    """Inside, what a dead worker or process raises becomes an error that says so, and a worker's own error one line.

    Args:
        saved: what there is to go on from.
        processes: of the run.

    Raises: DataError for a dead loader worker, DistributedError where another process is gone or silent.
    """
    # Twice: torch tells of a dead worker by a signal, which may arrive while its consequence is being explained.
    with _explained(saved, processes), _explained(saved, processes):
        yield


@contextmanager
def _explained(saved: Callable[[], str], processes: int) -> Iterator[None]:
    try:
        yield
    except GraphKDError as error:
        kind, said = type(error), _WRAPPED.match(str(error))
        if said:  # a worker's error, which torch's loader wraps in the worker's traceback
            raise kind(f"{said[1]}; {saved()}") from error
        raise
    except (RuntimeError, ConnectionError, EOFError) as error:  # the latter two: a worker died while it sent a batch
        text = str(error)
        if text.startswith("DataLoader worker") or not isinstance(error, RuntimeError):
            raise DataError(
                f"a process that loads images died ({text.strip()}): was it killed, or out of memory? {saved()}. "
                "Use fewer workers or smaller batches, and go on with fit(resume=True)"
            ) from error
        if processes > 1 and (isinstance(error, dist.DistError) or any(word in text.lower() for word in _LOST)):
            raise DistributedError(
                f"another of the {processes} processes is gone or silent ({text.strip().splitlines()[0]}): its own "
                f"message says why, {saved()}: start all of them again with fit(resume=True)"
            ) from error
        raise
