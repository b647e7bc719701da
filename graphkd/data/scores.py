"""How much a teacher's answer to an unlabelled image is worth: one number per sample, higher is better."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from graphkd.ops import expectation
from graphkd.registry import Registry
from graphkd.typing import Float, Tensor

Array: TypeAlias = "np.ndarray[Any, Any]"


def _itself(key: Array) -> Array:
    return key


@dataclass(frozen=True)
class Score:
    """A ranking of samples.

    Args:
        key: logits in float64 -> what samples are ranked by.
        value: key -> the same in the units that a penalty is subtracted from; default the key itself.

    Shapes: logits (b, c) -> (b,).
    """

    key: Callable[[Tensor], Tensor]
    value: Callable[[Array], Array] = _itself


SCORES: Registry[Score] = Registry("selection score")


def log_confidence(logits: Float[Tensor, "b c"]) -> Float[Tensor, " b"]:
    """log max p: separates samples where max p itself has rounded to 1."""
    return logits.log_softmax(-1).amax(-1)


def negative_entropy(logits: Float[Tensor, "b c"]) -> Float[Tensor, " b"]:
    """sum p log p, at most 0."""
    log_p = logits.log_softmax(-1)
    return expectation(log_p.exp(), log_p)


def margin(logits: Float[Tensor, "b c"]) -> Float[Tensor, " b"]:
    """Distance of the two best probabilities, in [0, 1]."""
    best = logits.softmax(-1).topk(min(2, logits.shape[-1])).values
    return best[:, 0] - best[:, 1:].sum(-1)


SCORES.register("confidence")(Score(log_confidence, np.exp))
SCORES.register("ce")(Score(log_confidence))  # DFND's: minus the cross-entropy with the teacher's own label
SCORES.register("entropy")(Score(negative_entropy))
SCORES.register("margin")(Score(margin))
