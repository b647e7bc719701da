"""What a network says about a batch, in one frozen record that student and teacher share."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import torch

from graphkd.errors import MissingFeatureError, ShapeError
from graphkd.registry import Renamed
from graphkd.typing import Float, Int, Tensor

_FINDS = {
    "embedding": "the pooled vector before the classifier: Tap finds it, or pass Features(embedding=...)",
    "logits": "the class scores: Tap finds them; a teacher gives them if it has class names or a classifier",
    "proxies": "text embeddings or classifier rows: a teacher without text tower or classifier has none",
    "proxy_logits": "what the head says of each proxy: a teacher without class names or classifier has none",
    "maps": "feature maps by module path: Tap(model, maps=[...])",
    "tokens": "token sequences by module path: Tap(model, tokens=[...])",
}
PARTS: Final = tuple(_FINDS)
"""Fields that hold tensors."""
COMPUTE: Final = (torch.float32, torch.float64)
"""Types that graph mathematics runs in."""


@dataclass(frozen=True)
class Mixture:
    r"""Which images were blended (mixup, cutmix): image i became ``share_i * i + (1 - share_i) * permutation_i``.

    Args:
        permutation: index of each image's partner in the batch.
        share: share of the image itself, in [0, 1].

    Shapes: ``permutation`` (b,), ``share`` (b,).
    """

    permutation: Int[Tensor, " b"]
    share: Float[Tensor, " b"]

    def blend(self, values: Float[Tensor, "b *any"]) -> Float[Tensor, "b *any"]:
        """The same blend of another quantity of the batch."""
        share = self.share.to(values).view(-1, *[1] * (values.ndim - 1))
        return share * values + (1 - share) * values[self.permutation]


@dataclass(frozen=True)
class Features:
    """One network's view of a batch; a part that is absent is ``None``.

    Args:
        embedding: pooled vectors; for CLIP the image embedding of unit length.
        logits: class scores.
        proxies: one vector per class in the embedding's space (text embeddings, classifier rows).
        proxy_logits: what the head says of each proxy, row c those of proxy c.
        maps: feature maps by module path.
        tokens: token sequences by module path.
        mixture: set when the images were blended but these features are those of the unblended ones
            (features from a store).

    Shapes:
        embedding (b, d), logits (b, c), proxies (c, d), proxy_logits (c, c), maps (b, c, h, w), tokens (b, n, d).
    """

    embedding: Float[Tensor, "b d"] | None = None
    logits: Float[Tensor, "b c"] | None = None
    proxies: Float[Tensor, "c d"] | None = None
    proxy_logits: Float[Tensor, "c c"] | None = None
    maps: Mapping[str, Float[Tensor, "b c h w"]] | None = None
    tokens: Mapping[str, Float[Tensor, "b n d"]] | None = None
    mixture: Mixture | None = None

    def need(self, part: str, reader: str) -> Any:
        """A part that must be there.

        Args:
            part: name of the field.
            reader: who needs it, for the message.

        Raises: MissingFeatureError that says where the part comes from.
        """
        value = getattr(self, part)
        if value is None:
            raise MissingFeatureError(f"{reader} needs features.{part}, which is absent: {_FINDS[part]}")
        return value

    def tensor(self, part: str, reader: str) -> Tensor:
        """Like :meth:`need`, for the parts that are one tensor."""
        value: Tensor = self.need(part, reader)
        return value

    def map_tensors(self, change: Callable[[Tensor], Tensor]) -> "Features":
        """The same record with every floating-point tensor changed."""
        changed: dict[str, Any] = {}
        for part in _FINDS:
            value = getattr(self, part)
            if isinstance(value, Tensor):
                changed[part] = change(value)
            elif value is not None:
                changed[part] = {name: change(each) for name, each in value.items()}
        return Features(**changed, mixture=self.mixture)

    def tensors(self) -> list[Tensor]:
        """Every floating-point tensor of the record; never empty for features of a batch."""
        found: list[Tensor] = []
        for part in _FINDS:
            value = getattr(self, part)
            if isinstance(value, Tensor):
                found.append(value)
            elif value is not None:
                found.extend(value.values())
        return found

    @property
    def device(self) -> torch.device:
        """Where the features are. Raises: MissingFeatureError for an empty record."""
        return self._first().device

    @property
    def dtype(self) -> torch.dtype:
        """Precision of the first tensor. Raises: MissingFeatureError for an empty record."""
        return self._first().dtype

    def _first(self) -> Tensor:
        if found := self.tensors():
            return found[0]
        raise MissingFeatureError(
            "these features are empty: embedding, logits, proxies, maps and tokens are all absent"
        )

    def rows(self, span: slice | Int[Tensor, " n"]) -> "Features":
        """Some samples, by slice or indices; what all share (proxies, their logits, the mixture) stays whole."""
        return self._per_sample(lambda values: values[0][span], [self])

    @staticmethod
    def joined(parts: Sequence["Features"]) -> "Features":
        """The samples of several records, in order; what all share is the first one's."""
        return parts[0] if len(parts) == 1 else parts[0]._per_sample(torch.cat, parts)

    def _per_sample(self, make: Callable[[list[Tensor]], Tensor], records: Sequence["Features"]) -> "Features":
        made: dict[str, Any] = {}
        for name in ("embedding", "logits", "maps", "tokens"):
            values = [getattr(each, name) for each in records]
            if isinstance(values[0], Tensor):
                made[name] = make(values)
            elif values[0] is not None:
                made[name] = {key: make([each[key] for each in values]) for key in values[0]}
        return replace(self, **made)

    def detach(self) -> "Features":
        """The same values without their history."""
        return self.map_tensors(Tensor.detach) if any(each.requires_grad for each in self.tensors()) else self

    def to(self, device: torch.device | str) -> "Features":
        """The same values on another device, as tensors that autograd may keep."""
        moved = self.map_tensors(lambda value: ordinary(value.to(device, non_blocking=True)))
        if self.mixture is None:
            return moved
        mixture = Mixture(self.mixture.permutation.to(device), self.mixture.share.to(device))
        return replace(moved, mixture=mixture)

    def as_float32(self) -> "Features":
        """Half-precision tensors in float32, float64 as it is: the precision that graph mathematics runs in."""
        return self if all(map(_is_compute, self.tensors())) else self.map_tensors(as_compute)

    compute = Renamed("as_float32")

    def blended(self) -> "Features":
        """Embedding and logits of the blended images, exact where logits are linear in the embedding."""
        if self.mixture is None:
            return self
        blend = self.mixture.blend

        def mix(values: Tensor) -> Tensor:
            return blend(as_compute(values))

        return replace(
            self,
            embedding=None if self.embedding is None else mix(self.embedding),
            logits=None if self.logits is None else mix(self.logits),
            mixture=None,
        )

    def __len__(self) -> int:
        """Samples in the batch."""
        for value in (self.embedding, self.logits):
            if value is not None:
                return len(value)
        for group in (self.maps, self.tokens):
            if group:
                return len(next(iter(group.values())))
        raise MissingFeatureError(
            "these features describe no sample: embedding, logits, maps and tokens are all absent"
        )


def ordinary(value: Tensor) -> Tensor:
    """A tensor made under ``torch.inference_mode`` as a copy, since autograd refuses to keep it; others pass."""
    if torch.compiler.is_compiling() or torch.is_inference_mode_enabled() or not value.is_inference():
        return value
    return value.clone()


def _is_compute(value: Tensor) -> bool:
    """Whether :func:`as_compute` leaves a tensor as it is."""
    return value.dtype in COMPUTE and (torch.compiler.is_compiling() or not value.is_inference())


def as_compute(value: Tensor) -> Tensor:
    """Float16 and bfloat16 become float32; float32 and float64 pass, as tensors that autograd may keep.

    Raises: ShapeError for integer and complex tensors, which no graph is made of.
    """
    if value.dtype in COMPUTE:
        return ordinary(value)
    if value.dtype in (torch.float16, torch.bfloat16):
        return value.float()
    raise ShapeError(f"expected a real floating-point tensor, found {value.dtype}: convert it with .float() first")
