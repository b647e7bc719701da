"""Label-free students of EfficientNet-Lite2, pretrained on ImageNet, on 100 classes of TinyImageNet.

    python -m benchmarks.accuracy.tin100    # embeds the images once, and says how good the teacher is

The teacher learnt 1,000 classes with labels, probably on these very pictures at full size; here it sees 64 x 64 pixels
enlarged to 224, and keeps the rows of its classifier that the task needs.
"""

import json
import time
from dataclasses import replace
from functools import cache
from pathlib import Path

import torch

from benchmarks.accuracy import caltech, data, students
from benchmarks.accuracy.choice import RESULTS, trials
from benchmarks.accuracy.config import Config, Method, Recipe, fast_precision
from benchmarks.accuracy.observer import cpu_seconds
from benchmarks.accuracy.study import Problem
from benchmarks.accuracy.tower import cache_folder
from graphkd import EmbeddingStore, Features, embed
from graphkd.data.transforms import CenterView
from graphkd.files import write_file
from graphkd.teachers.base import Precision
from graphkd.teachers.lite import lite_teacher

RECIPE = Recipe(student="thin_resnet", epochs=30, warmup=3.0, batch=128)
HALF = replace(RECIPE, epochs=15, warmup=1.5)  # of the choice: twice as many trials
SIDE = 224
PRECISION: dict[str, Precision] = {"bf16": "bf16", "no": "fp32"}
HELD_OUT = 50  # images a class, of the choice


def teacher(part: str) -> data.KeptTeacher:
    """What lite2 says of all ``"train"`` or ``"val"`` images; embedded now if it never was."""
    return data.KeptTeacher(_features(part))


@cache
def _features(part: str) -> Features:
    path = cache_folder() / f"tin100-{part}-lite2-{SIDE}"
    if not path.with_suffix(".json").is_file():
        _embed(part, path)
    store = EmbeddingStore(path)
    return store[torch.arange(len(store))]


def _embed(part: str, path: Path) -> None:
    """By the library's own embed; what it took stands beside the store."""
    source = data.tin100(part)
    known = lite_teacher("lite2", data.tin100_classes(), image_size=SIDE, precision=PRECISION[fast_precision()])
    known._tap.to(memory_format=torch.channels_last)  # 24 in place of 35 ms an image in bf16; 47 and 85 in float32
    began, cpu = time.perf_counter(), cpu_seconds()
    store = embed(known, source, path, transform=CenterView(64), batch_size=50, progress=False)
    found = store[torch.arange(len(store))]
    labels = [source.target(index) for index in range(len(source))]
    facts = {
        "images": len(store),
        "seconds": round(time.perf_counter() - began, 1),
        "cpu_seconds": round(cpu_seconds() - cpu, 1),
        "teacher_top1": 100 * data.top1(found, labels),
    }
    write_file(path.with_suffix(".json"), json.dumps(facts))


@cache
def split() -> tuple[list[int], list[int]]:
    """(20,000 training images that students of the choice see, without labels; 5,000 that they are scored on)."""
    labels = torch.tensor([data.tin100("train").target(index) for index in range(len(data.tin100("train")))])
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
    held = torch.cat([order[labels[order] == label][:HELD_OUT] for label in range(int(labels.max()) + 1)])
    kept = torch.ones(len(labels), dtype=torch.bool)
    kept[held] = False
    return kept.nonzero()[:, 0].tolist(), held.sort().values.tolist()


def choice(config: Config) -> Problem:
    """Students of 20,000 training images, scored on the other 5,000."""
    train, (kept, held) = data.tin100("train"), split()
    known = data.KeptTeacher(teacher("train").at(torch.tensor(kept)))
    return problem(config, data.subset(train, kept), data.subset(train, held), known)


def confirmation(config: Config) -> Problem:
    """Students of all 25,000 training images, scored on val."""
    return problem(config, data.tin100("train"), data.tin100("val"), teacher("train"))


def problem(config: Config, train: data.ArraySource, scored: data.ArraySource, known: data.KeptTeacher) -> Problem:
    """Students of these images and of what the teacher says of them."""
    return Problem(
        train=train,
        scored=scored,
        teacher=known,
        student=lambda: students.make(config.recipe.student, known.num_classes, *data.IMAGENET),
        padding=6,
    )


PSEUDO = Method("pseudo-label CE", "prg", caltech.ALONE)
PRG = Method("PRG", "prg", {})
LABELS = Method("true labels", "labels", {})
CHOICE: list[Method] = trials(1.0)


def _beside_ce(label: str, name: str, **options: object) -> Method:
    return Method(label, "combined", {"parts": {"prg": caltech.ALONE, name: options}})


MORE: list[Method] = [
    Method("mimicking + CE", "mimic", {}),
    Method("PRG literal", "prg", {"preset": "literal"}),
    Method("PRG, node only", "prg", {"edge_weight": 0.0}),
    Method("PRG, edge only", "prg", {"node_weight": 0.0}),
    _beside_ce("CE + EGA", "ega", teacher_head="none"),
    _beside_ce("CE + RKD", "rkd"),
    _beside_ce("CE + SP", "sp", on="embedding"),
    Method("DIST", "dist", {"temperature": 4.0}),
]


def main() -> None:
    """Embed, and keep what that took and how good the teacher is beside the results."""
    facts = {}
    for part in ("train", "val"):
        teacher(part)
        facts[part] = json.loads((cache_folder() / f"tin100-{part}-lite2-{SIDE}.json").read_text())
    write_file(RESULTS / "tin100-teacher.json", json.dumps(facts, indent=1) + "\n")
    print(facts)


if __name__ == "__main__":
    main()
