"""Loss terms summed on the device, the flag that says whether all were finite, and the progress bar that shows them."""

import math
import time
from collections.abc import Callable, Mapping
from typing import Any

import torch

from graphkd.errors import CheckpointError, NonFiniteError
from graphkd.training.config import TrainConfig
from graphkd.training.metrics import Scores
from graphkd.training.quality import AnyQuality
from graphkd.training.state import Progress
from graphkd.typing import Bool, Float, Tensor


class Meter:
    """Means of named scalars over a window of steps and over an epoch, read from the device only on demand.

    ``ok`` is the device's flag for the current update: every term since :meth:`start` was finite.

    Args:
        device: where terms are summed.
        tolerant: keep values that are not finite out of the means.

    Attributes:
        totals: sum of each term as of the latest reading, mean over all processes.
        broken: how often a term was not finite, likewise; only of those that ever were, where ``tolerant``.
    """

    def __init__(self, device: torch.device | str, tolerant: bool = False) -> None:
        self.device, self.tolerant = device, tolerant
        self.totals: dict[str, float] = {}
        self.broken: dict[str, float] = {}
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
        finite = values.isfinite()
        if gate:
            self.ok = self.ok & finite.all()
        if self.tolerant:
            values = torch.stack([torch.where(finite, values, 0), (~finite).float()], 1)
        for name, value in zip(terms, values.unbind(), strict=True):
            self.sums[name] = self.sums[name] + value if name in self.sums else value
            self.counts[name] = self.counts.get(name, 0) + 1

    def peek(self, mean: Callable[[Tensor], Any]) -> dict[str, float]:
        """Means over the window; the one wait for the device."""
        if not self.sums:
            self.totals, self.broken = {}, {}
            return {}
        values = mean(torch.stack(list(self.sums.values()))).tolist()
        if self.tolerant:
            self.broken = {name: bad for name, (_, bad) in zip(self.sums, values, strict=True) if bad}
            values = [value for value, _ in values]
        self.totals = dict(zip(self.sums, values, strict=True))
        return {name: value / self._good(name) for name, value in self.totals.items()}

    def _good(self, name: str) -> float:
        """How many values are in a term's mean; NaN for none."""
        return self.counts[name] - self.broken.get(name, 0.0) or math.nan

    def read(self, mean: Callable[[Tensor], Any]) -> dict[str, float]:
        """Like :meth:`peek`, and the next window begins."""
        means = self.peek(mean)
        for name, value in means.items():
            if self._good(name) > 0:  # NaN is not
                total = self.epoch.setdefault(name, [0.0, 0])
                total[0] += value * self._good(name)
                total[1] += self._good(name)
        self.sums, self.counts = {}, {}
        return means

    def read_epoch(self) -> dict[str, float]:
        """Means over the windows read since the last call."""
        means = {name: total / count for name, (total, count) in self.epoch.items()}
        self.epoch = {}
        return means

    def state(self, mean: Callable[[Tensor], Tensor]) -> dict[str, Any]:
        """What a resumed run needs to report the same numbers, one row a name: means over all processes."""
        names = list(dict.fromkeys([*self.sums, *self.epoch]))
        window = torch.zeros(len(names), 2)  # sum, and how many of its values were not finite
        if self.sums:
            means = mean(torch.stack(list(self.sums.values()))).cpu()
            window[: len(means)] = means if self.tolerant else torch.stack([means, torch.zeros_like(means)], 1)
        epoch = torch.tensor([self.epoch.get(name, [0.0, 0.0]) for name in names], dtype=torch.float64).view(-1, 2)
        return {
            "names": names, "window": window, "counts": [self.counts.get(name, 0) for name in names], "epoch": epoch,
        }  # fmt: skip

    @staticmethod
    def check(state: Mapping[str, Any]) -> None:
        """Raises: CheckpointError unless this is what :meth:`state` gave."""
        names, counts = state["names"], state["counts"]
        rows = [(state[name].shape, state[name].dtype) for name in ("window", "epoch")]
        shape = torch.Size([len(names), 2])
        fit = type(names) is type(counts) is list and len({*names}) == len(names) == len(counts) and len(state) == 4
        if not fit or any(type(name) is not str for name in names) or any(type(n) is not int or n < 0 for n in counts):
            raise CheckpointError("its loss terms and their counts do not fit together")
        if rows != [(shape, torch.float32), (shape, torch.float64)]:
            raise CheckpointError(f"its loss terms are {rows}, expected {len(names)} rows")

    def restore(self, state: Mapping[str, Any]) -> None:
        """The reverse of :meth:`state`, of a run with the other way to treat what is not finite too."""
        window = state["window"] if self.tolerant else state["window"][:, 0]
        rows = zip(state["names"], window.to(self.device), state["counts"], state["epoch"].tolist(), strict=True)
        for name, value, count, epoch in rows:
            if count:
                self.sums[name], self.counts[name] = value.clone(), count
            if epoch[1]:
                self.epoch[name] = epoch


