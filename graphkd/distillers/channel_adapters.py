"""Maps from the student's channels to the teacher's, for methods that compare channel by channel."""

from collections.abc import Callable

from torch import nn
from torch.func import functional_call

from graphkd.registry import Registry
from graphkd.typing import Tensor

Adapter = Callable[[int, int], nn.Module]
ADAPTERS: Registry[Adapter] = Registry("adapter")


@ADAPTERS.register("auto")
def adapter_if_needed(student: int, teacher: int) -> nn.Module:
    """1x1 convolution without bias and BatchNorm if the numbers of channels differ."""
    return nn.Identity() if student == teacher else adapter_always(student, teacher)


@ADAPTERS.register("always")
def adapter_always(student: int, teacher: int) -> nn.Module:
    """1x1 convolution without bias and BatchNorm in every case (ICKD)."""
    return nn.Sequential(nn.Conv2d(student, teacher, 1, bias=False), nn.BatchNorm2d(teacher))


@ADAPTERS.register("conv")
def adapter_convolution(student: int, teacher: int) -> nn.Module:
    """The convolution alone, if the numbers of channels differ."""
    return nn.Identity() if student == teacher else nn.Conv2d(student, teacher, 1, bias=False)


@ADAPTERS.register("none")
def no_adapter(student: int, teacher: int) -> nn.Module:
    """The student's maps as they are."""
    return nn.Identity()


def frozen_output(module: nn.Module, x: Tensor) -> Tensor:
    """The module's output without gradient for its parameters, and without a second update of its statistics."""
    state: dict[str, Tensor] = {name: each.detach() for name, each in module.named_parameters()}
    state |= {name: each.clone() for name, each in module.named_buffers()}
    output: Tensor = functional_call(module, state, (x,))
    return output
