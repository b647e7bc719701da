"""The teachers and students that the options of a command name."""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from graphkd.cli.classifiers import classifier_teacher, precision_of, teacher_of
from graphkd.cli.errors import UsageError
from graphkd.cli.parts import Teaching
from graphkd.data.transforms import CenterView, ResizeView
from graphkd.errors import CheckpointError
from graphkd.files import write_json
from graphkd.huggingface import PREFIX
from graphkd.students import create_student
from graphkd.tap import Tap
from graphkd.teachers.base import Teacher
from graphkd.teachers.classifier import ClassifierTeacher
from graphkd.teachers.clip import CLIPTeacher
from graphkd.teachers.hub import is_clip
from graphkd.teachers.huggingface import hf_teacher
from graphkd.training.checkpoint import check_weights, student_weights

STUDENT = "student.json"
_CONFIGS = ("open_clip_config.json", "config.json")


def device_of(name: str) -> torch.device:
    """The device asked for. Raises: UsageError where it is absent."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    device = torch.device(name)
    present = {"cpu": 1, "cuda": torch.cuda.device_count(), "mps": int(torch.backends.mps.is_available())}
    if (device.index or 0) >= present[device.type]:
        raise UsageError(
            f"there is no device {name!r}: torch finds {present['cuda']} GPUs",
            "give --device auto, or see graphkd doctor",
        )
    return device


def open_teacher(
    teaching: Teaching,
    classes: Sequence[str] | None,
    device: torch.device,
    maps: Sequence[str] = (),
    tokens: Sequence[str] = (),
) -> Teacher:
    """The teacher that was asked for.

    Args:
        classes: names of the images' classes, or ``None``.
        maps, tokens: module paths to expose; classifiers only.
    """
    asked = teaching.asked
    kind, colon, name = asked.partition(":")
    is_run = (Path(asked) / STUDENT).is_file()
    if colon and kind in ("timm", "torchvision"):
        teacher = classifier_teacher(kind, name, teaching, classes, device, maps, tokens)
    elif asked.startswith(PREFIX) and not is_clip(asked):
        precision = precision_of(teaching, device)
        sizes = {} if teaching.teacher_size is None else {"image_size": teaching.teacher_size}
        return hf_teacher(asked, classes=classes, maps=maps, tokens=tokens, precision=precision, device=device, **sizes)
    elif is_run:
        tap, about = open_student(Path(asked))
        facts = {"classes": about["classes"], "image_size": teaching.teacher_size or about["size"]}
        teacher = teacher_of(tap, teaching, device, maps, tokens, **facts)
    else:
        if maps or tokens:
            raise UsageError(
                f"--teacher {asked} is no classifier and exposes no maps or tokens",
                "use --teacher timm:NAME, or a method that compares embeddings",
            )
        return _clip(asked, teaching, classes, device)
    return teacher


def teacher_view(teacher: Teacher, size: int | None = None) -> CenterView | ResizeView:
    """What the teacher is shown, in the size that it takes: the centre of each image, or the whole, as it learnt it."""
    own = teacher.preprocess if isinstance(teacher, CLIPTeacher | ClassifierTeacher) else None
    side = size or max((own and own.size) or (224,))
    return ResizeView(side) if own is not None and own.resize_mode == "squash" else CenterView(side)


def save_student(run: Path, name: str, tap: Tap, classes: Sequence[str] | None, size: int) -> None:
    """What is needed to build the student of a run again."""
    mean, std = (None if value is None else value.flatten().tolist() for value in (tap.mean, tap.std))
    facts = {"student": name, "num_classes": tap.num_classes, "classes": classes and list(classes), "size": size}
    write_json(run / STUDENT, facts | {"mean": mean, "std": std})


def open_student(run: Path, which: str = "last") -> tuple[Tap, dict[str, Any]]:
    """The trained student of a run folder in eval mode, and what is known of it.

    Raises: CheckpointError for a run without a checkpoint, or with a damaged description.
    """
    try:
        about = json.loads((run / STUDENT).read_text(encoding="utf-8"))
        name, count = about["student"], about["num_classes"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{run / STUDENT} is damaged ({error}): train again, or restore the file") from error
    tap = create_student(name, count)
    weights = student_weights(run, which)
    check_weights(tap.state_dict(), weights, str(run))
    tap.load_state_dict(weights)
    return tap.eval(), about


def _clip(asked: str, teaching: Teaching, classes: Sequence[str] | None, device: torch.device) -> CLIPTeacher:
    if classes is None:
        raise UsageError(
            f"--teacher {asked} tells classes apart by their names, and these images have none",
            "give --classes names.txt, one name a line",
        )
    model, pretrained = _files(asked, teaching.pretrained)
    cache = teaching.text_cache or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "graphkd" / "text"
    templates: Any = teaching.templates
    if Path(templates).is_file():
        templates = [line.strip() for line in Path(templates).read_text(encoding="utf-8").splitlines() if line.strip()]
    return CLIPTeacher(
        model,
        pretrained=pretrained,
        classes=classes,
        templates=templates,
        weight=teaching.prompt_weight,
        quick_gelu=teaching.quick_gelu,
        precision=precision_of(teaching, device),
        device=device,
        cache_dir=cache.expanduser(),
        preprocess=None if teaching.teacher_size is None else {"size": teaching.teacher_size},
    )


def _files(asked: str, pretrained: str | None) -> tuple[str | Path, str | None]:
    """Model and weights; a checkpoint brings its configuration in a file beside it."""
    path = Path(asked).expanduser()
    if path.is_dir():
        raise UsageError(
            f"--teacher {asked} is a folder, and no run folder of graphkd distill",
            "give the checkpoint file in it, or a run folder with student.json",
        )
    if path.suffix == ".json" and pretrained is None:
        weights = [each for suffix in ("safetensors", "pt", "bin") for each in path.parent.glob(f"*.{suffix}")]
        if len(weights) == 1:
            return path, str(weights[0])
    if not path.is_file() or path.suffix == ".json":
        return asked, pretrained
    for name in _CONFIGS:
        if (path.parent / name).is_file():
            return path.parent / name, str(path)
    raise UsageError(
        f"--teacher {asked} is a checkpoint, and there is no {' or '.join(_CONFIGS)} beside it",
        f"say what model it is: --teacher ViT-B-32 --pretrained {asked}, or --teacher timm:NAME --pretrained {asked}",
    )
