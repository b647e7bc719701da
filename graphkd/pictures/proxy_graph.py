"""The sample-proxy graph drawn: images as nodes, class proxies as names, strong edges as thick lines."""

from collections.abc import Mapping, Sequence
from textwrap import wrap
from typing import Any

import torch

from graphkd.errors import MissingFeatureError, ShapeError
from graphkd.pictures.canvas import CLASS_COLOURS, canvas, drawn, finite, known_labels, label, name_of
from graphkd.typing import Float, Int, Tensor

_EDGES, _IMAGES, _PROXIES = 2, 40, 20  # most edges of an image; images; names that a circle has room for
_LINE, _MANY = 13, 12  # characters of a line of a name; names from which they are small
_SIDE, _INNER = 0.13, 0.8  # of a thumbnail, and of the disc that holds them; the circle of proxies has radius 1
_ROUNDS = 300  # of pushing thumbnails apart


@drawn
def draw_proxy_graph(
    edges: Mapping[str, Float[Tensor, "n c"]],
    images: Float[Tensor, "n 3 h w"] | Int[Tensor, "n 3 h w"],
    labels: Int[Tensor, " n"] | None = None,
    classes: Sequence[str] | None = None,
) -> Any:
    """Each network's two strongest edges between images and class proxies, of at most 40 images.

    Proxies stand on a circle, at the same places for every network; an image lies between its two proxies, nearer to
    the stronger, and is moved until none covers another. The frame of an image has the colour of its class, an edge
    that of the proxy that it leads to: a thick edge of another colour than the frame is a mistake in the making.

    Args:
        edges: weights by name of the network; any scale, larger is closer.
        images: in [0, 1], or uint8; of many, those drawn are spread evenly over the classes.
        labels: class of each image, for the frames; default no frames.
        classes: names by number.

    Returns: a ``matplotlib.figure.Figure`` with one panel a network.
    Raises: MissingFeatureError without a network; ShapeError where edges, images and labels do not fit; NonFiniteError
        for NaN.
    Example: ``draw_proxy_graph({"teacher": t, "student": s}, images, labels, names)``
    """
    if not edges:
        raise MissingFeatureError("there is no graph to draw: no network has edges to class proxies")
    sides = {name: finite(f"{name}'s edges", each) for name, each in edges.items()}
    count, width = next(iter(sides.values())).shape
    for name, each in sides.items():
        if each.shape != (count, width) or len(images) != count:
            raise ShapeError(f"{name}: {len(images)} images and edges {tuple(each.shape)}, expected ({count}, {width})")
    given = known_labels(labels, count, classes)
    order = given.argsort(stable=True)
    chosen = order[torch.linspace(0, count - 1, min(_IMAGES, count)).round().long()]
    frames = ["#444444" if labels is None else _colour(number) for number in given[chosen].tolist()]
    sides = {name: each[chosen] for name, each in sides.items()}
    shown = _shown(list(sides.values()))
    names = {number: name_of(classes, number) for number in shown.tolist()}
    figure, axes = canvas(6.8 * len(sides), 6.0, 1, len(sides))
    for axis, (name, each) in zip(axes, sides.items(), strict=True):
        _panel(axis, each[:, shown], images[chosen], frames, names)
        axis.set_title(label(name))
    return figure


def _shown(sides: list[Tensor]) -> Tensor:
    """The proxies that the strongest edges lead to, ascending, as many as there is room for."""
    count, width = sides[0].shape
    ranked = torch.stack([each.topk(min(_EDGES, width)).indices for each in sides])
    first, reached = (torch.bincount(each.flatten(), minlength=width) for each in (ranked[..., 0], ranked))
    rank = (first * (len(sides) * count * width + 1) + reached).argsort(descending=True, stable=True)
    return rank[:_PROXIES].sort().values


