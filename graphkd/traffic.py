"""What a rank sends to the others, counted as it is handed to the collectives."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field

from graphkd.typing import Tensor

_COUNTING: ContextVar["Traffic | None"] = ContextVar("graphkd_traffic", default=None)


@dataclass
class Traffic:
    """Bytes of this rank's exchanges, by collective.

    Attributes:
        ranks: in the process group.
        handed: bytes that this rank handed to ``"all_reduce"`` (its buffer), to ``"all_gather"`` (its own rows, padded
            to those of the largest rank), and to the next rank in a ``"ring"`` (blocks of rows, padded alike).
        calls: how often.
    """

    ranks: int
    handed: Counter[str] = field(default_factory=Counter)
    calls: Counter[str] = field(default_factory=Counter)

    def add(self, collective: str, buffer: Tensor) -> None:
        """Count one exchange."""
        self.handed[collective] += buffer.nbytes
        self.calls[collective] += 1

    @property
    def sent(self) -> dict[str, float]:
        """Bytes that leave this rank: 2 (W - 1)/W of a sum and W - 1 times own rows, as rings of ranks do it."""
        w = self.ranks
        factors = {"all_reduce": 2 * (w - 1) / w, "all_gather": w - 1.0, "ring": 1.0}
        return {name: factors[name] * size for name, size in self.handed.items()}

    @property
    def total(self) -> float:
        """All of :attr:`sent`."""
        return sum(self.sent.values())


@contextmanager
def counting(ranks: int) -> Iterator[Traffic]:
    """Count what is exchanged inside, and in the backward pass of what is computed inside."""
    traffic = Traffic(ranks)
    token = _COUNTING.set(traffic)
    try:
        yield traffic
    finally:
        _COUNTING.reset(token)


def current() -> Traffic | None:
    """The counter in force. A backward pass asks the one of its forward pass: it may run in another thread."""
    return _COUNTING.get()
