r"""Attention masks of feature maps: which channels and which positions a comparison should stress.

Both masks have mean 1 over what they weigh, so a weighted mean keeps its scale when attention is switched off.
"""

from collections.abc import Callable
from dataclasses import dataclass

from graphkd.errors import OptionError
from graphkd.registry import Registry
from graphkd.typing import Float, Tensor


@dataclass(frozen=True)
class Masks:
    """Weights of channels and positions, non-negative, each with mean 1, without gradient.

    Shapes: channel (*b, c), spatial (*b, n).
    """

    channel: Float[Tensor, "*b c"]
    spatial: Float[Tensor, "*b n"]


Attention = Callable[..., Masks]  # (student, teacher), most with a temperature tau=
ATTENTION: Registry[Attention] = Registry("attention")


def channel_attention(vertices: Float[Tensor, "*b c n"], tau: float = 0.5) -> Float[Tensor, "*b c"]:
    r"""FGD's channel mask: channels of large mean activation weigh more.

    .. math:: A^c = C\, \mathrm{softmax}_i(G^c / \tau), \quad G^c_i = \tfrac1N \sum_p |F_{ip}|

    Paper: Yang et al., "Focal and Global Knowledge Distillation for Detectors", CVPR 2022, eqs. 4 and 6.
    Args:
        vertices: feature maps, one row of positions for each channel.
        tau: softmax temperature, > 0; default 0.5.
    Shapes: (*b, c, n) -> (*b, c), mean 1.
    Raises: OptionError for a temperature <= 0.
    Example: ``channel_attention(torch.zeros(2, 3))`` is ``[1, 1]``.
    """
    return vertices.shape[-2] * _tempered(vertices.abs().mean(-1), tau)


def spatial_attention(vertices: Float[Tensor, "*b c n"], tau: float = 0.5) -> Float[Tensor, "*b n"]:
    r"""FGD's spatial mask: positions of large mean activation weigh more.

    .. math:: A^s = N\, \mathrm{softmax}_p(G^s / \tau), \quad G^s_p = \tfrac1C \sum_i |F_{ip}|

    Paper: Yang et al., CVPR 2022, eqs. 3 and 5.
    Args:
        vertices: feature maps, one row of positions for each channel.
        tau: softmax temperature, > 0; default 0.5.
    Shapes: (*b, c, n) -> (*b, n), mean 1.
    Raises: OptionError for a temperature <= 0.
    Example: ``spatial_attention(torch.zeros(2, 3))`` is ``[1, 1, 1]``.
    """
    return vertices.shape[-1] * _tempered(vertices.abs().mean(-2), tau)


def _tempered(activity: Tensor, tau: float) -> Tensor:
    if tau <= 0:
        raise OptionError(f"tau is a softmax temperature > 0, found {tau}")
    return (activity / tau).softmax(-1)


@ATTENTION.register("teacher")
def teacher_attention(student: Float[Tensor, "*b c n"], teacher: Float[Tensor, "*b c n"], tau: float = 0.5) -> Masks:
    """FGD: the teacher says what matters. ``tau``: softmax temperature, > 0; default 0.5."""
    teacher = teacher.detach()
    return Masks(channel_attention(teacher, tau), spatial_attention(teacher, tau))


@ATTENTION.register("off")
def no_attention(student: Float[Tensor, "*b c n"], teacher: Float[Tensor, "*b c n"]) -> Masks:
    """Masks of ones: every channel and every position counts the same."""
    *batch, channels, positions = teacher.shape
    return Masks(teacher.new_ones(*batch, channels), teacher.new_ones(*batch, positions))
