"""The classifier that the options of a command name: a student, an exported file, or a teacher."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from graphkd.cli import exported, networks
from graphkd.cli.errors import UsageError, require
from graphkd.cli.option_groups import TeacherOptions
from graphkd.data.class_names import Classes
from graphkd.data.transforms import CenterView, Transform, view_of
from graphkd.deploy.classifier import Classifier
from graphkd.teachers.base import Teacher, weight_digest


def open_classifier(model: Path, model_from: str | None = None, device: str = "auto") -> Classifier:
    """A trained student or an exported one.

    Args:
        model: run folder, folder of ``graphkd export``, or one of its ``.onnx`` files.
        model_from: ``"package.module:function"`` that builds a network of the user's own.
        device: ``"auto"``, ``"cpu"``, ``"cuda"``; an ONNX file runs on the CPU.

    Example: ``open_classifier(Path("runs/photos-1"))``
    """
    found: Any
    file = onnx_file(model)
    if file is not None:
        found, about = exported.open_onnx(file)
        where = torch.device("cpu")
        with file.open("rb") as opened:
            identity = {"onnx": hashlib.file_digest(opened, "sha256").hexdigest()}
    else:
        where = networks.device_of(device)
        student, about = networks.open_student(model, model_from)
        found = student.to(where)
        identity = {"weights": weight_digest(student)}
    view = student_view(about, model)
    return Classifier(found, Classes(about["classes"]), view, where, {**identity, "view": dict(view.spec)})


def onnx_file(model: Path) -> Path | None:
    """The ONNX file that a path names; ``None`` for a run folder."""
    if model.suffix == ".onnx":
        return model
    file = model / "model.onnx"
    return file if file.is_file() and (model / "export.json").is_file() else None


def student_view(about: dict[str, Any], model: Path) -> Transform:
    """What a student is shown of an image: what its run scored it on."""
    if about.get("view") is not None:
        return view_of(about["view"])
    size = about["size"]
    if size is None:
        raise UsageError(f"{model} does not say of what size its images are", 'write "size": 224 into its student.json')
    return CenterView(tuple(size) if isinstance(size, list) else size)


def open_teaching(teaching: TeacherOptions, classes: Sequence[str] | None, device: torch.device) -> Teacher:
    """A teacher that tells classes apart."""
    teacher = networks.open_teacher(teaching, classes, device)
    require(
        teacher.num_classes is not None,
        "this teacher has no class scores for these images: its own classes are others, or it has none",
        "use a CLIP-like teacher, or a classifier of these classes",
    )
    return teacher


def teaching_classifier(teaching: TeacherOptions, classes: Sequence[str] | None, device: torch.device) -> Classifier:
    """A teacher as a classifier; of a CLIP-like one it is its weighted prompt logits that count."""
    teacher = open_teaching(teaching, classes, device)
    names = teacher.classes or [str(label) for label in range(teacher.num_classes or 0)]
    view = networks.teacher_view(teacher, teaching.teacher_size)
    identity = {**teacher.fingerprint(), "view": dict(view.spec)}
    return Classifier(teacher, names, view, device, identity)
