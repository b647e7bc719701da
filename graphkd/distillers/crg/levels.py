"""Pairs of feature maps, the levels of multi-level distillation: found, sized and weighed."""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import nn

from graphkd.distillers.sizes import MapPairs, Sizes, pair_names
from graphkd.errors import OptionError
from graphkd.features import Features
from graphkd.registry import unknown
from graphkd.typing import Float, Tensor

Probed = Features | Mapping[str, int] | Callable[[Tensor], Features]


class Level(NamedTuple):
    """One pair of maps: their names and numbers of channels."""

    student: str
    teacher: str
    student_channels: int
    teacher_channels: int


def pair_levels(
    student: Probed,
    teacher: Probed,
    maps: MapPairs = None,
    probe: Float[Tensor, "b 3 h w"] | None = None,
) -> list[Level]:
    """Levels with their numbers of channels; arguments and errors as of ``CRGDistiller.between``."""
    ours, theirs = _channels(student, "student", probe), _channels(teacher, "teacher", probe)
    return [Level(s, t, ours[s], theirs[t]) for s, t in pair_names(maps, ours, theirs, "maps", "CRG")]


def share_of_levels(levels: Sequence[Level], reduction: str, extra: Mapping[str, float]) -> dict[Level, float]:
    """Weight of each level: an equal share of a mean, or 1 of a sum, times what was given for the student's map."""
    if reduction not in ("mean", "sum"):
        raise unknown("reduction over levels", reduction, ["mean", "sum"])
    if strange := sorted(extra.keys() - {level.student for level in levels}):
        raise unknown("level", strange[0], [level.student for level in levels])
    share = 1 / len(levels) if reduction == "mean" else 1.0
    return {level: share * extra.get(level.student, 1.0) for level in levels}


def _channels(side: Probed, name: str, probe: Tensor | None) -> dict[str, int]:
    if isinstance(side, Features):
        side.need("maps", f"CRG ({name})")
        return dict(Sizes.of(side).maps)
    if isinstance(side, Mapping):
        return dict(side)
    if probe is None:
        raise OptionError(f"give the {name}'s Features of a batch, its channels by map, or probe=images to run it with")
    training = isinstance(side, nn.Module) and side.training
    with torch.no_grad():
        features = (side.eval() if isinstance(side, nn.Module) else side)(probe)
    if isinstance(side, nn.Module):
        side.train(training)
    return _channels(features, name, None)
