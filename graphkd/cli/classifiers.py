"""Classifiers as teachers: timm's, torchvision's, or a distilled student."""

from collections.abc import Sequence
from typing import Any

import torch

from graphkd.cli.errors import UsageError, unknown_name
from graphkd.cli.parts import Teaching
from graphkd.errors import TapError, TeacherError
from graphkd.models.huggingface import PREFIX, hf_config
from graphkd.models.students import create_student
from graphkd.models.tap import Tap
from graphkd.models.weights import load_weights
from graphkd.teachers.classifier import ClassifierTeacher


def classifier_teacher(
    kind: str,
    name: str,
    teaching: Teaching,
    classes: Sequence[str] | None,
    device: torch.device,
    maps: Sequence[str],
    tokens: Sequence[str],
) -> ClassifierTeacher:
    """A timm or torchvision classifier with the library's weights or those of a file."""
    full = name if kind == "timm" else f"torchvision/{name}"
    require_network("teacher", full)
    if teaching.pretrained == "default":
        own = _own_classes(kind, name)
        same = own == len(classes or ()) or classes is None
        try:
            tap = create_student(full, own, pretrained=True)
        except TapError as error:
            raise UsageError(
                f"the weights of {name} are not on this machine and could not be downloaded",
                "give --pretrained PATH of a checkpoint, or run it once where there is a network",
            ) from error
        if not same:  # its class scores are of other classes: its embedding is all that is of use
            return teacher_of(tap, teaching, device, maps, tokens, headless=True)
    else:
        tap = create_student(full, len(classes) if classes else _own_classes(kind, name))
        load_weights(tap, str(teaching.pretrained), other_classes=False)
    return teacher_of(tap, teaching, device, maps, tokens, classes=classes)


def teacher_of(
    tap: Tap,
    teaching: Teaching,
    device: torch.device,
    maps: Sequence[str],
    tokens: Sequence[str],
    *,
    classes: Sequence[str] | None = None,
    image_size: int | None = None,
    headless: bool = False,
) -> ClassifierTeacher:
    assert tap.mean is not None
    assert tap.std is not None
    model: Any = tap.model
    if headless:
        if not hasattr(model, "reset_classifier"):
            raise TeacherError("the classes of this teacher are not those of the images: use its timm: namesake")
        model.reset_classifier(0)
    return ClassifierTeacher(
        model,
        classes=classes,
        mean=tap.mean.flatten().tolist(),
        std=tap.std.flatten().tolist(),
        image_size=teaching.teacher_size or image_size,
        head=False if headless else None,
        maps=maps,
        tokens=tokens,
        precision=precision_of(teaching, device),
        device=device,
    )


def require_network(kind: str, name: str) -> None:
    """Raises: UsageError for a name that neither timm nor torchvision has; TapError for one that transformers has not.

    Args:
        kind: ``"student"`` or ``"teacher"``, for the message.
        name: of timm, ``"torchvision/NAME"``, or ``"hf:NAME"``.
    """
    if name.startswith(PREFIX):
        hf_config(name)
        return
    import timm
    from torchvision.models import list_models

    bare = name.removeprefix("torchvision/")
    if bare not in list_models() and (bare != name or not timm.is_model(name)):
        raise unknown_name(kind, bare, list_models() if bare != name else timm.list_models())


def _own_classes(kind: str, name: str) -> int:
    if kind == "torchvision":
        return 1000
    import timm

    known = timm.get_pretrained_cfg(name) if timm.is_model(name) else None
    return 1000 if known is None else int(known.num_classes)


def precision_of(teaching: Teaching, device: torch.device) -> Any:
    if teaching.teacher_precision != "auto":
        return teaching.teacher_precision
    return "fp16" if device.type == "cuda" else "fp32"
