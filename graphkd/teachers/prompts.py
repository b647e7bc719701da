r"""Prompt weighting: one set of class logits out of the logits of many prompts, streamed over the prompts.

All forms are one formula, :math:`w_p \propto g(m_p / \tau)`, made of exchangeable parts: the *score* of a class
(``PROMPT_SCORES``), its reduction to m (``PROMPT_SCOPES``) and the *weight* g, given as log g (``PROMPT_WEIGHTS``).
With log g, an online softmax serves every g: one pass over the prompts, rescaled when a larger log-weight appears.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch

from graphkd.errors import OptionError, ShapeError
from graphkd.features import as_compute
from graphkd.registry import Registry, unknown
from graphkd.typing import Float, Tensor

LogWeight: TypeAlias = Callable[[Tensor], Tensor]
Score: TypeAlias = Callable[[Tensor, float], Tensor]
Reduction: TypeAlias = Callable[[Tensor], Tensor]

PROMPT_WEIGHTS: Registry[LogWeight] = Registry("prompt weight")
PROMPT_SCORES: Registry[Score] = Registry("prompt score")
PROMPT_SCOPES: Registry[Reduction] = Registry("prompt scope")

CHUNK = 2**20  # elements of one working matrix: 4 MiB in float32
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
    """One choice of the parts, checked.

    ``scope="dataset"`` stands for the two stages :func:`prompt_scores` and :func:`weighted_texts`.

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


