"""The digits job, small: the same images, teacher, student and method for every loop."""

from typing import Any

import torch

from graphkd import CLIPTeacher, PRGDistiller, Step, TrainConfig, Views, create_student
from graphkd.data.sources import source_subset
from graphkd.data.transforms import CenterView, RandomCropView

BATCH, EPOCHS, UPDATES, HELD_OUT, SIZE = 16, 2, 50, 0.76, 32
OPTIONS: dict[str, Any] = {"epochs": EPOCHS, "batch_size": BATCH, "lr": 3e-3, "warmup_epochs": 1, "log_every": 1}


def split(digits: Any) -> tuple[Any, Any]:
    """The images that ``graphkd distill --data digits --held-out 0.76`` trains and scores on."""
    kept = int(len(digits) * HELD_OUT)
    order = torch.randperm(len(digits), generator=torch.Generator().manual_seed(0)).tolist()
    return source_subset(digits, sorted(order[kept:])), source_subset(digits, sorted(order[:kept]))


def config(**changes: Any) -> TrainConfig:
    """The options of the command below."""
    return TrainConfig(**{**OPTIONS, "trackers": (), "progress": False, **changes})


def command(teacher: str) -> str:
    """The same job on the command line."""
    line = f"distill --data digits --held-out {HELD_OUT} {teacher} --student test_efficientnet --size {SIZE} --no-flip"
    flags = " ".join(f"--{name.replace('_', '-')} {value}" for name, value in OPTIONS.items())
    return f"{line} {flags} --trackers '' --method prg --set rho=0.7 --no-score-teacher --run one --quiet"


class Job:
    """Teacher, views and a fresh student with its distiller.

    Args:
        digits: the images.
        checkpoint: of the stand-in teacher.
    """

    def __init__(self, digits: Any, checkpoint: Any) -> None:
        train, scored = split(digits)
        configuration = checkpoint.with_name("config.json")
        self.teacher = CLIPTeacher(configuration, pretrained=checkpoint, classes=digits.classes, templates="photo")
        self.views = Views(train, student=RandomCropView(SIZE, flip=False), teacher=CenterView(SIZE), seed=0)
        self.scored = Views(source_subset(scored, range(64)), student=CenterView(SIZE), labels=True)

    def features(self, batch: Any) -> Any:
        """The teacher's."""
        return self.teacher(batch.teacher)

    def step(self) -> Step:
        """Student and PRG as the command makes them."""
        torch.manual_seed(0)
        student = create_student("test_efficientnet", 10)
        return Step(student, PRGDistiller.between(student, self.teacher, rho=0.7))
