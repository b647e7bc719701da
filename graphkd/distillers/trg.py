"""Token relational graph: the tokens of a batch within an image, among their neighbours, and across the networks."""

from collections.abc import Sequence
from dataclasses import replace
from math import sqrt
from typing import ClassVar, final

import torch
from torch import nn

from graphkd import distributed, ops
from graphkd.distillers.base import DISTILLERS, Distiller, Pair, mean_over_batch
from graphkd.distillers.contrast import contrast
from graphkd.distillers.parts import matched, matched_maps
from graphkd.distillers.sizes import MapPairs
from graphkd.errors import OptionError, ShapeError
from graphkd.features import Features
from graphkd.graphs.alignments import MSE
from graphkd.graphs.graph import Graph
from graphkd.registry import unknown
from graphkd.typing import Float, Side, Tensor


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
    Shapes: tokens (b, n, d), equal n on both sides after the prefix; the local graph has (b n)^2 edges.
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
        self.terms = self.table(
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
        return torch.stack([MSE(_attention(s), _attention(t)) for s, t in _tokens(pair)]).sum()

    def _local(self, pair: Pair) -> Float[Tensor, ""]:
        terms = []
        for tokens in _tokens(pair):
            student, teacher = (self._nearest(x, pair) for x in tokens)
            order = (teacher, student) if self.first == "student" else (student, teacher)
            terms.append(mean_over_batch(ops.row_kl(*order)))  # row_kl has the teacher's rows first
        return torch.stack(terms).sum()

    def _nearest(self, tokens: Float[Tensor, "b n d"], pair: Pair) -> Float[Tensor, "r m"]:
        mine, everyone, own = _rows(tokens, pair)
        squares = ops.squared_distances(mine, everyone)
        itself = own.unsqueeze(1) == torch.arange(len(everyone), device=own.device)
        k = min(self.neighbors, len(everyone) - 1)
        nearest = squares.detach().masked_fill(itself, torch.inf).topk(k, dim=1, largest=False).indices
        kept = torch.zeros_like(itself).scatter(1, nearest, True)
        return torch.where(kept, (-squares / (2 * mine.shape[1])).exp(), 0.0)

    def _global(self, pair: Pair) -> Float[Tensor, ""]:
        terms = []
        for project, (student, teacher) in zip(self.projectors, _tokens(pair), strict=True):
            nodes, others = project(student).flatten(0, 1), teacher.flatten(0, 1)
            terms.append(contrast(nodes, others, _tokens_of_ranks(teacher, pair), self.temperature))
        return torch.stack(terms).sum()


def _attention(tokens: Float[Tensor, "b n d"]) -> Float[Tensor, "b n n"]:
    scores = ops.gram(tokens, tokens) / sqrt(tokens.shape[-1])
    return scores.softmax(-1)


def _tokens(pair: Pair) -> list[tuple[Tensor, Tensor]]:
    both = [(pair.student[name].x, pair.teacher[name].x) for name in pair.student.node_types]
    for student, teacher in both:
        if student.shape[1] != teacher.shape[1]:
            raise ShapeError(
                f"TRG compares token by token, found {student.shape[1]} tokens of the student and {teacher.shape[1]} "
                "of the teacher: leave out class tokens by prefix=, choose as many by tokens_per_image=, or use maps"
            )
    return both


def _rows(tokens: Float[Tensor, "b n d"], pair: Pair) -> tuple[Tensor, Tensor, Tensor]:
    """This rank's tokens, those of all ranks, and the places of the former among the latter."""
    mine, sizes = tokens.flatten(0, 1), _tokens_of_ranks(tokens, pair)
    start = distributed.first_row(sizes)
    return mine, distributed.gather(mine, list(sizes)), torch.arange(len(mine), device=mine.device) + start


def _tokens_of_ranks(tokens: Float[Tensor, "b n d"], pair: Pair) -> tuple[int, ...]:
    return tuple(tokens.shape[1] * size for size in pair.sizes)