def _panel(axis: Any, edges: Tensor, images: Tensor, frames: Sequence[str], names: Mapping[int, str]) -> None:
    from matplotlib.collections import LineCollection

    count, width = edges.shape
    top = edges.topk(min(_EDGES, width))
    low, high = float(top.values.min()), float(top.values.max())
    strength = (top.values - low) / (high - low) if high > low else torch.ones_like(top.values)
    angles = torch.arange(width) * (2 * torch.pi / width) + torch.pi / 2
    circle = torch.stack([angles.cos(), angles.sin()], 1)
    side = min(_SIDE, 1.3 * _INNER / count**0.5)
    places = _places(circle[top.indices], strength, 1.12 * side)
    lines = torch.stack([places[:, None].expand(-1, top.indices.shape[1], -1), circle[top.indices]], 2).flatten(0, 1)
    colours = [_colour(number) for number in torch.tensor(list(names))[top.indices].flatten().tolist()]
    widths = (0.5 + 2.8 * strength.flatten()).tolist()
    axis.add_collection(LineCollection(list(lines.numpy()), colors=colours, linewidths=widths, alpha=0.55, zorder=1))
    _proxies(axis, circle, names)
    for image, (x, y), frame in zip(images, places.tolist(), frames, strict=True):
        _thumbnail(axis, image, x, y, side / 2, frame)
    axis.set(xlim=(-1.5, 1.5), ylim=(-1.15, 1.15), aspect="equal", xticks=[], yticks=[])
    axis.spines[:].set_visible(False)
    axis.set_xlabel(f"the {top.indices.shape[1]} strongest edges of {count} images; width: {low:.2f} to {high:.2f}")


def _proxies(axis: Any, circle: Tensor, names: Mapping[int, str]) -> None:
    for (number, name), (x, y) in zip(names.items(), circle.tolist(), strict=True):
        box = {"boxstyle": "round,pad=0.3", "facecolor": "white", "edgecolor": _colour(number), "linewidth": 2}
        side = "center" if abs(x) < 0.3 else "left" if x > 0 else "right"
        text = "\n".join(wrap(name.replace(r"\$", "$"), _LINE)).replace("$", r"\$")  # no line may end within \$
        size = 9 if len(names) <= _MANY else 7.5
        axis.text(1.04 * x, 1.04 * y, text, ha=side, va="center", fontsize=size, bbox=box, zorder=4)


def _colour(number: int) -> str:
    return CLASS_COLOURS[number % len(CLASS_COLOURS)]


def _thumbnail(axis: Any, image: Tensor, x: float, y: float, half: float, frame: str) -> None:
    from matplotlib.patches import Rectangle

    pixels = image if image.dtype == torch.uint8 else (image.detach().float().clamp(0, 1) * 255).round().to(torch.uint8)
    extent = (x - half, x + half, y - half, y + half)
    axis.imshow(pixels.cpu().permute(1, 2, 0).numpy(), extent=extent, zorder=2, interpolation="nearest")
    style: dict[str, Any] = {"fill": False, "edgecolor": frame, "linewidth": 1.8, "zorder": 3}
    axis.add_patch(Rectangle((x - half, y - half), 2 * half, 2 * half, **style))


def _places(targets: Float[Tensor, "n k 2"], strength: Float[Tensor, "n k"], least: float) -> Float[Tensor, "n 2"]:
    """Places of the images between their proxies, then pushed apart until squares of side ``least`` do not overlap."""
    weight = 0.02 + strength.square()  # squared: a weak second edge leaves an image with its first
    start = (targets * weight[..., None]).sum(1) / weight.sum(1, keepdim=True)
    places = _INNER * start + 0.05 * torch.randn(start.shape, generator=torch.Generator().manual_seed(0))
    for _ in range(_ROUNDS):
        gap = places[:, None] - places[None]
        overlap = (least - gap.abs()).clamp_min(0)
        overlap = overlap * (overlap.amin(-1, keepdim=True) > 0)
        overlap.diagonal().zero_()
        narrow = overlap.argmin(-1, keepdim=True)  # along the axis where less is to be moved
        push = torch.zeros_like(gap).scatter(-1, narrow, (overlap * gap.sign()).gather(-1, narrow))
        places = places + 0.5 * push.sum(1)
        places = places * (_INNER / places.norm(dim=1, keepdim=True).clamp_min(_INNER))
    return places
