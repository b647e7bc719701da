"""CIFAR-100 with a CLIP-like teacher: an image tower scored against CLIP's vectors of the 100 class names."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from benchmarks.accuracy import data, students, tower
from benchmarks.accuracy.config import Config, Method, Recipe
from benchmarks.accuracy.study import Problem
from graphkd import Batch, Features, Tap
from graphkd.data.sources import source_subset
from graphkd.data.transforms import CenterView, RandomCropView

REDUCED = Recipe(student="resnet20", epochs=10, warmup=2.0, batch=64, limit=10_000)
FULL = Recipe(student="resnet8x4", epochs=100, warmup=5.0, batch=256)

KD = {"weight": 1.0, "temperature": 4.0}
PRG = {"node_weight": 6.4, "edge_weight": 12.3}
WITHOUT_LABELS: list[Method] = [
    ("pseudo-label CE", "prg", {"node_weight": 0.0, "edge_weight": 0.0}),
    ("KD", "kd", KD),
    ("mimicking + CE", "mimic", {}),
    ("KD + mimicking + CE", "combined", {"parts": {"kd": KD, "mimic": {}}}),
    ("PRG", "prg", PRG),
]
LAST = {"layer3": "layer3"}
ALL = {name: name for name in ("layer1", "layer2", "layer3")}
WITH_LABELS: list[Method] = [
    ("labels alone", "labels", {}),
    ("KD", "kd", {"weight": 0.9, "temperature": 4.0}),
    ("DKD", "dkd", {}),
    ("DIST", "dist", {}),
    ("RKD", "rkd", {}),
    ("SP", "sp", {"maps": LAST}),
    ("ICKD", "ickd", {"maps": LAST}),
    ("EGA", "ega", {}),
    ("CRG", "crg", {"maps": ALL}),
]
CRG_ABLATION: list[Method] = [
    ("CRG", "crg", {"maps": ALL}),
    ("labels alone", "labels", {}),
    *[
        (f"spectral form {form}", "crg", {"maps": ALL, "spectral_form": form})
        for form in ("projector", "heat", "spectrum")
    ],
    *[(f"spectral affinity {name}", "crg", {"maps": ALL, "spectral_affinity": name}) for name in ("cosine", "rbf")],
    *[(f"edge affinity {name}", "crg", {"maps": ALL, "edge_affinity": name}) for name in ("pearson", "unit_gram")],
    *[(f"k = {k}", "crg", {"maps": ALL, "k": k}) for k in (4, 12)],
    ("no attention", "crg", {"maps": ALL, "vertex_attention": "off", "edge_attention": "off"}),
    *[
        (f"without {term}", "crg", {"maps": ALL, name: 0.0})
        for term, name in (("vertices", "alpha"), ("edges", "beta"), ("spectrum", "gamma"))
    ],
    ("last level only", "crg", {"maps": LAST}),
]


def without_labels(config: Config) -> Problem:
    """Students that never see a label, of a teacher whose features are stored."""
    train, limit = data.cifar100("train"), config.recipe.limit
    kept = tower.unlabelled(len(train))[:limit]
    stored = tower.features(kept)
    return Problem(
        train=source_subset(train, kept),
        scored=data.cifar100("test"),
        teacher=stored,
        student=lambda: students.make(config.recipe.student, 100, *data.CIFAR),
        view=RandomCropView(32, padding=4),
        plain=CenterView(32),
    )


@dataclass(frozen=True)
class LiveTeacher:
    """A convolutional teacher that sees the student's own view, because its maps must match it place by place."""

    tap: nn.Module
    embedding_dim: int
    num_classes: int = 100

    @torch.no_grad()
    def __call__(self, batch: Batch) -> Features:
        return self.features(batch.student)

    @torch.no_grad()
    def features(self, images: Tensor) -> Features:
        """Features of images in [0, 1]."""
        found: Features = self.tap(images)
        return found


def with_labels(config: Config) -> Problem:
    """Students that learn from labels too, of a convolutional teacher that shows its maps."""
    base = without_labels(config)
    net = tower.load(maps=list(ALL))
    teacher = LiveTeacher(net, net.embedding_dim)

    def sizes(student: Tap) -> tuple[Features, Features]:
        images = torch.zeros(2, 3, 32, 32)
        student.eval()
        with torch.no_grad():
            found = student(images), teacher.features(images)
        student.train()
        return found

    return Problem(
        train=base.train,
        scored=base.scored,
        teacher=teacher,
        student=lambda: students.make(config.recipe.student, 100, *data.CIFAR, maps=list(ALL)),
        view=base.view,
        plain=base.plain,
        with_labels=True,
        sizes=sizes,
    )
