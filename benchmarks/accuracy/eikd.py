"""EIKD on pools of which the teacher knows a part: what selection, class dropping and each term bring."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np
import torch
from PIL import Image

from benchmarks.accuracy import caltech, cifar, data, tower
from benchmarks.accuracy.config import Config, Method
from benchmarks.accuracy.study import Problem
from graphkd import functional
from graphkd.data.pool import PoolScores, score_pool, scored
from graphkd.data.selection import select
from graphkd.data.sources import ArraySource
from graphkd.data.transforms import CenterView
from graphkd.distillers.eikd.class_dropping import CLASS_DROPPINGS, ClassDropping

CHOSEN = 3_000
RECIPE = replace(cifar.REDUCED, limit=CHOSEN)


class Dropped(ClassDropping):
    """A way of dropping classes that brought nothing: its row stands on the page, and it is no option of the method.

    Args:
        choose: which classes are kept, from the teacher's logits.
        student_keeps_all: the student's softmax runs over all classes.
    """

    def __init__(self, choose: Callable[[torch.Tensor], torch.Tensor], student_keeps_all: bool = False) -> None:
        super().__init__()
        self.choose, self.student_keeps_all = choose, student_keeps_all

    def forward(self, teacher: torch.Tensor) -> torch.Tensor:
        """The kept classes."""
        return self.choose(teacher)


CLASS_DROPPINGS.register("stochastic")(lambda classes: Dropped(lambda z: functional.random_classes(z, 0.5)))
CLASS_DROPPINGS.register("mass_at_1")(lambda classes: Dropped(lambda z: functional.mass_classes(z, 0.95, 1.0)))
CLASS_DROPPINGS.register("teacher_only")(
    lambda classes: Dropped(lambda z: functional.top_classes(z, min(classes, 10)), student_keeps_all=True)
)

KD = {"explicit_weight": 0.0, "implicit_weight": 0.0, "drop": "off"}
RAW = {**KD, "explicit": "features"}
UNIT = {**KD, "explicit": "unit_features"}
FORMER = {"relation": "cosine_mean"}  # divided by N^2, as the default was when these rows were measured
IMPLICIT = {"implicit_weight": 1.0, **FORMER}
ONES = {"explicit_weight": 1.0, **IMPLICIT}
X1000 = {"implicit_weight": 1000.0, **FORMER}
BEST = {"drop": "topk"}
AUTO = {"auto_weights": True}
SELECTED = {
    "KD of the best 10 classes": {**KD, **BEST},
    "KD of half of the classes by chance": {**KD, "drop": "stochastic"},
    "KD, teacher's best 10 classes": {**KD, "drop": "teacher_only"},
    "all classes, explicit": {**RAW, "explicit_weight": 1.0},
    "all classes, unit explicit": {**UNIT, "explicit_weight": 1.0},
    "all classes, unit explicit x 10": {**UNIT, "explicit_weight": 10.0},
    "all classes, implicit": {**KD, **IMPLICIT},
    "all classes, implicit x 1000": {**KD, **X1000},
    "all classes, explicit + implicit": {**RAW, **ONES},
    "all classes, unit explicit x 10 + implicit x 1000": {**UNIT, "explicit_weight": 10.0, **X1000},
    "all classes, unit explicit + implicit": {**UNIT, **ONES},
    "all classes, unit explicit + implicit over N": {**UNIT, **ONES, "relation": "cosine"},
    "all classes, unit explicit + implicit x 1000": {**UNIT, "explicit_weight": 1.0, **X1000},
    "best 10, unit explicit + implicit": {**UNIT, **ONES, **BEST},
    "best 10, explicit + implicit": {**RAW, **ONES, **BEST},
}
ONE_SEED = {
    "KD of 95 % of the probability": {**KD, "drop": "mass_at_1"},
    "all classes, explicit x 10": {**RAW, "explicit_weight": 10.0},
    "all classes, explicit + implicit, auto": {**RAW, **ONES, **AUTO},
    "best 10, explicit, auto": {**RAW, "explicit_weight": 1.0, **BEST, **AUTO},
    "best 10, implicit, auto": {**KD, **IMPLICIT, **BEST, **AUTO},
    "best 10, explicit + implicit, auto": {**RAW, **ONES, **BEST, **AUTO},
}


def _of_the_selection(rows: Mapping[str, Mapping[str, Any]]) -> list[Method]:
    return [Method(f"selected, {label}", "eikd", options, "selected") for label, options in rows.items()]


METHODS: list[Method] = [
    Method("random images, KD", "eikd", KD, "random"),
    Method("selected, KD", "eikd", KD, "selected"),
    Method("selected, no quota, KD", "eikd", KD, "selected globally"),
    Method("known images alone, KD", "eikd", KD, "known"),
    *_of_the_selection(SELECTED),
]
MORE: list[Method] = _of_the_selection(ONE_SEED)


SELECTIONS: Mapping[str, Mapping[str, Any]] = {
    "selected": {},
    "selected globally": {"balance": "global"},
    "selected by entropy": {"score": "entropy"},
    "selected above a floor": {"band": (0.7, 1.0)},
    "selected without attractors": {"class_confidence": 0.42},
    "selected without more attractors": {"class_confidence": 0.52},
}
"""How a pool's images are chosen -> options of ``select``."""


