"""Feature maps of two sizes averaged to one."""

from torch.nn.functional import adaptive_avg_pool2d

from graphkd.typing import Float, Tensor


def pooled(maps: Float[Tensor, "b c y x"], h: int, w: int) -> Float[Tensor, "b c h w"]:
    """The map averaged to h x w positions; as it is where it has that size."""
    return maps if maps.shape[2:] == (h, w) else adaptive_avg_pool2d(maps, (h, w))


def to_smaller(
    first: Float[Tensor, "b c y x"], second: Float[Tensor, "b d y2 x2"], cap: int | None = None
) -> tuple[Float[Tensor, "b c h w"], Float[Tensor, "b d h w"]]:
    """Two maps, averaged to the smaller height and the smaller width of both, ``cap`` at most; default no limit."""
    h, w = (min(a, b, cap or a) for a, b in zip(first.shape[2:], second.shape[2:], strict=True))
    return pooled(first, h, w), pooled(second, h, w)
