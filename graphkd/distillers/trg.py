"""Token relational graph: the tokens of a batch within an image, among their neighbours, and across the networks."""

from collections.abc import Sequence
from dataclasses import replace
from math import sqrt
from typing import ClassVar, final

import torch
from torch import nn

from graphkd import distributed, ops
from graphkd.checks import same_embeddings, same_samples, same_shape, tensor_loss
from graphkd.distillers.base import DISTILLERS, Distiller, Pair, mean_over_batch
from graphkd.distillers.parts import matched, matched_maps
from graphkd.distillers.sizes import MapPairs
from graphkd.errors import OptionError, ShapeError
from graphkd.features import Features
from graphkd.graphs.align import contrast
from graphkd.graphs.alignments import MSE, sparse_row_kl
from graphkd.graphs.graph import Graph
from graphkd.registry import unknown
from graphkd.typing import Float, Side, Tensor


@tensor_loss
def trg(
    student: Float[Tensor, "b n d"],
    teacher: Float[Tensor, "b n e"],
    inner_weight: float = 1.0,
    local_weight: float = 1.0,
    global_weight: float = 1.0,
    neighbors: int = 8,
    temperature: float = 0.1,
) -> Float[Tensor, ""]:
    r"""Token relational graph: tokens of the whole batch as nodes.

    .. math:: L = w_i L_{inner} + w_l L_{local} + w_g L_{global}

    Paper: Zhang et al., "Knowledge Distillation via Token-level Relationship Graph", arXiv 2306.12442; no official
    code was found, its weights, neighbours and temperatures are not known: all defaults are our choice.
    Args:
        student, teacher: tokens; a term of weight 0 is not computed, the global one needs equal widths.
        inner_weight, local_weight, global_weight: default 1.
        neighbors: k of the local graph; default 8 (fewer where there are fewer tokens).
        temperature: of the global contrast, > 0; default 0.1.
    Shapes: (b, n, d), (b, n, e) -> scalar.
    Raises: ShapeError for other samples, tokens or (global term) widths; OptionError for neighbors < 1.
    Example: ``trg(x, x, global_weight=0.0)`` is 0.
    """
    same_samples(student, teacher, 3)
    nodes, others = student.flatten(0, 1), teacher.flatten(0, 1)
    loss = student.sum() * 0
    if inner_weight:
        loss = loss + inner_weight * trg_inner.over_ranks(student, teacher)
    if local_weight:
        loss = loss + local_weight * trg_local.over_ranks(nodes, others, neighbors)
    if global_weight:
        loss = loss + global_weight * trg_global.over_ranks(nodes, others, temperature)
    return loss


@tensor_loss
def trg_inner(student: Float[Tensor, "b n d"], teacher: Float[Tensor, "b n e"]) -> Float[Tensor, ""]:
    r"""TRG inside an image: attention-like maps, :math:`\mathrm{MSE}` of :math:`\mathrm{softmax}(F F^\top / \sqrt d)`.

    Shapes: (b, n, d), (b, n, e) -> scalar.
    Raises: ShapeError for other samples or tokens.
    Example: ``trg_inner(x, x)`` is 0.
    """
    same_samples(student, teacher, 3)
    same_shape(student[..., 0], teacher[..., 0], "tokens", "sample the same tokens on both sides")
    return MSE(_attention(student), _attention(teacher))


@tensor_loss
def trg_local(
    student: Float[Tensor, "n d"], teacher: Float[Tensor, "n e"], neighbors: int = 8, reverse: bool = False
) -> Float[Tensor, ""]:
    r"""TRG's local graph: Gaussian affinities of each token's nearest tokens, as distributions.

    .. math:: L = \mathrm{mean}_i \mathrm{KL}(\mathrm{softmax}_j A^S_{ij} \,\|\, \mathrm{softmax}_j A^T_{ij}), \qquad
              A_{ij} = \exp(-\lVert t_i - t_j \rVert^2 / 2 d) \text{ for the k nearest } j, \text{ else } 0

    Args:
        student, teacher: tokens of the whole batch.
        neighbors: k >= 1; default 8.
        reverse: KL of the teacher from the student instead; default as reported.
    Shapes: (n, d), (n, e) -> scalar.
    Raises: ShapeError for other tokens, OptionError for neighbors < 1.
    Example: ``trg_local(x, x)`` is 0.
    Differs from the official code: none is known; the squared width of the kernel is d, the mean over tokens ours.
    """
    same_samples(student, teacher, 2)
    if neighbors < 1:
        raise OptionError(f"neighbors is >= 1, found {neighbors}")
    return _neighbourhoods(student, teacher, neighbors, reverse, (len(student),))