def check(
    meter: Meter, means: Mapping[str, float], config: TrainConfig, collapsed: bool, at: Progress, saved: str | None
) -> int:
    """Stop where the options say so.

    Args:
        means: the latest reading; the gradient's norm is called ``"gradient"``.
        collapsed: fp16 gradients overflow at any loss scale.
        saved: the newest checkpoint.

    Returns: updates left out in all.
    Raises: NonFiniteError that names what broke, at once or where too many updates were left out.
    """
    kept = f"the last good checkpoint is {saved}" if saved else "no checkpoint was due yet"
    skipped = at.skipped + round(meter.totals.get("refused", 0.0))
    if config.nonfinite != "stop":  # what is not finite is left out, unless nothing else is left
        means = dict.fromkeys(meter.broken, math.nan) if collapsed else {}
    broken = [name for name, value in means.items() if not math.isfinite(value)] + ["gradient"] * collapsed
    terms = [name for name in broken if name != "gradient"] or broken[:1]  # a broken loss has a broken gradient
    if terms:
        raise NonFiniteError(
            f"{', '.join(terms)} became NaN or infinite by update {at.update}. No update was made with it; "
            f"{kept}. Try a lower lr, clip=1.0, precision='no', or nonfinite='skip'"
        )
    if config.nonfinite == "skip" and skipped > config.max_skips:
        raise NonFiniteError(
            f"{', '.join(meter.broken)} became NaN or infinite again: {skipped} updates were left out by update "
            f"{at.update}, and max_skips is {config.max_skips}; {kept}. Try a lower lr, clip=1.0, or precision='no'"
        )
    return skipped


class Display:
    """A bar over the images of the whole run on a terminal, and one line per epoch anywhere.

    Args:
        config: of the run.
        batches: of an epoch.
        at: what is behind us.
        hidden: show nothing.
    """

    def __init__(self, config: TrainConfig, batches: int, at: Progress, hidden: bool) -> None:
        from tqdm import tqdm

        self.epochs, self.hidden = config.epochs, hidden
        images, done = batches * config.batch_size, (at.epoch * batches + at.batch) * config.batch_size
        disable = True if hidden else None  # None: only a terminal gets a bar
        self.bar: Any = tqdm(total=self.epochs * images, initial=done, unit="img", unit_scale=True, disable=disable)
        self.seen, self.since = 0, time.perf_counter()

    def advance(self, images: int) -> None:
        """Count images; costs nothing on the device."""
        self.seen += images
        self.bar.update(images)

    def show(self, at: Progress, terms: Mapping[str, float]) -> float:
        """Update the bar's text; images per second since the last call."""
        now = time.perf_counter()
        rate = self.seen / max(now - self.since, 1e-9)
        self.seen, self.since = 0, now
        self.bar.set_description(f"epoch {at.epoch + 1}/{self.epochs}", refresh=False)
        self.bar.set_postfix({name: f"{value:.4g}" for name, value in terms.items()})
        return rate

    def epoch(
        self,
        at: Progress,
        means: Mapping[str, float],
        scores: Scores | None,
        quality: AnyQuality | None = None,
    ) -> None:
        """One line for the epoch that ended; score and agreement only where this epoch was scored."""
        if self.hidden:
            return
        terms = "  ".join(f"{name} {value:.4f}" for name, value in means.items())
        score = "" if scores is None else f"  top-1 {100 * scores.top1:.2f} %"
        score += "" if quality is None else f"  agreement {100 * quality.agreement:.2f} %"
        self.bar.write(f"epoch {at.epoch}/{self.epochs}  {terms}{score}  {at.seconds:.0f} s in all")

    def close(self) -> None:
        """Leave the bar as it is."""
        self.bar.close()
