"""Loss terms summed on the device, and the flag that says whether all of them were finite."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch

from graphkd.errors import NonFiniteError
from graphkd.typing import Bool, Float, Tensor


class Meter:
    """Means of named scalars over a window of steps and over an epoch, read from the device only on demand.

    ``ok`` is the device's flag for the current update: every term since :meth:`start` was finite.
    """

    def __init__(self, device: torch.device | str) -> None:
        self.device = device
        self.sums: dict[str, Tensor] = {}
        self.counts: dict[str, int] = {}
        self.epoch: dict[str, list[float]] = {}  # name -> [sum, count], on the host
        self.start()

    def start(self) -> None:
        """A new update begins."""
        self.ok: Bool[Tensor, ""] = torch.ones((), dtype=torch.bool, device=self.device)

    def add(self, terms: Mapping[str, Float[Tensor, ""]], gate: bool = True) -> None:
        """Add one value of each term; with ``gate`` they all must be finite for the update to happen."""
        values = torch.stack([value.detach().float() for value in terms.values()])
        if gate:
            self.ok = self.ok & values.isfinite().all()
        for name, value in zip(terms, values.unbind(), strict=True):
            self.sums[name] = self.sums[name] + value if name in self.sums else value
            self.counts[name] = self.counts.get(name, 0) + 1

    def peek(self, mean: Callable[[Tensor], Any]) -> dict[str, float]:
        """Means over the window; the one wait for the device."""
        if not self.sums:
            return {}
        values = mean(torch.stack(list(self.sums.values()))).tolist()
        return {name: value / self.counts[name] for name, value in zip(self.sums, values, strict=True)}

    def read(self, mean: Callable[[Tensor], Any]) -> dict[str, float]:
        """Like :meth:`peek`, and the next window begins."""
        means = self.peek(mean)
        for name, value in means.items():
            total = self.epoch.setdefault(name, [0.0, 0])
            total[0] += value * self.counts[name]
            total[1] += self.counts[name]
        self.sums, self.counts = {}, {}
        return means

    def read_epoch(self) -> dict[str, float]:
        """Means over the windows read since the last call."""
        means = {name: total / count for name, (total, count) in self.epoch.items()}
        self.epoch = {}
        return means

    def state(self) -> dict[str, Any]:
        """What a resumed run needs to report the same numbers."""
        return {"sums": self.sums, "counts": self.counts, "epoch": self.epoch}

    def restore(self, state: Mapping[str, Any]) -> None:
        """The reverse of :meth:`state`."""
        self.sums = {name: value.to(self.device) for name, value in state["sums"].items()}
        self.counts, self.epoch = dict(state["counts"]), dict(state["epoch"])


def check_finite(means: Mapping[str, float], collapsed: bool, update: int, saved: str | None) -> None:
    """Stop if a term or the gradient was not finite since the last reading.

    Args:
        means: of the window; the gradient's norm is called ``"gradient"``.
        collapsed: fp16 gradients overflow at any loss scale.
        update: updates done.
        saved: the newest checkpoint.

    Raises: NonFiniteError that names what broke.
    """
    broken = [name for name, value in means.items() if not math.isfinite(value)] + ["gradient"] * collapsed
    if not broken:
        return
    terms = [name for name in broken if name != "gradient"] or broken[:1]  # a broken loss has a broken gradient
    kept = f"the last good checkpoint is {saved}" if saved else "no checkpoint was due yet"
    raise NonFiniteError(
        f"{', '.join(terms)} became NaN or infinite by update {update}. No update was made with it; {kept}. "
        "Try a lower lr, clip=1.0, or precision='no'"
    )
