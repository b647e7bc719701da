"""Layers from the student's maps to the teacher's channels: two families, whose names mean different layers."""

from collections.abc import Callable

from torch import nn

from graphkd.distillers.parts import maps_of
from graphkd.errors import ShapeError
from graphkd.features import Features
from graphkd.registry import Registry
from graphkd.typing import Float, Tensor

Adapter = Callable[[int, int], nn.Module]
MAP_ADAPTERS: Registry[Adapter] = Registry("adapter")
"""FitNet, ICKD, EIKD: a convolution with bias for every map, whatever its channels."""
CHANNEL_ADAPTERS: Registry[Adapter] = Registry("adapter")
"""CRG: a convolution without bias, where channels are compared one by one and their numbers differ."""


@MAP_ADAPTERS.register("conv")
def _conv(student: int, teacher: int) -> nn.Module:
    return nn.Conv2d(student, teacher, 1)


@MAP_ADAPTERS.register("conv_bn")
def _conv_bn(student: int, teacher: int) -> nn.Module:
    return nn.Sequential(nn.Conv2d(student, teacher, 1), nn.BatchNorm2d(teacher))


@MAP_ADAPTERS.register("conv_bn_relu")
def _conv_bn_relu(student: int, teacher: int) -> nn.Module:
    return nn.Sequential(_conv_bn(student, teacher), nn.ReLU())


@MAP_ADAPTERS.register("none")
def _none(student: int, teacher: int) -> nn.Module:
    if student != teacher:
        raise ShapeError(
            f"student maps have {student} channels, teacher maps {teacher}, and adapter='none' leaves them so: "
            "use adapter='conv_bn'"
        )
    return nn.Identity()


@CHANNEL_ADAPTERS.register("auto")
def adapter_if_needed(student: int, teacher: int) -> nn.Module:
    """1x1 convolution without bias and BatchNorm if the numbers of channels differ."""
    return nn.Identity() if student == teacher else adapter_always(student, teacher)


@CHANNEL_ADAPTERS.register("always")
def adapter_always(student: int, teacher: int) -> nn.Module:
    """1x1 convolution without bias and BatchNorm in every case (ICKD)."""
    return nn.Sequential(nn.Conv2d(student, teacher, 1, bias=False), nn.BatchNorm2d(teacher))


@CHANNEL_ADAPTERS.register("conv")
def adapter_convolution(student: int, teacher: int) -> nn.Module:
    """The convolution alone, if the numbers of channels differ."""
    return nn.Identity() if student == teacher else nn.Conv2d(student, teacher, 1, bias=False)


@CHANNEL_ADAPTERS.register("none")
def no_adapter(student: int, teacher: int) -> nn.Module:
    """The student's maps as they are."""
    return nn.Identity()


def adapt(adapters: nn.ModuleList, features: Features, reader: str) -> list[Float[Tensor, "b c h w"]]:
    """The student's maps in the teacher's channels. Raises: ShapeError for maps of other channels or number."""
    maps = maps_of(features)
    if len(maps) != len(adapters):
        raise ShapeError(f"{reader} was built for {len(adapters)} maps, found {len(maps)}: name them, maps={{...}}")
    return [_checked(adapter, each, reader)(each) for adapter, each in zip(adapters, maps, strict=True)]


def _checked(adapter: nn.Module, each: Tensor, reader: str) -> nn.Module:
    for module in adapter.modules():
        if isinstance(module, nn.Conv2d) and module.in_channels != each.shape[1]:
            raise ShapeError(
                f"{reader} was built for a student map of {module.in_channels} channels, found {each.shape[1]}: "
                "between(student(images), teacher(images)) sizes itself"
            )
    return adapter
