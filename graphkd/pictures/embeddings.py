"""Embedding maps: samples and class proxies in the plane of two principal components, the same one at every epoch."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn.functional import normalize

from graphkd.errors import MissingFeatureError, ShapeError
from graphkd.pictures.canvas import NAMED, NEUTRAL, canvas, drawn, finite, known_labels, label, name_of, styles
from graphkd.typing import Float, Int, Tensor

_COLUMNS = 4
_LEGEND = 18


@dataclass(frozen=True)
class Plane:
    r"""Two principal components of unit rows, :math:`y = (x / |x| - \mu) V`, and a frame that all maps fit into.

    Args:
        mean: of the rows that it was fitted to.
        axes: the components as columns; the largest entry of each is positive, so that the same data is the same map.
        share: of the variance that each explains.
        frame: left, right, bottom, top.

    Shapes: mean (d,), axes (d, 2).
    Example: ``Plane.fit(last, everything=[first, last])(first)``
    """

    mean: Float[Tensor, " d"]
    axes: Float[Tensor, "d 2"]
    share: tuple[float, float]
    frame: tuple[float, float, float, float]

    @classmethod
    def fit(cls, x: Float[Tensor, "n d"], everything: Sequence[Float[Tensor, "m d"]] = ()) -> "Plane":
        """The plane of these rows, and a frame around all that shall be drawn in it; finite rows of any length."""
        rows = normalize(finite("embedding", x), dim=1)
        mean = rows.mean(0)
        _, values, right = torch.linalg.svd(rows - mean, full_matrices=False)
        axes = torch.zeros(x.shape[1], 2)
        found = right[:2].T
        axes[:, : found.shape[1]] = found * found.gather(0, found.abs().argmax(0, keepdim=True)).sign()
        whole = float(values.square().sum())
        shares = [float(value) ** 2 / whole if whole > 0 else 0.0 for value in values[:2]] + [0.0, 0.0]
        plane = cls(mean, axes, (shares[0], shares[1]), (0.0, 0.0, 0.0, 0.0))
        points = torch.cat([plane(each) for each in (x, *everything)])
        low, high = points.amin(0), points.amax(0)
        margin = 0.06 * (high - low).clamp_min(1e-3)
        (left, bottom), (east, top) = (low - margin).tolist(), (high + margin).tolist()
        return cls(mean, axes, plane.share, (left, east, bottom, top))

    def __call__(self, x: Float[Tensor, "n d"]) -> Float[Tensor, "n 2"]:
        """Where these rows lie. Raises: ShapeError for rows of another width; NonFiniteError for NaN."""
        if x.ndim != 2 or x.shape[1] != len(self.mean):
            raise ShapeError(f"the plane is one of {len(self.mean)} features, found rows {tuple(x.shape)}")
        found: Tensor = (normalize(finite("embedding", x), dim=1) - self.mean) @ self.axes
        return found


@drawn
def draw_embeddings(
    maps: Mapping[str, Float[Tensor, "n d"]],
    labels: Int[Tensor, " n"] | None = None,
    classes: Sequence[str] | None = None,
    proxies: Mapping[str, Float[Tensor, "c d"]] | None = None,
    *,
    shared: bool = True,
) -> Any:
    """Small multiples of an embedding at several epochs, in the plane of the last one; or networks, each in its own.

    Args:
        maps: rows by title, such as ``{"epoch 0": ..., "epoch 60": ...}``.
        labels: class of each sample; default one colour for all.
        classes: names by number.
        proxies: class proxies by the same titles, drawn as stars of the class's colour; of very many, those of the
            classes in the legend.
        shared: one plane for all maps, which have one width then; else each has a plane of its own, and is drawn large.

    Returns: a ``matplotlib.figure.Figure`` with one panel a map.
    Raises: MissingFeatureError without a map; ShapeError for maps of different widths in one plane, or labels of other
        samples; NonFiniteError for NaN.
    Example: ``draw_embeddings({f"epoch {e}": x for e, x in found.items()}, labels, names)``
    """
    if not maps:
        raise MissingFeatureError("there is no embedding to draw")
    marks, legend = dict(proxies or {}), labels is not None
    columns = min(_COLUMNS, len(maps))
    rows = -(-len(maps) // columns)
    size = 3.1 if shared and columns > 2 else 5.6
    figure, axes = canvas(size * columns + 1.4 * legend, size * rows + 0.4, rows, columns)
    for axis in axes[len(maps) :]:
        axis.set_visible(False)
    if shared:
        one = Plane.fit(list(maps.values())[-1], [*maps.values(), *marks.values()])
        _name_components(figure.supxlabel, figure.supylabel, one)
    for axis, (title, x) in zip(axes, maps.items(), strict=False):
        plane = one if shared else Plane.fit(x, [marks[title]] if title in marks else [])
        given = known_labels(labels, len(x), classes)
        _scatter(axis, plane(x), given, None if labels is None else classes)
        if title in marks:
            _stars(axis, plane(marks[title]), given)
        left, right, bottom, top = plane.frame
        axis.set(title=label(title, 40), xlim=(left, right), ylim=(bottom, top), xticks=[], yticks=[])
        axis.set_box_aspect(1)
        if not shared:
            _name_components(axis.set_xlabel, axis.set_ylabel, plane)
    if legend:
        _legend(figure, axes[0], bool(marks))
    return figure


def _name_components(below: Callable[..., Any], beside: Callable[..., Any], plane: Plane) -> None:
    below(f"component 1 ({100 * plane.share[0]:.0f} % of the variance)", fontsize=9)
    beside(f"component 2 ({100 * plane.share[1]:.0f} % of the variance)", fontsize=9)


def _scatter(axis: Any, points: Tensor, labels: Tensor, classes: Sequence[str] | None) -> None:
    own = styles(labels, _LEGEND - 1)
    for number in sorted(own):
        colour, marker = own[number]
        x, y = points[labels == number].T.tolist()
        style = {"s": 22, "alpha": 0.8, "linewidths": 0.3, "edgecolors": "white"}
        axis.scatter(x, y, color=colour, marker=marker, label=name_of(classes, number), **style)
    rest = torch.tensor([int(each) not in own for each in labels])
    if rest.any():
        x, y = points[rest].T.tolist()
        axis.scatter(x, y, s=8, color=NEUTRAL, label="other classes", zorder=0)


def _stars(axis: Any, points: Tensor, labels: Tensor) -> None:
    own = styles(labels, _LEGEND - 1)
    shown = [number for number in range(len(points)) if number in own or len(points) <= NAMED]
    colours = [own.get(number, (NEUTRAL, ""))[0] for number in shown]
    x, y = points[shown].T.tolist()
    axis.scatter(x, y, s=110, marker="*", c=colours, edgecolors="black", linewidths=0.7, zorder=3)


def _legend(figure: Any, axis: Any, stars: bool) -> None:
    from matplotlib.lines import Line2D

    handles, names = axis.get_legend_handles_labels()
    if stars:
        handles.append(Line2D([], [], linestyle="", marker="*", markersize=10, color="white", markeredgecolor="black"))
        names.append("proxies")
    figure.legend(handles, names, loc="outside right upper", fontsize=9, markerscale=1.4, handletextpad=0.2)
