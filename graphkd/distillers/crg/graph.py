"""The graphs of CRG: channels of feature maps at several levels, student and teacher brought to one shape."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Final, TypedDict

from torch import nn

from graphkd.distillers.adapters import CHANNEL_ADAPTERS, Adapter, frozen_output
from graphkd.distillers.crg.levels import Level
from graphkd.errors import MissingFeatureError, OptionError, ShapeError
from graphkd.features import Features
from graphkd.graphs.channels import AFFINITIES, GRAPH_SCOPES, RESIZES, VERTICES, Affinity, Resize, Vertices
from graphkd.graphs.graph import EdgeType, Graph
from graphkd.registry import unknown
from graphkd.typing import Float, Side, Tensor

SHARING: Final = ("shared", "separate", "vertex")


class GraphOptions(TypedDict, total=False):
    """Options of the graphs; their meanings stand in ``CRGDistiller``, their defaults in ``ChannelGraph``."""

    resize: str | Resize
    adapter: str | Adapter
    adapter_sharing: str
    vertices: str | Vertices
    edge_affinity: str | Affinity
    spectral_affinity: str | Affinity
    scope: str


class ChannelGraph(nn.Module):
    """Builds the graphs of both sides; owns the adapters that its options call for.

    Node types are ``vertex:<level>``, ``edge:<level>`` and ``spectral:<level>``, one for each purpose: the same
    channels, unless adapters are separate or a scope joins the images.

    Args:
        levels: pairs of maps.
        purposes: which of ``vertex``, ``edge``, ``spectral`` there is a term for.
        corresponding: purposes for which channel i of one side is channel i of the other.
        resize, ..., scope: see ``CRGDistiller``.
    """

    def __init__(
        self,
        levels: Iterable[Level],
        purposes: Iterable[str],
        corresponding: Iterable[str] = ("vertex", "edge", "spectral"),
        *,
        resize: str | Resize = "pool",
        adapter: str | Adapter = "auto",
        adapter_sharing: str = "shared",
        vertices: str | Vertices = "channels",
        edge_affinity: str | Affinity = "cosine",
        spectral_affinity: str | Affinity = "pearson",
        scope: str = "image",
    ) -> None:
        super().__init__()
        if adapter_sharing not in SHARING:
            raise unknown("way of sharing adapters", adapter_sharing, list(SHARING))
        self.levels, self.purposes = list(levels), list(purposes)
        self._sharing, self._scope = adapter_sharing, GRAPH_SCOPES.get(scope)
        self._resize, self._vertices = RESIZES.resolve(resize), VERTICES.resolve(vertices)
        edge = AFFINITIES.resolve(edge_affinity)
        spectral = edge if spectral_affinity == "edge" else AFFINITIES.resolve(spectral_affinity)
        self._affinity = {"edge": edge, "spectral": spectral}
        make, owners = CHANNEL_ADAPTERS.resolve(adapter), self.purposes if adapter_sharing == "separate" else ["shared"]
        self.adapters = nn.ModuleDict(
            {each: nn.ModuleList(make(*level[2:]) for level in self.levels) for each in owners}
        )
        if adapter == "none" and (compared := set(self.purposes) & set(corresponding)):
            self._check_channels(compared)
        if adapter_sharing == "vertex" and "vertex" not in self.purposes and any(True for _ in self.parameters()):
            raise OptionError("adapter_sharing='vertex' trains the adapters by the vertex term alone: give it a weight")

    def edge_type(self, purpose: str, level: Level) -> EdgeType:
        """The type of a level's edges."""
        node = f"{purpose}:{level.student}"
        return node, self._affinity[purpose].relation.__name__, node

    def averaged(self, values: Float[Tensor, "b *any"]) -> Float[Tensor, "g *any"]:
        """What was computed for each image, for each graph: their mean where the batch makes one graph."""
        return values if self._scope.matrix is None else self._scope.matrix(values)

    def prepare(self, student: Features, teacher: Features) -> tuple[Features, Features]:
        """Records whose maps are those of the nodes: resized, and the student's through the adapters."""
        ours: dict[str, Tensor] = {}
        theirs: dict[str, Tensor] = {}
        for i, level in enumerate(self.levels):
            x = _map(student, level.student, level.student_channels, "student")
            y = _map(teacher, level.teacher, level.teacher_channels, "teacher")
            x, y = self._resize(x, y, 28)
            shared: dict[str, Tensor] = {}
            for purpose in self.purposes:
                owner, frozen = self._owner(purpose)
                key = f"{owner}/{frozen}"
                if key not in shared:
                    shared[key] = frozen_output(self.adapters[owner][i], x) if frozen else self.adapters[owner][i](x)  # type: ignore[index]
                ours[f"{purpose}:{level.student}"], theirs[f"{purpose}:{level.student}"] = shared[key], y
        return replace(student, maps=ours), replace(teacher, maps=theirs)

    def build(self, features: Features, side: Side) -> Graph:
        """The graph of one side, from a record that :meth:`prepare` made."""
        graph = Graph()
        maps = features.need("maps", "CRG")
        for level in self.levels:
            for purpose in self.purposes:
                name = f"{purpose}:{level.student}"
                x = self._vertices(maps[name])
                graph.add(name, x if purpose == "vertex" else self._scope.nodes(x), "image")
                if purpose in self._affinity:
                    relation, rule = self._affinity[purpose]
                    graph.connect(name, relation, name, normalise=_chain(rule, self._scope.matrix))
        return graph

    def _owner(self, purpose: str) -> tuple[str, bool]:
        separate = self._sharing == "separate"
        return (purpose if separate else "shared"), self._sharing == "vertex" and purpose != "vertex"

    def _check_channels(self, purposes: Iterable[str]) -> None:
        for level in self.levels:
            if level.student_channels != level.teacher_channels:
                raise ShapeError(
                    f"{level.student!r} has {level.student_channels} channels, "
                    f"{level.teacher!r} {level.teacher_channels}, and the terms {', '.join(sorted(purposes))} "
                    "compare channel by channel: "
                    "adapter='auto', or spectral_form='spectrum' alone"
                )


def _chain(
    first: Callable[[Tensor], Tensor] | None, second: Callable[[Tensor], Tensor] | None
) -> Callable[[Tensor], Tensor] | None:
    if first is None or second is None:
        return first or second
    return lambda edges: second(first(edges))


def _map(features: Features, name: str, channels: int, side: Side) -> Float[Tensor, "b c h w"]:
    maps: Mapping[str, Tensor] = features.need("maps", f"CRG ({side})")
    if name not in maps:
        raise MissingFeatureError(f"the {side} has no map {name!r}: name one of {', '.join(sorted(maps))}")
    if maps[name].ndim != 4 or maps[name].shape[1] != channels:
        raise ShapeError(
            f"{side} map {name!r}: found {tuple(maps[name].shape)}, expected (b, {channels}, h, w): "
            "CRGDistiller.between(student_features, teacher_features) sizes itself"
        )
    return maps[name]
