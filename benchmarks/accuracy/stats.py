"""Means of seeds and paired differences with Student's intervals."""

from collections.abc import Sequence
from math import sqrt
from statistics import mean, stdev
from typing import NamedTuple

# two-sided 95 % quantiles of Student's t for 1, 2, ... degrees of freedom
_T95 = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262)


class Difference(NamedTuple):
    """Mean of paired differences and half the width of its 95 % interval (``None`` for one pair)."""

    mean: float
    half: float | None
    error: float | None
    pairs: int

    @property
    def above_zero(self) -> bool:
        """Whether the whole interval lies above 0."""
        return self.half is not None and self.mean - self.half > 0

    @property
    def errors(self) -> str:
        """How many standard errors the mean is from 0; in bold beyond two: a default changes if on two data sets."""
        if not self.error:
            return ""
        found = round(self.mean / self.error, 1) + 0.0  # no -0.0
        return f"**{found:+.1f}**" if abs(found) > 2 else f"{found:+.1f}"

    @property
    def beyond_two_errors(self) -> bool:
        """Whether it is a gain by the rule for defaults."""
        return self.error is not None and self.mean > 2 * self.error

    def __str__(self) -> str:
        if self.half is None:
            return f"{self.mean:+.2f} (one pair)"
        return f"{self.mean:+.2f} [{self.mean - self.half:+.2f}, {self.mean + self.half:+.2f}]"


def paired(ours: Sequence[float], theirs: Sequence[float]) -> Difference:
    """ours - theirs, pair by pair. Raises: ValueError for sequences of different lengths."""
    differences = [round(a - b, 9) for a, b in zip(ours, theirs, strict=True)]  # equal gains stay equal
    if len(differences) < 2:
        return Difference(mean(differences), None, None, len(differences))
    error = stdev(differences) / sqrt(len(differences))
    quantile = _T95[len(differences) - 2] if len(differences) <= len(_T95) + 1 else 1.96
    return Difference(round(mean(differences), 9) + 0.0, quantile * error, error, len(differences))


def mean_std(values: Sequence[float]) -> str:
    """``62.6 ± 1.7``; one value has no deviation."""
    return f"{mean(values):.2f}" + (f" ± {stdev(values):.2f}" if len(values) > 1 else "")
