"""Layers from the student's maps to the teacher's channels."""

from collections.abc import Callable, Sequence

from torch import nn

from graphkd.distillers.parts import maps_of
from graphkd.errors import ShapeError
from graphkd.features import Features
from graphkd.registry import Registry
from graphkd.typing import Float, Side, Tensor

Adapter = Callable[[int, int], nn.Module]
ADAPTERS: Registry[Adapter] = Registry("adapter")


@ADAPTERS.register("conv")
def _conv(student: int, teacher: int) -> nn.Module:
    return nn.Conv2d(student, teacher, 1)


@ADAPTERS.register("conv_bn")
def _conv_bn(student: int, teacher: int) -> nn.Module:
    return nn.Sequential(nn.Conv2d(student, teacher, 1), nn.BatchNorm2d(teacher))


@ADAPTERS.register("conv_bn_relu")
def _conv_bn_relu(student: int, teacher: int) -> nn.Module:
    return nn.Sequential(_conv_bn(student, teacher), nn.ReLU())


@ADAPTERS.register("none")
def _none(student: int, teacher: int) -> nn.Module:
    if student != teacher:
        raise ShapeError(
            f"student maps have {student} channels, teacher maps {teacher}, and adapter='none' leaves them so: "
            "use adapter='conv_bn'"
        )
    return nn.Identity()


@ADAPTERS.register("auto")
def _auto(student: int, teacher: int) -> nn.Module:
    """CRG: only where channels are compared one by one and their numbers differ."""
    if student == teacher:
        return nn.Identity()
    return nn.Sequential(nn.Conv2d(student, teacher, 1, bias=False), nn.BatchNorm2d(teacher))


def adapt(
    adapters: nn.ModuleList, channels: Sequence[tuple[int, int]], features: Features, side: Side, reader: str
) -> list[Float[Tensor, "b c h w"]]:
    """One side's maps, the student's in the teacher's channels. Raises: ShapeError for maps of other channels."""
    maps = maps_of(features)
    expected, found = [pair[side == "teacher"] for pair in channels], [each.shape[1] for each in maps]
    if found != expected:
        raise ShapeError(
            f"{reader} was built for {side} maps of {expected} channels, found {found}: name the pairs, maps={{...}}, "
            "or let between(student(images), teacher(images)) find the sizes"
        )
    if side == "teacher":
        return maps
    return [adapter(each) for adapter, each in zip(adapters, maps, strict=True)]
