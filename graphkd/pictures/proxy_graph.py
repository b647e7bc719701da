"""The sample-proxy graph drawn: images as nodes, class proxies as names, strong edges as thick lines."""

from collections.abc import Mapping, Sequence
from textwrap import wrap
from typing import Any

import torch

from graphkd.errors import MissingFeatureError, OptionError, ShapeError
from graphkd.pictures.canvas import CLASS_COLOURS, canvas, drawn, finite, known_labels, label, name_of
from graphkd.typing import Float, Int, Tensor

_LINE, _MANY = 13, 12  # characters of a line of a name; names from which they are small
_PROXIES = 20  # names that a circle has room for
_SIDE, _INNER = 0.13, 0.8  # of a thumbnail, and of the disc that holds them; the circle of proxies has radius 1
_ROUNDS = 300  # of pushing thumbnails apart


@drawn
def draw_proxy_graph(
    edges: Mapping[str, Float[Tensor, "n c"]],
    images: Float[Tensor, "n 3 h w"] | Int[Tensor, "n 3 h w"],
    labels: Int[Tensor, " n"] | None = None,
    classes: Sequence[str] | None = None,
    *,
    k: int = 2,
    most: int = 40,
    seed: int = 0,
) -> Any:
    """Each network's strongest edges between images and class proxies.

    Proxies stand on a circle, at the same places for every network; images are moved by their edges (networkx's spring
    layout), then apart until none covers another. The frame of an image has the colour of its class, an edge that of
    the proxy that it leads to: a thick edge of another colour than the frame is a mistake in the making.

    Args:
        edges: weights by name of the network; any scale, larger is closer.
        images: in [0, 1], or uint8.
        labels: class of each image, for the frames; default no frames.
        classes: names by number.
        k: edges drawn for each image, the strongest, >= 1.
        most: images drawn, spread evenly over the classes, >= 1.
        seed: of the layout; the same seed gives the same picture.

    Returns: a ``matplotlib.figure.Figure`` with one panel a network.
    Raises: MissingFeatureError without a network; OptionError for k or most below 1; ShapeError where edges, images and
        labels do not fit; NonFiniteError for NaN.
    Example: ``draw_proxy_graph({"teacher": t, "student": s}, images, labels, names)``
    """
    if not edges:
        raise MissingFeatureError("there is no graph to draw: no network has edges to class proxies")
    if min(k, most) < 1:
        raise OptionError(f"k and most are >= 1, found {k} and {most}")
    sides = {name: finite(f"{name}'s edges", each) for name, each in edges.items()}
    count, width = next(iter(sides.values())).shape
    for name, each in sides.items():
        if each.shape != (count, width) or len(images) != count:
            raise ShapeError(f"{name}: {len(images)} images and edges {tuple(each.shape)}, expected ({count}, {width})")
    given = known_labels(labels, count, classes)
    order = given.argsort(stable=True)
    chosen = order[torch.linspace(0, count - 1, min(most, count)).round().long()]
    sides = {name: each[chosen] for name, each in sides.items()}
    shown = _shown(list(sides.values()), k)
    figure, axes = canvas(6.8 * len(sides), 6.0, 1, len(sides))
    for axis, (name, each) in zip(axes, sides.items(), strict=True):
        frames = None if labels is None else given[chosen]
        _panel(axis, each[:, shown], images[chosen], frames, [int(number) for number in shown], classes, k, seed)
        axis.set_title(label(name))
    return figure


def _shown(sides: list[Tensor], k: int) -> Tensor:
    """The proxies that the strongest edges lead to, ascending, as many as there is room for."""
    width = sides[0].shape[1]
    first = sum(torch.bincount(each.argmax(1), minlength=width) for each in sides)
    reached = sum(torch.bincount(each.topk(min(k, width)).indices.flatten(), minlength=width) for each in sides)
    rank = (first * (sides[0].numel() + 1) + reached).argsort(descending=True, stable=True)  # type: ignore[union-attr]
    return rank[:_PROXIES].sort().values


