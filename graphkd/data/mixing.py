"""Mixup and cutmix of the student's images, without labels."""

from dataclasses import dataclass
from math import sqrt

import numpy as np
import torch

from graphkd.data.seeds import derived_generator
from graphkd.errors import OptionError
from graphkd.features import Mixture
from graphkd.typing import Float, Tensor

# timm's Mixup blends labels as well (there are none here) and draws from numpy's global generator (no exact resume).


def mixing_generator(seed: int, epoch: int, step: int, rank: int = 0) -> torch.Generator:
    """The generator of one step's mixing, so that a resumed run mixes as an unbroken one."""
    return derived_generator(seed, epoch, step, rank, "mixing")


@dataclass(frozen=True)
class Mixing:
    r"""Blend each image of a batch with another one of it.

    .. math:: \text{mixup: } \tilde x_i = \lambda x_i + (1 - \lambda) x_{\pi(i)}, \qquad
              \text{cutmix: } \tilde x_i = x_i \text{ with a box of } x_{\pi(i)}, \qquad
              \lambda \sim \mathrm{Beta}(\alpha, \alpha)

    The box has the share :math:`1 - \lambda` of the area before it is cut at the border; the mixture says the true one.

    Paper: Zhang et al., "mixup", ICLR 2018, eq. 2; Yun et al., "CutMix", ICCV 2019, eqs. 1-2.

    Args:
        mixup_alpha: of mixup's Beta; 0 turns mixup off.
        cutmix_alpha: of cutmix's Beta; 0 turns cutmix off. With both on, each batch takes either with probability 1/2.
        prob: probability that a batch is mixed at all.

    Shapes: images (b, 3, h, w) -> images (b, 3, h, w), mixture of (b,) and (b,).

    Example: ``images, mixture = Mixing(mixup_alpha=0.2)(images, mixing_generator(seed, epoch, step))``
    """

    mixup_alpha: float = 0.0
    cutmix_alpha: float = 0.0
    prob: float = 1.0

    def __post_init__(self) -> None:
        if self.mixup_alpha < 0 or self.cutmix_alpha < 0 or not 0 <= self.prob <= 1:
            raise OptionError(f"expected alphas >= 0 and prob in [0, 1], found {self}")

    def __call__(
        self, images: Float[Tensor, "b 3 h w"], generator: torch.Generator
    ) -> tuple[Float[Tensor, "b 3 h w"], Mixture]:
        alphas = [(_mixup, self.mixup_alpha), (_cutmix, self.cutmix_alpha)]
        ways = [(mix, alpha) for mix, alpha in alphas if alpha > 0]
        # numpy has a Beta that takes a generator, torch has none
        draw = np.random.default_rng(int(torch.randint(2**62, (), generator=generator)))
        if not ways or draw.random() >= self.prob:
            return images, Mixture(torch.arange(len(images), device=images.device), images.new_ones(len(images)))
        permutation = torch.from_numpy(draw.permutation(len(images))).to(images.device, non_blocking=True)
        mix, alpha = ways[draw.integers(len(ways))]
        mixed, share = mix(images, images[permutation], draw.beta(alpha, alpha), draw)
        return mixed, Mixture(permutation, images.new_full((len(images),), share))


def _mixup(images: Tensor, partners: Tensor, share: float, _: np.random.Generator) -> tuple[Tensor, float]:
    return torch.lerp(partners, images, share), share


def _cutmix(images: Tensor, partners: Tensor, share: float, draw: np.random.Generator) -> tuple[Tensor, float]:
    height, width = images.shape[-2:]
    top, bottom = _span(height, sqrt(1 - share), draw)
    left, right = _span(width, sqrt(1 - share), draw)
    mixed = images.clone()
    mixed[..., top:bottom, left:right] = partners[..., top:bottom, left:right]
    return mixed, 1 - (bottom - top) * (right - left) / (height * width)


def _span(length: int, share: float, draw: np.random.Generator) -> tuple[int, int]:
    """A stretch of about ``share * length`` around a random centre, cut at both ends."""
    start = int(draw.integers(length)) - int(share * length) // 2
    return max(start, 0), min(start + int(share * length), length)
