"""SIGTERM and SIGINT as a question that the training loop answers between two updates."""

import signal
import threading
from pathlib import Path
from types import FrameType
from typing import Any, Self

ASKING = (signal.SIGTERM, signal.SIGINT)


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
