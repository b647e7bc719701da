"""CRG with labels on TinyImageNet: a small student of another kind learns from the maps of EfficientNet-Lite0.

The teacher sees 160 x 160 pixels and has 24, 40 and 112 channels where the student has 16, 32 and 64, at the same
strides. It is asked once: each image has a few fixed views, shifted and flipped, which every student sees in turn.
"""

from functools import cache

import torch
from safetensors.torch import load_file, save
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

from benchmarks.accuracy import data, students
from benchmarks.accuracy.config import Config, Method, Recipe, fast_precision
from benchmarks.accuracy.study import Problem, seen_by
from benchmarks.accuracy.tensors import TensorViews
from benchmarks.accuracy.tin100 import PRECISION
from benchmarks.accuracy.tower import cache_folder
from graphkd import Features
from graphkd.data.sources import ArraySource
from graphkd.files import write_file
from graphkd.teachers.lite import lite_teacher

IMAGES, VIEWS = 3_000, 4
RECIPE = Recipe(student="thin_resnet", epochs=8, warmup=1.0)  # an epoch is every view of every image
LEVELS = {"body.4": "blocks.1", "body.5": "blocks.2", "body.6": "blocks.4"}
SIDES = {"blocks.1": 16, "blocks.2": 8, "blocks.4": 4}
"""The teacher's map -> side of the student's, to which CRG averages it."""


@cache
def pictures() -> ArraySource:
    """The views of the training images, the first view of all images first."""
    source = data.tin100("train")
    kept = torch.randperm(len(source), generator=torch.Generator().manual_seed(0))[:IMAGES].tolist()
    views, every = TensorViews(data.subset(source, kept), padding=6), torch.arange(IMAGES)
    pixels = torch.cat([views.batch(view, every).student for view in range(VIEWS)]).permute(0, 2, 3, 1)
    labels = [source.target(index) for index in kept] * VIEWS
    return ArraySource((pixels * 255).round().byte().numpy(), labels, source.classes)


def seen() -> Features:
    """Logits and maps of those pictures, in the student's size; the teacher is asked now if it never was."""
    path = cache_folder() / f"tin100-crg-{IMAGES}x{VIEWS}.safetensors"
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_file(path, save(_ask()))
    found = load_file(path)
    return Features(logits=found.pop("logits"), maps=found)


@torch.no_grad()
def _ask() -> dict[str, Tensor]:
    precision = PRECISION[fast_precision()]
    teacher = lite_teacher("lite0", data.tin100_classes(), image_size=160, maps=list(SIDES), precision=precision)
    teacher._tap.to(memory_format=torch.channels_last)
    parts: dict[str, list[Tensor]] = {}
    for batch in TensorViews(pictures()).loader(50, shuffle=False, drop_last=False):
        features = teacher(batch.student)
        parts.setdefault("logits", []).append(features.tensor("logits", "the study"))
        for name, each in (features.maps or {}).items():
            parts.setdefault(name, []).append(adaptive_avg_pool2d(each, SIDES[name]).half())
    return {name: torch.cat(each).contiguous() for name, each in parts.items()}


def problem(config: Config) -> Problem:
    """Students of the views, with their labels, scored on val."""
    known = data.KeptTeacher(seen())
    return Problem(
        train=pictures(),
        scored=data.tin100("val"),
        teacher=known,
        student=lambda: students.make(config.recipe.student, 100, *data.IMAGENET, maps=list(LEVELS)),
        padding=0,
        with_labels=True,
        sizes=lambda student: (seen_by(student, torch.zeros(2, 3, 64, 64)), known.at(torch.arange(2))),
    )


CARRYING = {"alpha": 0.3, "beta": 10.0, "gamma": 25.0, "tau": 4.0}
"""Each term has 13 to 27 % of the gradient from start to end of one epoch. At the default tau, masks of these maps,
whose root mean square is 4 to 6, leave two or three channels of each level."""


def _carrying(label: str, **changes: float) -> Method:
    return Method(label, "crg", {"maps": LEVELS, **CARRYING, **changes})


METHODS: list[Method] = [
    Method("labels alone", "labels", {}),
    Method("KD", "kd", {"weight": 0.9, "temperature": 4.0}),
    Method("CRG, defaults", "crg", {"maps": LEVELS}),
    _carrying("CRG"),
]
MORE: list[Method] = [
    _carrying("edges x 4", beta=4 * CARRYING["beta"]),
    _carrying("edges / 4", beta=CARRYING["beta"] / 4),
    _carrying("spectrum x 4", gamma=4 * CARRYING["gamma"]),
    _carrying("spectrum / 4", gamma=CARRYING["gamma"] / 4),
    _carrying("sharp masks", alpha=0.05, beta=3.5, gamma=20.0, tau=0.5),
    _carrying("without vertices", alpha=0.0),
    _carrying("without edges", beta=0.0),
    _carrying("without spectrum", gamma=0.0),
]
