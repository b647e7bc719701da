"""What the graphs of several methods are made of: samples, and maps of both networks in one size."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import torch

from graphkd.distillers.base import Pair
from graphkd.distillers.sizes import MapPairs, pair_names
from graphkd.errors import OptionError, ShapeError
from graphkd.features import Features
from graphkd.graphs.align import align
from graphkd.graphs.alignments import Alignment
from graphkd.graphs.channels import to_smaller
from graphkd.graphs.edges import NORMALISERS, Edges
from graphkd.graphs.graph import Graph
from graphkd.graphs.relations import RELATIONS, Relation, name_of
from graphkd.typing import Float, Tensor


def sample_graph(features: Features, part: str, reader: str) -> Graph:
    """A graph of samples alone, by their ``embedding`` or ``logits``."""
    return Graph().add("sample", features.blended().tensor(part, reader))


def logits(pair: Pair, reader: str) -> tuple[Float[Tensor, "b c"], Float[Tensor, "b c"]]:
    """Class scores of both networks, of the blended images where images were blended."""
    student, teacher = pair.student_features.blended(), pair.teacher_features.blended()
    return student.tensor("logits", reader), teacher.tensor("logits", reader)


def samples(pair: Pair) -> tuple[Tensor, Tensor]:
    """Sample nodes of both graphs."""
    return pair.student["sample"].x, pair.teacher["sample"].x


def unmasked(logits: Float[Tensor, "n c"]) -> Float[Tensor, "n c"]:
    """Logits as vectors: a class masked by -inf takes the mean of the others, so that it counts 0 in a correlation."""
    masked = logits == -torch.inf
    total, count = torch.where(masked, 0.0, logits).sum(-1, keepdim=True), (~masked).sum(-1, keepdim=True)
    return torch.where(masked, total / count.clamp_min(1), logits)


def same_samples(pair: Pair, what: str) -> tuple[Tensor, Tensor]:
    """Sample nodes of both graphs, once they are known to have the same width. Raises: ShapeError."""
    student, teacher = pair.student["sample"].x, pair.teacher["sample"].x
    if student.shape != teacher.shape:
        remedy = (
            "both heads need the same classes in the same order"
            if what == "logits"
            else "project one side to the width of the other"
        )
        raise ShapeError(f"student {what} {tuple(student.shape)}, teacher {what} {tuple(teacher.shape)}: {remedy}")
    return student, teacher


def matched(student: Features, teacher: Features, pairs: MapPairs, part: str, reader: str) -> tuple[Features, Features]:
    """Both records with the compared maps (or tokens) only, under the student's names.

    Raises: MissingFeatureError without maps; OptionError for maps of images that were blended after the teacher saw
        them: those of the blend cannot be made from them.
    """
    found: list[Mapping[str, Tensor]] = [each.need(part, reader) for each in (student, teacher)]
    if student.mixture is not None or teacher.mixture is not None:
        raise OptionError(
            f"{reader} compares {part}, and those of blended images are no blend of {part}: "
            "give the teacher the blended images instead of a store, or train without mixup and cutmix"
        )
    names = pair_names(pairs, found[0], found[1], part, reader)
    s, t = {a: found[0][a] for a, _ in names}, {a: found[1][b] for a, b in names}
    return replace(student, **{part: s}), replace(teacher, **{part: t})  # type: ignore[arg-type]


def matched_maps(student: Features, teacher: Features, pairs: MapPairs, reader: str) -> tuple[Features, Features]:
    """Both records with the compared maps only, each pair averaged down to the smaller height and width."""
    student, teacher = matched(student, teacher, pairs, "maps", reader)
    both = [to_smaller(a, b) for a, b in zip(maps_of(student), maps_of(teacher), strict=True)]
    names = list(student.maps or {})
    s, t = (dict(zip(names, side, strict=True)) for side in zip(*both, strict=True))
    return replace(student, maps=s), replace(teacher, maps=t)


def maps_of(features: Features) -> list[Float[Tensor, "b c h w"]]:
    """The maps in order."""
    return list((features.maps or {}).values())


def channel_graph(maps: list[Float[Tensor, "b c h w"]]) -> Graph:
    """A graph of channels: node types ``channel0``, ``channel1``, ... of one image each, positions as features."""
    graph = Graph()
    for i, each in enumerate(maps):
        graph.add(f"channel{i}", each.flatten(2), "image")
    return graph


def flat_graph(maps: list[Float[Tensor, "b c h w"]]) -> Graph:
    """A graph of samples by whole maps: node types ``map0``, ``map1``, ..."""
    graph = Graph()
    for i, each in enumerate(maps):
        graph.add(f"map{i}", each.flatten(1))
    return graph


def align_within(
    student: Float[Tensor, "*b n d"],
    teacher: Float[Tensor, "*b n e"],
    relation: str | Relation,
    alignment: Alignment,
    normalise: str | None = None,
) -> Float[Tensor, ""]:
    """Compare the relations inside the student's nodes with those inside the teacher's."""
    rule, made = None if normalise is None else NORMALISERS.get(normalise), RELATIONS.resolve(relation)
    ours, theirs = (Edges(x, x, made, rule, name=name_of(made)) for x in (student, teacher))
    return align(ours, theirs, alignment)


@dataclass(frozen=True)
class EachNodeType:
    """A term: the sum of a loss of the nodes of each type."""

    loss: Callable[[Tensor, Tensor], Tensor]

    def __call__(self, pair: Pair) -> Float[Tensor, ""]:
        """The sum over node types."""
        names = pair.student.node_types
        return torch.stack([self.loss(pair.student[name].x, pair.teacher[name].x) for name in names]).sum()


@dataclass(frozen=True)
class EachEdgeType:
    """A term: the sum of an alignment of the edges of each type."""

    alignment: Alignment

    def __call__(self, pair: Pair) -> Float[Tensor, ""]:
        """The sum over edge types."""
        types = pair.student.edge_types
        both = ((pair.student.edges(*each), pair.teacher.edges(*each)) for each in types)
        return torch.stack([align(*each, self.alignment) for each in both]).sum()
