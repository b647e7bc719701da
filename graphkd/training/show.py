"""What a person sees while a run goes on: a progress bar with rate, remaining time and every loss term."""

import time
from collections.abc import Mapping
from typing import Any

from graphkd.training.config import TrainConfig
from graphkd.training.state import Progress


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

    def epoch(self, at: Progress, means: Mapping[str, float], scored: bool) -> None:
        """One line for the epoch that ended; the score only where this epoch was scored."""
        if self.hidden:
            return
        terms = "  ".join(f"{name} {value:.4f}" for name, value in means.items())
        score = f"  top-1 {100 * at.score:.2f} %" if scored and at.score is not None else ""
        self.bar.write(f"epoch {at.epoch}/{self.epochs}  {terms}{score}  {at.seconds:.0f} s")

    def close(self) -> None:
        """Leave the bar as it is."""
        self.bar.close()
