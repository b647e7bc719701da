"""Pairs of feature maps, the levels of multi-level distillation: found and sized."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch
from torch import nn

from graphkd.distillers.sizes import MapPairs, Sizes, pair_names
from graphkd.errors import MissingFeatureError, OptionError, ShapeError
from graphkd.features import Features
from graphkd.typing import Float, Side, Tensor

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


def map_of(features: Features, level: Level, side: Side) -> Float[Tensor, "b c h w"]:
    """One side's map of a level. Raises: MissingFeatureError, ShapeError."""
    name, channels = level[::2] if side == "student" else level[1::2]
    maps: Mapping[str, Tensor] = features.need("maps", f"CRG ({side})")
    if name not in maps:
        raise MissingFeatureError(f"the {side} has no map {name!r}: name one of {', '.join(sorted(maps))}")
    if maps[name].ndim != 4 or maps[name].shape[1] != channels:
        raise ShapeError(
            f"{side} map {name!r}: found {tuple(maps[name].shape)}, expected (b, {channels}, h, w): "
            "CRGDistiller.between(student_features, teacher_features) sizes itself"
        )
    return maps[name]


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
