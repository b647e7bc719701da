"""Several methods at once: their terms, weighted."""

from collections.abc import Mapping
from typing import Any, ClassVar, Final, final

from torch import nn

from graphkd.distillers.base import DISTILLERS, Distiller
from graphkd.distillers.factory import create_distiller
from graphkd.distillers.sizes import without_classes
from graphkd.errors import GraphError, OptionError
from graphkd.features import Features
from graphkd.graphs.graph import Graph
from graphkd.losses import Losses
from graphkd.registry import unknown
from graphkd.typing import Side

MIMIC: Final = {"feature_weight": 5.0}
TEMPERATURE: Final = {True: 8.0, False: 1.0}
"""Of KD, by whether the teacher's classes are texts: CLIP's logits want 2 to 8, those of a classifier 1 or less."""


def auto_parts(student: Any, teacher: Any) -> dict[str, dict[str, float]]:
    """What to take without labels, as ``docs/evidence.md`` has it: KD, mimicking, and CE with pseudo-labels.

    Mimicking alone for a student without classes, of which KD and CE have nothing to compare. A teacher that does not
    say whether its classes are texts counts as if they were.
    """
    if without_classes(student):
        return {"mimic": MIMIC}
    temperature = TEMPERATURE[getattr(teacher, "by_text", True)]
    return {"kd": {"weight": 1.0, "temperature": temperature}, "mimic": MIMIC}


@final
@DISTILLERS.register("combined")
class CombinedDistiller(Distiller):
    r"""A weighted sum of methods, :math:`L = \sum_k w_k L_k`.

    Paper: every paper that combines; such as CRD + KD (Tian, Krishnan, Isola, ICLR 2020).
    Args:
        parts: name -> distiller. A name is free, so that one method may occur twice; terms are called
            ``<name>/<term>``.
        weights: name -> factor >= 0 on all terms of a part; default 1 each. 0 leaves the part out.
    Shapes: those of the parts.
    Raises: OptionError without parts or for a weight < 0, UnknownNameError for the weight of no part.
    Example: ``CombinedDistiller({"kd": KDDistiller(), "rkd": RKDDistiller()}, weights={"rkd": 0.5})``, or
        ``create_distiller("combined", student, teacher, parts={"kd": {}, "rkd": {"angle_weight": 0}})``; without
        ``parts`` it is ``auto_parts``: KD (T = 8 for a teacher of texts, 1 for a classifier), mimicking (weight 5) and
        cross-entropy with pseudo-labels, the sum that our evidence prefers without labels
    """

    reads_16_bits: ClassVar[bool] = True  # each part makes of them what it needs

    def __init__(self, parts: Mapping[str, Distiller], *, weights: Mapping[str, float] | None = None) -> None:
        super().__init__()
        weights = {**dict.fromkeys(parts, 1.0), **(weights or {})}
        for name, weight in weights.items():
            if name not in parts:
                raise unknown("part", name, sorted(parts))
            if not 0 <= weight < float("inf"):
                raise OptionError(f"the weight of part {name!r} is a finite number >= 0, found {weight}")
        self.weights = {name: weight for name, weight in weights.items() if weight}
        if not self.weights:
            raise OptionError("a combination needs a part of weight > 0: give parts={'kd': KDDistiller(), ...}")
        self.parts = nn.ModuleDict({name: parts[name] for name in self.weights})
        self.relates_maps = any(each.relates_maps or each.global_batch == "per_image" for each in self._each().values())
        self.terms = {}

    @classmethod
    def between(cls, student: Any, teacher: Any, **options: Any) -> "CombinedDistiller":
        """A combination of the right size.

        Args:
            student, teacher: as of ``create_distiller``.
            options: ``parts``, name of a method -> its options (or a distiller), default ``auto_parts``; ``weights``.

        Raises: UnknownNameError for any other.
        """
        cls.check_options(options)
        chosen = options.pop("parts", None)
        parts = {
            name: part if isinstance(part, Distiller) else create_distiller(name, student, teacher, **part)
            for name, part in (auto_parts(student, teacher) if chosen is None else chosen).items()
        }
        return cls(parts, **options)

    @property
    def active_inputs(self) -> frozenset[str]:
        """What any part needs."""
        return frozenset().union(*(part.active_inputs for part in self._each().values()))

    def build(self, features: Features, side: Side) -> Graph:
        """Raises: GraphError, since each part has a graph of its own."""
        raise GraphError(
            f"a combination has a graph for each part ({', '.join(self.parts)}): ask one, distiller.parts['...'].build"
        )

    def compare(self, student: Features, teacher: Features, beside: Mapping[str, Any]) -> Losses:
        """The terms of all parts, each from its own graphs."""
        losses = Losses()
        for name, part in self._each().items():
            found = part(student, teacher, **beside)
            weight = self.weights[name]
            losses.update({f"{name}/{key.partition('/')[2]}": weight * value for key, value in found.items()})
        return losses

    def _each(self) -> dict[str, Distiller]:
        return {name: part for name, part in self.parts.items() if isinstance(part, Distiller)}