@dataclass(frozen=True)
class Pool:
    """Images without labels, of which the teacher knows the first ``known``.

    Args:
        images: all of them.
        known: how many are of the task.
        scores: the teacher's, for a selection.
    """

    images: ArraySource
    known: int
    scores: Callable[[], PoolScores]

    def chosen(self, which: str, count: int, seed: int) -> list[int]:
        """Positions in the pool: of one random draw a seed, or the same selection for every seed."""
        if which == "known":
            return list(range(min(count, self.known)))
        if which == "random":
            order = torch.randperm(len(self.images), generator=torch.Generator().manual_seed(seed))
            return order[:count].tolist()
        found = select(self.scores(), count, **SELECTIONS[which]).indices
        share, before = np.mean(found < self.known), self.known / len(self.images)
        print(f"{which}: the teacher knows {share:.0%} of these {count} images, {before:.0%} of the pool", flush=True)
        return [int(each) for each in found]


@cache
def cifar_pool() -> Pool:
    """3,000 images of CIFAR-100 that the teacher never saw, then all 4,114 of Caltech-101, made as small."""
    train = data.cifar100("train")
    known = train.images[tower.unlabelled("reduced", len(train))[:CHOSEN]]
    strangers = [
        np.asarray(Image.fromarray(each).resize((32, 32), Image.Resampling.BICUBIC)) for each in data.photographs()
    ]
    images = ArraySource(np.concatenate([known, np.stack(strangers)]))

    def scores() -> PoolScores:
        return score_pool(tower.TowerTeacher("reduced", []), images, transform=CenterView(32))

    return Pool(images, len(known), scores)


@cache
def caltech_pool() -> Pool:
    """The images of Caltech-101 that students of its 41 classes train on, then those of the other 59 classes."""
    (images, teacher), known = data.caltech_pool()
    return Pool(images, known, lambda: remembered(teacher, images.ids))


def remembered(teacher: data.StoredTeacher | data.KeptTeacher, ids: Sequence[str]) -> PoolScores:
    """Scores by confidence from features that are in memory."""
    known = scored(teacher.at(torch.arange(len(ids))))
    return PoolScores(**known, ids=ids, num_classes=teacher.num_classes, classes=None)


def cifar_problem(config: Config) -> Problem:
    """Students of the images that the configuration names, scored on CIFAR-100."""
    base, pool = cifar.with_labels(config), cifar_pool()
    kept = pool.chosen(config.variant, config.recipe.limit or CHOSEN, config.seed)
    return replace(base, train=data.subset(pool.images, kept), with_labels=False)


def caltech_problem(config: Config) -> Problem:
    """Likewise, scored on Caltech-101, with CLIP as teacher; as many images as it knows."""
    base, pool = caltech.problem(config), caltech_pool()
    kept = pool.chosen(config.variant, pool.known, config.seed)
    teacher = data.caltech_pool()[0].teacher
    return replace(
        base, train=data.subset(pool.images, kept), teacher=replace(teacher, embedding=teacher.embedding[kept])
    )
