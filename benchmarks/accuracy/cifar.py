"""CIFAR-100 with a CLIP-like teacher: an image tower scored against CLIP's vectors of the 100 class names."""

from dataclasses import replace

import torch

from benchmarks.accuracy import caltech, data, students, tower
from benchmarks.accuracy.config import Config, Method, Recipe
from benchmarks.accuracy.study import Problem, device, seen_by
from graphkd import Features, Tap

REDUCED = Recipe(student="resnet20", epochs=10, warmup=2.0, batch=64, limit=10_000)
SMALLER = replace(REDUCED, limit=2_500)  # an ablation with three seeds takes about an hour on two cores
FULL = Recipe(student="resnet8x4", epochs=100, warmup=5.0, batch=256, compile=True)

WITHOUT_LABELS: list[Method] = [
    Method("pseudo-label CE", "prg", caltech.ALONE),
    Method("KD", "kd", caltech.KD),
    Method("mimicking + CE", "mimic", {}),
    Method("KD + mimicking + CE", "combined", {"parts": {"kd": caltech.KD, "mimic": {}}}),
    Method("PRG", "prg", caltech.TRIAL),
    Method("PRG, defaults", "prg", caltech.DEFAULTS),
]
# The second data set of PRG's ablation.
PRG_ABLATION: list[Method] = [
    *caltech.LITERAL[:-1],
    Method("PRG", "prg", caltech.PRG),
    *[each for each in caltech.ABLATION if each.label in ("edge weight x 4", "nodes: features and logits")],
    *[each for each in WITHOUT_LABELS if each.label in ("KD", "KD + mimicking + CE")],
]
LAST = {"layer3": "layer3"}
ALL = {name: name for name in ("layer1", "layer2", "layer3")}
WITH_LABELS: list[Method] = [
    Method("labels alone", "labels", {}),
    Method("KD", "kd", {"weight": 0.9, "temperature": 4.0}),
    Method("DKD", "dkd", {}),
    Method("DIST", "dist", {}),
    Method("RKD", "rkd", {}),
    Method("SP", "sp", {"maps": LAST}),
    Method("ICKD", "ickd", {"maps": LAST}),
    Method("EGA", "ega", {}),
    Method("CRG", "crg", {"maps": ALL}),
]
CRG_ABLATION: list[Method] = [
    Method("CRG", "crg", {"maps": ALL}),
    Method("labels alone", "labels", {}),
    *[
        Method(f"spectral form {form}", "crg", {"maps": ALL, "spectral_form": form})
        for form in ("projector", "heat", "spectrum")
    ],
    *[
        Method(f"spectral affinity {name}", "crg", {"maps": ALL, "spectral_affinity": name})
        for name in ("cosine", "rbf")
    ],
    *[
        Method(f"edge affinity {name}", "crg", {"maps": ALL, "edge_affinity": name})
        for name in ("pearson", "unit_gram")
    ],
    *[Method(f"k = {k}", "crg", {"maps": ALL, "k": k}) for k in (4, 12)],
    Method("no attention", "crg", {"maps": ALL, "vertex_attention": "off", "edge_attention": "off"}),
    *[
        Method(f"without {term}", "crg", {"maps": ALL, name: 0.0})
        for term, name in (("vertices", "alpha"), ("edges", "beta"), ("spectrum", "gamma"))
    ],
    Method("last level only", "crg", {"maps": LAST}),
]


def without_labels(config: Config) -> Problem:
    """Students that never see a label, of a teacher whose features are stored."""
    train, name = data.cifar100("train"), teacher_of(config)
    kept = tower.unlabelled(name, len(train))[: config.recipe.limit]
    return Problem(
        train=data.subset(train, kept),
        scored=data.cifar100("test"),
        teacher=tower.features(name, kept),
        student=lambda: students.make(config.recipe.student, 100, *data.CIFAR),
        padding=4,
    )


def teacher_of(config: Config) -> str:
    """A part of the images is enough for a reduced protocol, and so is a small teacher."""
    return "full" if config.recipe.limit is None else "reduced"


def with_labels(config: Config) -> Problem:
    """Students that learn from labels too, of a convolutional teacher that shows its maps."""
    base = without_labels(config)
    teacher = tower.TowerTeacher(teacher_of(config), list(ALL))

    def sizes(student: Tap) -> tuple[Features, Features]:
        images = torch.zeros(2, 3, 32, 32)
        return seen_by(student, images), teacher(images.to(device())).to("cpu")

    return replace(
        base,
        teacher=teacher,
        features=teacher.see,
        student=lambda: students.make(config.recipe.student, 100, *data.CIFAR, maps=list(ALL)),
        with_labels=True,
        sizes=sizes,
    )
