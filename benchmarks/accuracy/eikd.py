"""EIKD on a pool that mixes CIFAR-100 with other photographs: what selection, dropping and each term bring."""

from dataclasses import replace
from functools import cache

import numpy as np
import torch
from PIL import Image

from benchmarks.accuracy import cifar, data, tower
from benchmarks.accuracy.config import Config, Method
from benchmarks.accuracy.study import Problem
from graphkd.data.pool import score_pool
from graphkd.data.selection import select
from graphkd.data.sources import ArraySource
from graphkd.data.transforms import CenterView

KNOWN, CHOSEN = 3_000, 3_000
RECIPE = replace(cifar.REDUCED, limit=CHOSEN)

KD = {"explicit_weight": 0.0, "implicit_weight": 0.0, "drop": "off"}
DROP = {**KD, "drop": "topk"}
EXPLICIT = {**DROP, "explicit_weight": 1.0, "auto_weights": True}
IMPLICIT = {**DROP, "implicit_weight": 1.0, "auto_weights": True}
BOTH = {**EXPLICIT, "implicit_weight": 1.0}
METHODS: list[Method] = [
    Method("random images, KD", "eikd", KD, "random"),
    Method("selected, KD", "eikd", KD, "selected"),
    Method("selected, no quota, KD", "eikd", KD, "selected globally"),
    Method("selected, KD of the best 10 classes", "eikd", DROP, "selected"),
    Method("selected, best 10, explicit", "eikd", EXPLICIT, "selected"),
    Method("selected, best 10, implicit", "eikd", IMPLICIT, "selected"),
    Method("selected, best 10, explicit + implicit", "eikd", BOTH, "selected"),
    Method("selected, all classes, explicit + implicit", "eikd", {**BOTH, "drop": "off"}, "selected"),
    Method("CIFAR-100 alone, KD", "eikd", KD, "known"),
]


@cache
def pool() -> ArraySource:
    """3,000 images of CIFAR-100 that the teacher never saw, then all 4,114 of Caltech-101, made as small; no labels."""
    train = data.cifar100("train")
    known = train.images[tower.unlabelled("reduced", len(train))[:KNOWN]]
    strangers = [
        np.asarray(Image.fromarray(each).resize((32, 32), Image.Resampling.BICUBIC)) for each in data.photographs()
    ]
    return ArraySource(np.concatenate([known, np.stack(strangers)]))


def chosen(which: str, seed: int) -> list[int]:
    """Positions in the pool: of one random draw a seed, or the same selection for every seed."""
    images = len(pool())
    if which == "known":
        return list(range(KNOWN))
    if which == "random":
        return torch.randperm(images, generator=torch.Generator().manual_seed(seed))[:CHOSEN].tolist()
    teacher = tower.TowerTeacher("reduced", [])
    scores = score_pool(teacher, pool(), transform=CenterView(32))
    found = select(scores, CHOSEN, balance="global" if which == "selected globally" else "class").indices
    print(f"{which}: {np.mean(found < KNOWN):.0%} of {CHOSEN} images are CIFAR-100's, of the pool {KNOWN / images:.0%}")
    return [int(each) for each in found]


def problem(config: Config) -> Problem:
    """Students of the images that the configuration names, scored on CIFAR-100."""
    base = cifar.with_labels(config)
    kept = chosen(config.variant, config.seed)[: config.recipe.limit]
    return replace(base, train=data.subset(pool(), kept), with_labels=False)
