"""From measured times to choices: from which size on which backend is the fastest."""

from collections.abc import Collection, Mapping, Sequence
from itertools import pairwise
from math import exp, log

from graphkd_kernels.machine_plan import Steps

Point = tuple[int, Mapping[str, float]]
"""A size, and milliseconds by backend."""
_BETWEEN = 32  # sizes that are looked at between two that were measured
_ORDER = ("eager", "blocked", "triton")  # each holds less memory than the one before
_GAIN = 0.97  # of the time of a backend that holds less: clocks say no more


def steps(points: Sequence[Point], allowed: Collection[str]) -> Steps:
    """The fastest backend by size; between two sizes, time is a power of size. Some point has an allowed backend.

    A backend that holds less memory is chosen where it is no slower, and left where another is clearly faster.
    """
    order = [name for name in _ORDER if name in allowed]
    known = [(size, {name: ms[name] for name in order if name in ms}) for size, ms in sorted(points, key=_size)]
    found: list[tuple[int, str]] = []
    for size, ms in _dense([each for each in known if each[1]]):
        chosen = found[-1][1] if found and found[-1][1] in ms else next(iter(ms))
        for name in ms:
            lighter = _ORDER.index(name) > _ORDER.index(chosen)
            if ms[name] <= ms[chosen] if lighter else ms[name] < _GAIN * ms[chosen]:
                chosen = name
        if not found or chosen != found[-1][1]:
            found.append((size if found else 0, chosen))
    return tuple(found)


def _size(point: Point) -> int:
    return point[0]


def _dense(points: Sequence[Point]) -> list[Point]:
    """The points and some between each two, of backends that both have."""
    found = list(points[:1])
    for (size, ms), (larger, later) in pairwise(points):
        if larger == size:
            continue
        for i in range(1, _BETWEEN + 1):
            share = i / _BETWEEN
            at = round(exp(log(size) * (1 - share) + log(larger) * share)) if i < _BETWEEN else larger
            both = [name for name in later if name in ms]
            found.append((at, {n: exp(log(ms[n]) * (1 - share) + log(later[n]) * share) for n in both} or dict(later)))
    return found