@tensor_loss
def trg_global(
    student: Float[Tensor, "n d"], teacher: Float[Tensor, "n d"], temperature: float = 0.1
) -> Float[Tensor, ""]:
    r"""TRG's global contrast: a token is more like its own teacher token than like any other (InfoNCE).

    .. math:: L = -\mathrm{mean}_i \log \mathrm{softmax}_j (\cos(t^S_i, t^T_j) / \tau)_{i}

    Shapes: (n, d) twice -> scalar, not 0 for student == teacher.
    Raises: ShapeError for other tokens or widths, OptionError for a temperature <= 0.
    Example: ``trg_global(torch.ones(1, 2), torch.ones(1, 2))`` is 0.
    """
    same_embeddings(student, teacher)
    return contrast(student, teacher, (len(student),), ops.positive_temperature(temperature))


def _attention(tokens: Float[Tensor, "b n d"]) -> Float[Tensor, "b n n"]:
    return (ops.gram(tokens, tokens) / sqrt(tokens.shape[-1])).softmax(-1)


def _neighbourhoods(
    student: Float[Tensor, "r d"], teacher: Float[Tensor, "r e"], k: int, reverse: bool, sizes: tuple[int, ...]
) -> Float[Tensor, ""]:
    everyone = sum(sizes)
    if everyone == 1:  # no other token
        return mean_over_batch(0 * (student.sum(1) + teacher.sum(1)))
    ours, theirs = (_nearest(x, min(k, everyone - 1), sizes) for x in (student, teacher))
    first, second = (theirs, ours) if reverse else (ours, theirs)
    return mean_over_batch(sparse_row_kl(*first, *second, everyone))


