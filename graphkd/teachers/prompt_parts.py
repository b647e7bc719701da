"""The exchangeable parts of prompt weighting: score of a class, its reduction to m, and the weight of m."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch

from graphkd.errors import OptionError
from graphkd.registry import Registry, unknown
from graphkd.typing import Float, Tensor

LogWeight: TypeAlias = Callable[[Tensor], Tensor]
Score: TypeAlias = Callable[[Tensor, float], Tensor]
Reduction: TypeAlias = Callable[[Tensor], Tensor]

PROMPT_WEIGHTS: Registry[LogWeight] = Registry("prompt weight")
PROMPT_SCORES: Registry[Score] = Registry("prompt score")
PROMPT_SCOPES: Registry[Reduction] = Registry("prompt scope")

FLOOR = 1e-6  # of m in the ratio: m > 0 holds for CLIP in practice


@PROMPT_WEIGHTS.register
def ratio(m: Float[Tensor, "*any"]) -> Float[Tensor, "*any"]:
    """g(m) = m: each prompt by its share of the maxima. Negative m count as 1e-6."""
    return m.clamp_min(FLOOR).log()


@PROMPT_WEIGHTS.register
def softmax(m: Float[Tensor, "*any"]) -> Float[Tensor, "*any"]:
    """g(m) = exp(m): much sharper, and sensitive to the scale of m."""
    return m


@PROMPT_WEIGHTS.register
def uniform(m: Float[Tensor, "*any"]) -> Float[Tensor, "*any"]:
    """g(m) = 1: the plain mean over prompts, for ablation."""
    return torch.zeros_like(m)


@PROMPT_SCORES.register
def scaled(logits: Float[Tensor, "b c"], scale: float) -> Float[Tensor, "b c"]:
    """The logits s <f, t> themselves."""
    return logits


@PROMPT_SCORES.register
def cosine(logits: Float[Tensor, "b c"], scale: float) -> Float[Tensor, "b c"]:
    """The cosines <f, t>."""
    return logits / scale


@PROMPT_SCORES.register
def probability(logits: Float[Tensor, "b c"], scale: float) -> Float[Tensor, "b c"]:
    """The softmax of the logits over the classes."""
    return logits.softmax(-1)


@PROMPT_SCOPES.register
def sample(scores: Float[Tensor, "b c"]) -> Float[Tensor, "b 1"]:
    """One weight per sample and prompt: m is the largest score over the classes."""
    return scores.amax(-1, keepdim=True)


@PROMPT_SCOPES.register("class")
def per_class(scores: Float[Tensor, "b c"]) -> Float[Tensor, "b c"]:
    """One weight per sample, prompt and class: m is the class's own score."""
    return scores


@dataclass(frozen=True)
class PromptWeighting:
    """One choice of the parts, checked; ``scope="dataset"`` stands for the two stages below.

    Raises: UnknownNameError; OptionError for tau <= 0 and for a function without a name.
    """

    weight: str | LogWeight = "ratio"
    scope: str = "sample"
    score: str | Score = "scaled"
    tau: float = 1.0

    def __post_init__(self) -> None:
        PROMPT_WEIGHTS.resolve(self.weight)
        PROMPT_SCORES.resolve(self.score)
        if self.scope not in (known := [*PROMPT_SCOPES, "dataset"]):
            raise unknown("prompt scope", self.scope, known)
        if not self.tau > 0:
            raise OptionError(f"tau must be > 0, found {self.tau}")
        self.spec()

    def spec(self) -> dict[str, Any]:
        """The choice as JSON-ready data, functions by their full names: part of a teacher's fingerprint."""
        return {"weight": _name(self.weight), "scope": self.scope, "score": _name(self.score), "tau": self.tau}


def _name(part: Any) -> str:
    if isinstance(part, str):
        return part
    name = getattr(part, "__qualname__", "<lambda>")
    if "<lambda>" in name:
        raise OptionError(
            f"{part!r} has no name of its own, and the fingerprint needs one: define the function with def"
        )
    return f"{part.__module__}.{name}"