@torch.no_grad()
def prompt_logits(
    image: Float[Tensor, "b d"],
    texts: Float[Tensor, "p c d"],
    scale: float,
    *,
    weight: str | LogWeight = "ratio",
    scope: str | Reduction = "sample",
    score: str | Score = "scaled",
    tau: float = 1.0,
) -> Float[Tensor, "b c"]:
    r"""Weighted average of the prompts' logits, without gradient.

    .. math:: \bar z_{ic} = \sum_p w_{pi} z_{pic}, \quad z_{pic} = s \langle f_i, t_{pc} \rangle, \quad
              w_{pi} = \frac{g(m_{pi} / \tau)}{\sum_q g(m_{qi} / \tau)}, \quad m_{pi} = \max_c \mathrm{score}(z_{pic})

    Paper: Xu, Liu, Wei, Li, "PRG", arXiv 2408.12248 (reconstruction: the weight's formula is not published).
    Extra memory is a few [b, c] matrices, whatever the number of prompts; rows are taken in chunks of 4 MiB and
    ``texts`` may be stored in half precision, as one prompt at a time is raised to the precision of ``image``.

    Args:
        image: image embeddings of unit length.
        texts: text embeddings of unit length, one per prompt and class.
        scale: logit scale s, > 0 (100 for OpenAI's CLIP).
        weight: ``"ratio"``, ``"softmax"``, ``"uniform"`` or a function m -> log g(m).
        scope: ``"sample"``, ``"class"`` or a reduction of scores [b, c] to [b, 1] or [b, c]. For weights shared by a
            whole data set see :func:`prompt_scores` and :func:`weighted_texts`.
        score: what enters m: ``"scaled"`` logits, ``"cosine"``, ``"probability"`` or (logits, scale) -> [b, c].
        tau: temperature that divides m, > 0; the ratio does not feel it.

    Shapes: (b, d), (p, c, d) -> (b, c).
    Raises: ShapeError if the widths differ; UnknownNameError; OptionError unless scale and tau are > 0.
    Example: ``prompt_logits(image, texts[:1], 100.0)`` equals ``100 * image @ texts[0].T``.
    """
    weigh, reduce, rate = PROMPT_WEIGHTS.resolve(weight), PROMPT_SCOPES.resolve(scope), PROMPT_SCORES.resolve(score)
    image = _checked(image, texts, scale, tau)
    rows = max(1, CHUNK // texts.shape[1])
    with torch.autocast(image.device.type, enabled=False):
        return torch.cat(
            [
                _mix(part, texts, scale, lambda z: weigh(reduce(rate(z, scale)) / tau))
                for part in torch.split(image, rows)
            ]
        )


def _mix(image: Tensor, texts: Tensor, scale: float, log_weight: Callable[[Tensor], Tensor]) -> Tensor:
    """Online softmax over the prompts: ``mixed`` and ``total`` are sums relative to the largest log-weight so far."""
    peak = image.new_full((len(image), 1), -torch.inf)
    total = image.new_zeros(len(image), 1)
    mixed = image.new_zeros(len(image), texts.shape[1])
    logits = torch.empty_like(mixed)  # [b, c], one buffer for all prompts
    for text in texts:
        torch.mm(image, text.to(image).T, out=logits).mul_(scale)
        new = log_weight(logits)  # [b, 1] or [b, c]
        higher = torch.maximum(peak, new)
        shrink, share = (peak - higher).exp_(), (new - higher).exp_()
        total = total * shrink + share
        mixed.mul_(shrink).addcmul_(share, logits)
        peak = higher
    return mixed.div_(total)


@torch.no_grad()
def prompt_scores(
    images: Iterable[Float[Tensor, "b d"]],
    texts: Float[Tensor, "p c d"],
    scale: float,
    *,
    scope: str | Reduction = "sample",
    score: str | Score = "scaled",
) -> Float[Tensor, "p k"]:
    r"""Mean of m over all images, :math:`\bar m_p = \mathrm{mean}_i m_{pi}`: the first stage of weights per data set.

    Paper: the data-set scope is that of ZPE, Allingham et al., arXiv 2302.06235 (whose bias correction is not applied).
    Args:
        images: batches of image embeddings of unit length.
        texts, scale, scope, score: as in :func:`prompt_logits`.

    Shapes: batches of (b, d), (p, c, d) -> (p, 1), or (p, c) for ``scope="class"``, float64.
    Raises: OptionError if there is no image.
    """
    reduce, rate = PROMPT_SCOPES.resolve(scope), PROMPT_SCORES.resolve(score)
    total: Tensor | None = None
    count = 0
    for batch in images:
        image = _checked(batch, texts, scale)
        with torch.autocast(image.device.type, enabled=False):
            batch_total = torch.stack(
                [_score_sum(image, text, scale, lambda z: reduce(rate(z, scale))) for text in texts]
            )
        total = batch_total if total is None else total + batch_total
        count += len(image)
    if total is None or not count:
        raise OptionError("prompt weights per data set need at least one image, found none: give batches of images")
    return total / count


def _score_sum(image: Tensor, text: Tensor, scale: float, score: Callable[[Tensor], Tensor]) -> Tensor:
    rows = max(1, CHUNK // len(text))
    parts = [score(scale * part @ text.to(part).T).sum(0, dtype=torch.float64) for part in torch.split(image, rows)]
    return torch.stack(parts).sum(0)


@torch.no_grad()
def weighted_texts(
    texts: Float[Tensor, "p c d"],
    scores: Float[Tensor, "p k"] | None = None,
    *,
    weight: str | LogWeight = "ratio",
    tau: float = 1.0,
) -> Float[Tensor, "c d"]:
    r"""Text embeddings averaged over prompts with fixed weights: the second stage of weights per data set.

    .. math:: t_c = \sum_p w_p t_{pc}, \quad w_p = g(\bar m_p / \tau) \big/ \sum_q g(\bar m_q / \tau)

    With fixed weights the average of the logits is the logit of this average,
    :math:`\bar z_{ic} = s \langle f_i, t_c \rangle`. It is not of unit length; ``scores=None`` gives the plain mean.

    Shapes: (p, c, d), (p, 1) or (p, c) -> (c, d).
    Raises: ShapeError if scores and texts have different numbers of prompts.
    """
    if scores is None:
        scores, weight = texts.new_zeros(len(texts), 1, dtype=torch.float64), "uniform"
    if len(scores) != len(texts):
        raise ShapeError(f"{len(scores)} prompt scores and {len(texts)} prompts differ: fit the scores on these texts")
    shares = PROMPT_WEIGHTS.resolve(weight)(scores / tau).softmax(0)
    precision = torch.float64 if texts.dtype == torch.float64 else torch.float32
    mean = texts.new_zeros(texts.shape[1:], dtype=precision)
    for text, share in zip(texts, shares.to(mean), strict=True):
        mean.addcmul_(text.to(precision), share.unsqueeze(-1))
    return mean


def _checked(image: Tensor, texts: Tensor, scale: float, tau: float = 1.0) -> Tensor:
    if image.ndim != 2 or texts.ndim != 3 or image.shape[1] != texts.shape[2] or not texts.shape[0]:
        raise ShapeError(
            f"expected image embeddings (b, d) and texts (p, c, d) with p >= 1 and the same d, "
            f"found {tuple(image.shape)} and {tuple(texts.shape)}"
        )
    if not (scale > 0 and tau > 0):
        raise OptionError(f"scale and tau must be > 0, found scale={scale} and tau={tau}")
    return as_compute(image)
