"""The teachers and students that the options of a command name."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from graphkd.cli.classifiers import classifier_teacher, precision_of, teacher_of
from graphkd.cli.errors import UsageError
from graphkd.cli.parts import Teaching
from graphkd.data.class_names import Classes
from graphkd.data.transforms import Transform, network_view
from graphkd.errors import CheckpointError
from graphkd.files import local_path
from graphkd.models.huggingface import PREFIX, is_clip
from graphkd.models.students import create_student
from graphkd.models.tap import Tap
from graphkd.teachers.base import Teacher
from graphkd.teachers.classifier import ClassifierTeacher
from graphkd.teachers.clip import CLIPTeacher
from graphkd.teachers.huggingface import hf_teacher
from graphkd.text import read_json, read_text
from graphkd.training.checkpoint import check_weights, student_weights
from graphkd.training.run_folder import STUDENT, RunFolder, describe_student

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
    is_run = (local_path(asked) / STUDENT).is_file()
    if colon and kind in ("timm", "torchvision"):
        teacher = classifier_teacher(kind, name, teaching, classes, device, maps, tokens)
    elif asked.startswith(PREFIX) and not is_clip(asked):
        precision = precision_of(teaching, device)
        sizes = {} if teaching.teacher_size is None else {"image_size": teaching.teacher_size}
        return hf_teacher(asked, classes=classes, maps=maps, tokens=tokens, precision=precision, device=device, **sizes)
    elif is_run:
        tap, about = open_student(local_path(asked))
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


def teacher_view(teacher: Teacher, size: int | None = None) -> Transform:
    """What the teacher is shown: its own preprocessing, from the file."""
    return network_view(teacher.preprocess if isinstance(teacher, CLIPTeacher | ClassifierTeacher) else None, size)


def save_student(run: Path, name: str, tap: Tap, classes: Classes, size: int) -> None:
    """What is needed to build the student of a run again."""
    RunFolder(run).write_student(describe_student(tap, classes, size))


def open_student(run: Path, which: str = "last") -> tuple[Tap, dict[str, Any]]:
    """The trained student of a run folder in eval mode, and what is known of it.

    Raises: CheckpointError for a run without a checkpoint, or with a damaged description.
    """
    about = _about(run)
    tap = create_student(about["student"], about["num_classes"])
    weights = student_weights(run, which)
    check_weights(tap.state_dict(), weights, str(run))
    tap.load_state_dict(weights)
    return tap.eval(), about


def run_classes(teaching: Teaching) -> Classes | None:
    """The classes of a run folder that teaches; ``None`` for any other teacher."""
    if teaching.teacher is None or not (local_path(teaching.teacher) / STUDENT).is_file():
        return None
    return Classes(_about(local_path(teaching.teacher))["classes"])


def _about(run: Path) -> dict[str, Any]:
    """What is known of a run's student: its classes are a mapping from id to name, or names in older files."""
    try:
        about: dict[str, Any] = read_json(run / STUDENT)
        if not isinstance(about["student"], str) or len(about["classes"]) != about["num_classes"]:
            raise ValueError("it does not name a student and each of its classes")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{run / STUDENT} is damaged ({error}): train again, or restore the file") from error
    return about


def _clip(asked: str, teaching: Teaching, classes: Sequence[str] | None, device: torch.device) -> CLIPTeacher:
    if classes is None:
        raise UsageError(
            f"--teacher {asked} tells classes apart by their names, and these images have none",
            "give --classes names.txt, one name a line",
        )
    model, pretrained = clip_files(asked, teaching.pretrained)
    cache = teaching.text_cache or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "graphkd" / "text"
    return CLIPTeacher(
        model,
        pretrained=pretrained,
        classes=classes,
        templates=templates_of(teaching.templates),
        weight=teaching.prompt_weight,
        quick_gelu=teaching.quick_gelu,
        precision=precision_of(teaching, device),
        device=device,
        cache_dir=cache,
        preprocess=None if teaching.teacher_size is None else {"size": teaching.teacher_size},
    )


def templates_of(asked: str) -> str | list[str]:
    """A set of prompts by its name, or those of a text file."""
    path = local_path(asked)
    return [line.strip() for line in read_text(path).splitlines() if line.strip()] if path.is_file() else asked


def clip_files(asked: str, pretrained: str | None) -> tuple[str | Path, str | None]:
    """Model and weights of a CLIP; a checkpoint brings its configuration in a file beside it, and the reverse.

    Raises: UsageError for a folder, and for a checkpoint without a configuration.
    """
    path = local_path(asked)
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