def _panel(
    axis: Any,
    edges: Tensor,
    images: Tensor,
    labels: Tensor | None,
    numbers: list[int],
    classes: Sequence[str] | None,
    k: int,
    seed: int,
) -> None:
    from matplotlib.collections import LineCollection

    count, width = edges.shape
    top = edges.topk(min(k, width))
    low, high = float(top.values.min()), float(top.values.max())
    strength = (top.values - low) / max(high - low, 1e-12) if high > low else torch.ones_like(top.values)
    angles = torch.arange(width) * (2 * torch.pi / width) + torch.pi / 2
    circle = torch.stack([angles.cos(), angles.sin()], 1)
    places = _layout(circle, top.indices, strength, seed)
    lines = torch.stack([places[:, None].expand(-1, top.indices.shape[1], -1), circle[top.indices]], 2).flatten(0, 1)
    colours = [_colour(numbers[int(target)]) for target in top.indices.flatten()]
    widths = (0.5 + 2.8 * strength.flatten()).tolist()
    axis.add_collection(LineCollection(list(lines.numpy()), colors=colours, linewidths=widths, alpha=0.55, zorder=1))
    for number, (x, y) in zip(numbers, circle.tolist(), strict=True):
        box = {"boxstyle": "round,pad=0.3", "facecolor": "white", "edgecolor": _colour(number), "linewidth": 2}
        side = "center" if abs(x) < 0.3 else "left" if x > 0 else "right"
        name = name_of(classes, number).replace(r"\$", "$")  # which no line may end within
        text = "\n".join(wrap(name, _LINE)).replace("$", r"\$")
        size = 9 if len(numbers) <= _MANY else 7.5
        axis.text(1.04 * x, 1.04 * y, text, ha=side, va="center", fontsize=size, bbox=box, zorder=4)
    side = min(_SIDE, 1.3 * _INNER / max(count, 1) ** 0.5)
    for i, (x, y) in enumerate(places.tolist()):
        _thumbnail(axis, images[i], x, y, side / 2, None if labels is None else _colour(int(labels[i])))
    axis.set(xlim=(-1.5, 1.5), ylim=(-1.15, 1.15), aspect="equal", xticks=[], yticks=[])
    axis.spines[:].set_visible(False)
    axis.set_xlabel(f"the {top.indices.shape[1]} strongest edges of {count} images; width: {low:.2f} to {high:.2f}")


def _colour(number: int) -> str:
    return CLASS_COLOURS[number % len(CLASS_COLOURS)]


def _thumbnail(axis: Any, image: Tensor, x: float, y: float, half: float, frame: str | None) -> None:
    from matplotlib.patches import Rectangle

    pixels = image if image.dtype == torch.uint8 else (image.detach().float().clamp(0, 1) * 255).round().to(torch.uint8)
    extent = (x - half, x + half, y - half, y + half)
    axis.imshow(pixels.cpu().permute(1, 2, 0).numpy(), extent=extent, zorder=2, interpolation="nearest")
    style: dict[str, Any] = {
        "fill": False,
        "edgecolor": frame or "#444444",
        "linewidth": 1.8 if frame else 0.6,
        "zorder": 3,
    }
    axis.add_patch(Rectangle((x - half, y - half), 2 * half, 2 * half, **style))


def _layout(circle: Tensor, targets: Tensor, strength: Tensor, seed: int) -> Float[Tensor, "n 2"]:
    """Places of the images: springs to fixed proxies, then none closer to another than its own size."""
    import networkx

    weight = 0.02 + strength.square()  # squared: a weak second edge leaves an image with its first
    start = (circle[targets] * weight[..., None]).sum(1) / weight.sum(1, keepdim=True)
    luck = torch.Generator().manual_seed(seed)
    start = 0.7 * start + 0.05 * torch.randn(start.shape, generator=luck)
    graph = networkx.Graph()
    at = {("class", number): point for number, point in enumerate(circle.tolist())}
    fixed = list(at)
    graph.add_nodes_from(fixed)
    at |= {("sample", i): point for i, point in enumerate(start.tolist())}
    graph.add_weighted_edges_from(
        (("sample", i), ("class", target), strong)
        for i, each in enumerate(zip(targets.tolist(), weight.tolist(), strict=True))
        for target, strong in zip(*each, strict=True)
    )
    spring = 0.6 / max(len(targets), 1) ** 0.5
    found = networkx.spring_layout(graph, k=spring, pos=at, fixed=fixed, iterations=60, seed=seed)
    places = torch.tensor([[float(each) for each in found["sample", i]] for i in range(len(targets))])
    return _apart(places, min(_SIDE, 1.3 * _INNER / len(targets) ** 0.5) * 1.12)


def _apart(places: Tensor, least: float) -> Tensor:
    """Push squares of that side apart until they do not overlap, inside the disc."""
    for _ in range(_ROUNDS):
        gap = places[:, None] - places[None]
        overlap = (least - gap.abs()).clamp_min(0)
        overlap = overlap * (overlap.amin(-1, keepdim=True) > 0)
        overlap.diagonal().zero_()
        narrow = overlap[..., 0] < overlap[..., 1]  # along the axis where less is to be moved
        push = torch.zeros_like(gap)
        side = gap.sign()  # never 0 in practice: the start was drawn at random
        push[..., 0] = torch.where(narrow, overlap[..., 0] * side[..., 0], 0.0)
        push[..., 1] = torch.where(narrow, 0.0, overlap[..., 1] * side[..., 1])
        places = places + 0.5 * push.sum(1)
        length = places.norm(dim=1, keepdim=True)
        places = places * (_INNER / length.clamp_min(_INNER))
    return places