def _nearest(mine: Float[Tensor, "r d"], k: int, sizes: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """The k nearest tokens of all ranks to each of this rank's, and their affinities."""
    everyone, first = distributed.gather(mine, list(sizes)), distributed.first_row(sizes)
    places, squares = (x[first : first + len(mine)] for x in ops.knn(everyone, k))
    return places, (-squares / (2 * mine.shape[1])).exp()


@final
@DISTILLERS.register("trg")
class TRGDistiller(Distiller):
    r"""Match tokens by three relations: within an image, among nearest neighbours in the batch, and across networks.

    .. math::
        L_{inner} &= \mathrm{MSE}\big(\mathrm{softmax}(F F^T / \sqrt d)\big), \qquad
        L_{global} = -\mathrm{mean}_i \log \mathrm{softmax}_j (\cos(\phi t^S_i, t^T_j) / \tau)_i, \\
        L_{local} &= \mathrm{mean}_i\, \mathrm{KL}(\mathrm{softmax}_j A^S_{ij} \| \mathrm{softmax}_j A^T_{ij}), \quad
        A_{ij} = e^{-|t_i - t_j|^2 / 2d} \text{ for the } k \text{ nearest } j \text{, else } 0

    summed over the pairs of token sequences; the logit term is another distiller's (``combined``).

    Paper: Zhang et al., "Knowledge Distillation via Token-level Relationship Graph", arXiv 2306.12442. Known from
    third-party summaries; its weights, k and temperatures are not, and every default here is our choice.
    Args:
        token_dims: (student's, teacher's) width of each pair of sequences.
        inner_weight, local_weight, global_weight: default 1 each; 0 removes a term.
        neighbors: k of the local graph, >= 1; default 8 (fewer where there are fewer tokens).
        direction: of the local KL, ``"student"`` (student's rows first, as reported; default) or ``"teacher"``.
        temperature: tau of the global contrast, > 0; default 0.1. A schedule may set ``distiller.temperature``.
        prefix: class and register tokens at the front to leave out, (student's, teacher's); default none.
        tokens_per_image: evenly spaced tokens that become nodes; default all.
        on: ``"tokens"`` (default) or ``"maps"``, whose positions are tokens.
        pairs: student's tokens (or map) -> teacher's; default: all, in order.
    Shapes: tokens (b, n, d), equal n on both sides after the prefix; the local graph has b n k edges.
    Raises: OptionError, UnknownNameError; ShapeError for other numbers of tokens.
    Example: ``TRGDistiller.between(student(images), teacher(images), prefix=(1, 1))``
    Differs from the official code: none was found.
    """

    relates_maps = True
    zero_at_teacher: ClassVar[frozenset[str]] = frozenset({"inner", "local"})
    sized_by: ClassVar[tuple[str, ...]] = ("token_dims",)

    def __init__(
        self,
        token_dims: Sequence[tuple[int, int]],
        *,
        inner_weight: float = 1.0,
        local_weight: float = 1.0,
        global_weight: float = 1.0,
        neighbors: int = 8,
        direction: str = "student",
        temperature: float = 0.1,
        prefix: tuple[int, int] = (0, 0),
        tokens_per_image: int | None = None,
        on: str = "tokens",
        pairs: MapPairs = None,
    ) -> None:
        super().__init__()
        if neighbors < 1 or temperature <= 0 or min(prefix) < 0 or (tokens_per_image or 1) < 1:
            raise OptionError(
                "neighbors and tokens_per_image are >= 1, temperature > 0 and prefix >= 0, found "
                f"{neighbors}, {tokens_per_image}, {temperature} and {prefix}"
            )
        for kind, value, known in (("direction", direction, ["student", "teacher"]), ("part", on, ["maps", "tokens"])):
            if value not in known:
                raise unknown(kind, value, known)
        self.neighbors, self.first, self.temperature = neighbors, direction, temperature
        self.prefix, self.tokens_per_image = {"student": prefix[0], "teacher": prefix[1]}, tokens_per_image
        self.on, self.pairs = on, pairs
        self.projectors = nn.ModuleList(
            nn.Identity() if s == t else nn.Linear(s, t) for s, t in token_dims if global_weight
        )
        self.terms = self.weighted_terms(
            inner=(inner_weight, self._inner),
            local=(local_weight, self._local),
            **{"global": (global_weight, self._global)},
        )

    def prepare(self, student: Features, teacher: Features) -> tuple[Features, Features]:
        """Both records with the compared tokens."""
        if self.on == "tokens":
            return matched(student, teacher, self.pairs, "tokens", "TRG")
        student, teacher = matched_maps(student, teacher, self.pairs, "TRG")
        s, t = ({n: m.flatten(2).mT for n, m in (each.maps or {}).items()} for each in (student, teacher))
        return replace(student, tokens=s), replace(teacher, tokens=t)

    def build(self, features: Features, side: Side) -> Graph:
        """The chosen tokens of each image."""
        graph = Graph()
        for i, tokens in enumerate(features.need("tokens", "TRG").values()):
            kept = tokens[:, self.prefix[side] :]
            if self.tokens_per_image is not None and self.tokens_per_image < kept.shape[1]:
                spaced = torch.arange(self.tokens_per_image, device=kept.device) * kept.shape[1]
                kept = kept[:, spaced // self.tokens_per_image]
            graph.add(f"token{i}", kept, "image")
        return graph

    def _inner(self, pair: Pair) -> Float[Tensor, ""]:
        return torch.stack([trg_inner.over_ranks(*tokens) for tokens in _tokens(pair)]).sum()

    def _local(self, pair: Pair) -> Float[Tensor, ""]:
        k, reverse = self.neighbors, self.first == "teacher"
        nodes = [(s.flatten(0, 1), t.flatten(0, 1), _tokens_of_ranks(s, pair)) for s, t in _tokens(pair)]
        return torch.stack([_neighbourhoods(s, t, k, reverse, sizes) for s, t, sizes in nodes]).sum()

    def _global(self, pair: Pair) -> Float[Tensor, ""]:
        both = [(project(s), t) for project, (s, t) in zip(self.projectors, _tokens(pair), strict=True)]
        nodes = [(s.flatten(0, 1), t.flatten(0, 1), _tokens_of_ranks(t, pair)) for s, t in both]
        return torch.stack([contrast(s, t, sizes, self.temperature) for s, t, sizes in nodes]).sum()


def _tokens(pair: Pair) -> list[tuple[Tensor, Tensor]]:
    both = [(pair.student[name].x, pair.teacher[name].x) for name in pair.student.node_types]
    for student, teacher in both:
        if student.shape[1] != teacher.shape[1]:
            raise ShapeError(
                f"TRG compares token by token, found {student.shape[1]} tokens of the student and {teacher.shape[1]} "
                "of the teacher: leave out class tokens by prefix=, choose as many by tokens_per_image=, or use maps"
            )
    return both


def _tokens_of_ranks(tokens: Float[Tensor, "b n d"], pair: Pair) -> tuple[int, ...]:
    return tuple(tokens.shape[1] * size for size in pair.sizes)
