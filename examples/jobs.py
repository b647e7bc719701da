"""What a distillation job needs: images, views, a teacher with its features, and how it scores."""

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from stand_in_teacher import TEMPLATES, train_stand_in

from graphkd import Batch, CLIPTeacher, Features, Views, embed
from graphkd.cli.networks import templates_of
from graphkd.cli.scoring import teacher_scores
from graphkd.data.datasets import digits_source
from graphkd.data.opening import ImageData
from graphkd.data.sources import ImageSource, source_subset
from graphkd.data.transforms import (
    CenterView,
    RandomCropView,
    RandomResizedCropView,
    ResizeView,
    Transform,
    network_view,
)
from graphkd.errors import DataError
from graphkd.files import local_path
from graphkd.teachers.base import NetworkTeacher, count_batches
from graphkd.teachers.lite import LITE, lite_teacher


@dataclass
class Job:
    """Images, views and teacher of one run, and the defaults of its training."""

    name: str
    train: ImageSource
    scored: ImageSource | None
    classes: Sequence[str]
    teacher: NetworkTeacher
    student_view: Transform
    teacher_view: Transform
    plain_view: Transform
    student: str
    epochs: int
    batch: int
    lr: float
    device: str
    store: Path | None
    progress: bool
    teacher_scores: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.asked = count_batches(self.teacher)
        self.features = self._features(self.train, "train")
        if self.scored is not None:
            self.scored_features = self._features(self.scored, "scored")
            self._score_teacher()

    @property
    def labelled(self) -> bool:
        """Whether the training images have labels, for the reference that is trained on them."""
        return self.train.target(0) is not None

    def _features(self, source: ImageSource, part: str) -> Callable[[Batch], Features]:
        """The teacher itself, or its features on disk, computed at the first run only."""
        if self.store is None:
            return lambda batch: self.teacher(batch.teacher.to(self.device))
        bar = self.progress and sys.stderr.isatty()
        how = {"transform": self.teacher_view, "device": self.device, "progress": bar}
        store = embed(self.teacher, source, self.store / part, **how)
        return lambda batch: store[batch.index]

    def _score_teacher(self) -> None:
        """The teacher's accuracy, printed before distilling; a CLIP has two, by mean texts and by weighted prompts."""
        views = Views(self.scored, student=self.plain_view, teacher=self.teacher_view, labels=True)
        loader = views.loader(256, shuffle=False, drop_last=False)
        for name, scores in teacher_scores(self.teacher, loader, self.scored_features, self.device).items():
            self.teacher_scores[name] = scores.top1
            print(f"{name}: {100 * scores.top1:.2f} % of {len(self.scored)} held-out images")


def digits_job(args: argparse.Namespace, folder: Path, seed: int) -> Job:
    """The embedded default: a stand-in teacher learns one third with labels, the student another without.

    Images: 1,797 real handwritten digits, 8 x 8 pixels, from scikit-learn. The last third is only scored on.
    """
    digits = digits_source()
    order = torch.randperm(len(digits), generator=torch.Generator().manual_seed(seed)).tolist()
    taught, unlabelled, held_out = (source_subset(digits, order[part::3]) for part in range(3))
    print(f"training a stand-in for a foundation model on {len(taught)} labelled digits and {len(TEMPLATES)} prompts")
    config, checkpoint = train_stand_in(taught, TEMPLATES, folder / "teacher", seed=seed)
    texts = folder / "text"
    options = {"templates": TEMPLATES, "weight": args.prompt_weight, "cache_dir": texts}
    return Job(
        name="handwritten digits",
        train=unlabelled,
        scored=held_out,
        classes=digits.classes,
        teacher=CLIPTeacher(config, pretrained=checkpoint, classes=digits.classes, **options),
        student_view=RandomCropView(32, padding=4, flip=False),
        teacher_view=ResizeView(32),
        plain_view=ResizeView(32),
        student="test_efficientnet",
        epochs=60,
        batch=64,
        lr=3e-3,
        device="cpu",
        store=args.store or folder / "store",
        progress=not args.quiet,
    )


def user_teacher(args: argparse.Namespace, folder: Path, classes: Sequence[str], device: str) -> NetworkTeacher:
    """An open_clip teacher, or an EfficientNet-Lite that knows ImageNet's classes."""
    precision = "fp32" if device == "cpu" else "fp16"
    if args.teacher in LITE:
        return lite_teacher(args.teacher, classes, image_size=args.teacher_size, precision=precision, device=device)
    by_name = args.pretrained is None and not local_path(args.teacher).exists()
    return CLIPTeacher(
        args.teacher,
        pretrained="openai" if by_name else args.pretrained,
        classes=classes,
        templates=templates_of(args.templates or ("cifar" if args.data in ("cifar10", "cifar100") else "imagenet")),
        weight=args.prompt_weight,
        precision=precision,
        device=device,
        cache_dir=(args.store or folder) / "text",
    )


def user_job(args: argparse.Namespace, folder: Path, seed: int) -> Job:
    """Your images and a teacher that is asked for by name."""
    names = ("data", "classes", "layout", "root", "split", "on_error", "max_megapixels")
    how = {name: getattr(args, name) for name in names}
    _, train, scored = ImageData(**how).parts(args.val)
    if train.classes is None:
        raise DataError("loose images need class names for the prompts: --classes names.txt, one name a line")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    teacher = user_teacher(args, folder, train.classes, device)
    small = args.size <= 64
    return Job(
        name=Path(args.data).name,
        train=train,
        scored=scored,
        classes=train.classes,
        teacher=teacher,
        student_view=RandomCropView(args.size) if small else RandomResizedCropView(args.size),
        teacher_view=network_view(teacher.preprocess),
        plain_view=CenterView(args.size),
        student="resnet18",
        epochs=100,
        batch=256,
        lr=1e-3,
        device=device,
        store=args.store,
        progress=not args.quiet,
    )
