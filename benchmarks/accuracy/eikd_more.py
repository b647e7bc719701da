"""EIKD again: classes dropped into one bucket, other selections, terms that carry weight; images that are strangers.

A second pool is half of strangers: of TinyImageNet's 100 classes EfficientNet-Lite2 keeps every other one.
"""

from dataclasses import replace
from functools import cache
from typing import Any, Self, final

import torch
from torch import Tensor

from benchmarks.accuracy import data, eikd, tin100
from benchmarks.accuracy.candidates import CANDIDATES
from benchmarks.accuracy.config import Config, Method
from benchmarks.accuracy.study import Problem
from graphkd import Distiller, Features, Graph, Losses
from graphkd.distillers.eikd import EIKDDistiller
from graphkd.typing import Side


def rest_bucket(student: Tensor, teacher: Tensor, kept: int, temperature: float) -> tuple[Tensor, Tensor]:
    r"""Logits of the teacher's best classes, the best first, and of one bucket with the probability of all others.

    .. math:: z_{rest} = T \log \sum_{c \text{ dropped}} e^{z_c / T}

    Args:
        student, teacher: logits (b, c).
        kept: classes that stay apart; one less than all is plain KD.
        temperature: T, at which the bucket has the sum of its classes.
    Shapes: (b, c) twice -> (b, kept + 1) twice.
    """
    order = teacher.argsort(dim=1, descending=True, stable=True)

    def joined(z: Tensor) -> Tensor:
        best, others = z.gather(1, order).tensor_split([min(kept, z.shape[1] - 1)], dim=1)
        return torch.cat([best, temperature * (others / temperature).logsumexp(1, keepdim=True)], dim=1)

    return joined(student), joined(teacher)


@final
@CANDIDATES.register("eikd_rest")
class RestBucketDistiller(Distiller):
    """EIKD that sees the dropped classes as one: how much the teacher leaves to all of them, and not to which.

    Args:
        eikd: the method, which drops nothing itself.
        kept: best classes of each sample that stay apart.
    """

    def __init__(self, eikd: EIKDDistiller, kept: int = 10) -> None:
        super().__init__()
        self.eikd, self.kept, self.terms = eikd, kept, {}

    @classmethod
    def between(cls, student: Any, teacher: Any, *, kept: int = 10, **options: Any) -> Self:
        """Sized by both; options as of EIKD."""
        return cls(EIKDDistiller.between(student, teacher, **options), kept)

    def build(self, features: Features, side: Side) -> Graph:
        """EIKD's."""
        return self.eikd.build(features, side)

    def compare(self, student: Features, teacher: Features, beside: Any) -> Losses:
        """EIKD's terms over the classes kept and the bucket."""
        pair = (each.tensor("logits", "the rest bucket") for each in (student, teacher))
        joined = rest_bucket(*pair, self.kept, self.eikd.temperature)
        sides = zip((student, teacher), joined, strict=True)
        found: Losses = self.eikd(*(replace(each, logits=z, proxies=None, proxy_logits=None) for each, z in sides))
        return found


KD, DEFAULT = eikd.KD, {"drop": "off"}
STRONG = {**DEFAULT, "explicit_weight": 5.0, "implicit_weight": 5.0}
LABELS = {"random": "random images", "known": "known images alone"}
BUCKET = "KD of the best 10 classes and the rest"

METHODS: list[Method] = [
    *[Method(f"{LABELS.get(which, which)}, KD", "eikd", KD, which) for which in (*LABELS, *eikd.SELECTIONS)],
    Method("selected, KD of the best 10 classes", "eikd", {**KD, "drop": "topk"}, "selected"),
    Method(f"selected, {BUCKET}", "eikd_rest", KD, "selected"),
    Method("selected, KD + explicit + implicit", "eikd", DEFAULT, "selected"),
    Method("selected, KD + implicit x 5", "eikd", {**STRONG, "explicit_weight": 0.0}, "selected"),
    Method("selected, KD + explicit x 5 + implicit x 5", "eikd", STRONG, "selected"),
    Method(f"selected, {BUCKET} + explicit x 5 + implicit x 5", "eikd_rest", STRONG, "selected"),
    Method("selected above a floor, KD + explicit x 5 + implicit x 5", "eikd", STRONG, "selected above a floor"),
]
# No class of TinyImageNet has a mean confidence under 0.42; five of Caltech-101 have.
TIN100: list[Method] = [each for each in METHODS if each.variant != "selected without attractors"]

TASK = list(range(0, 100, 2))  # classes of TinyImageNet that the teacher knows: every other one
CHOSEN = 10_000  # images; of more the teacher is not sure enough for the floor


@cache
def tin100_pool() -> tuple[eikd.Pool, data.KeptTeacher]:
    """TinyImageNet's training images, those of the task first, and the teacher that knows its 50 classes alone."""
    train, found = data.tin100("train"), tin100.teacher("train").features
    mixed = torch.randperm(len(train), generator=torch.Generator().manual_seed(0)).tolist()
    order = sorted(mixed, key=lambda index: train.target(index) not in TASK)
    embedding, logits, proxies = (found.tensor(part, "a pool") for part in ("embedding", "logits", "proxies"))
    teacher = data.KeptTeacher(Features(embedding[order], logits[order][:, TASK], proxies[TASK]))
    images = data.subset(train, order)
    known = sum(images.target(index) in TASK for index in range(len(images)))
    return eikd.Pool(images, known, lambda: eikd.remembered(teacher, images.ids)), teacher


def tin100_problem(config: Config) -> Problem:
    """Students of images of the pool, scored on val's images of the task."""
    (pool, teacher), val = tin100_pool(), data.tin100("val")
    kept = pool.chosen(config.variant, CHOSEN, config.seed)
    mine = [(index, TASK.index(label)) for index in range(len(val)) if (label := val.target(index)) in TASK]
    places, labels = zip(*mine, strict=True)
    scored = data.ArraySource(val.images[list(places)], labels, [str(each) for each in TASK])
    said = data.KeptTeacher(teacher.at(torch.tensor(kept)))
    return tin100.problem(config, data.subset(pool.images, kept), scored, said)
