"""PRG's prompt weights, on handwritten digits: a small CLIP that learnt eight prompts for each class."""

from functools import cache

import numpy as np
import torch

from benchmarks.accuracy import students
from benchmarks.accuracy.config import Config, Method, Recipe
from benchmarks.accuracy.study import Problem
from benchmarks.accuracy.tower import cache_folder
from examples.stand_in_teacher import TEMPLATES, train_stand_in
from graphkd import Batch, CLIPTeacher, Features
from graphkd.data.datasets import digits_source
from graphkd.data.sources import ArraySource

RECIPE = Recipe(student="small_resnet", epochs=40, warmup=12.0)
SIDE = 32
PRG = {"node_weight": 6.4, "edge_weight": 12.3, "ce_weight": 0.1, "kl_weight": 0.0}
METHODS: list[Method] = [
    Method("ratio of maxima", "prg", PRG, "ratio scaled"),
    Method("softmax of maxima", "prg", PRG, "softmax scaled"),
    Method("softmax of cosines", "prg", PRG, "softmax cosine"),
    Method("ratio of probabilities", "prg", PRG, "ratio probability"),
    Method("uniform", "prg", PRG, "uniform scaled"),
]


@cache
def _parts() -> tuple[ArraySource, ...]:
    """Thirds: the teacher's labelled images, the students', and those scored on."""
    digits = digits_source()
    images = np.stack([np.asarray(digits.image(index).resize((SIDE, SIDE))) for index in range(len(digits))])
    labels = np.asarray([digits.target(index) for index in range(len(digits))])
    order = torch.randperm(len(digits), generator=torch.Generator().manual_seed(0)).numpy()
    return tuple(ArraySource(images[order[k::3]], labels[order[k::3]], digits.classes) for k in range(3))


@cache
def teacher(variant: str) -> CLIPTeacher:
    """The same network for every variant, ``"<weight> <score>"``; trained once."""
    weight, score = variant.split()
    taught = _parts()[0]
    config, checkpoint = train_stand_in(taught, TEMPLATES, cache_folder() / "digits", seed=0)
    names = taught.classes or ()
    return CLIPTeacher(config, pretrained=checkpoint, classes=names, templates=TEMPLATES, weight=weight, score=score)


def problem(config: Config) -> Problem:
    """A student of unlabelled digits, taught by weighted prompts."""
    _, train, scored = _parts()
    asked = teacher(config.variant)

    def look(batch: Batch) -> Features:
        return asked(batch.student)

    return Problem(
        train=train,
        scored=scored,
        teacher=asked,
        features=look,
        student=lambda: students.make(config.recipe.student, 10, (0.5,) * 3, (0.5,) * 3),
        padding=4,
        flip=False,
    )
