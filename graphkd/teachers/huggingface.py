"""Teachers of Hugging Face's transformers, by name."""

from collections.abc import Mapping, Sequence
from typing import Any

from graphkd.errors import TeacherError
from graphkd.models.huggingface import PREFIX, hf_config, hf_model, is_clip
from graphkd.teachers.base import Teacher
from graphkd.teachers.classifier import ClassifierTeacher
from graphkd.teachers.clip import CLIPTeacher


def hf_teacher(name: str, *, classes: Sequence[str] | Mapping[str, str] | None = None, **options: Any) -> Teacher:
    """A frozen model of transformers: CLIP and SigLIP by prompts, anything else by its classifier or pooled embedding.

    Args:
        name: repository on the hub, or folder, with or without ``"hf:"`` before it.
        classes: class names; CLIP-like models need them. A classifier of another number of classes than its own has
            an embedding only.
        options: of :class:`CLIPTeacher` or :class:`ClassifierTeacher`.

    Raises: TapError, TeacherError where the model cannot be had.
    Example: ``hf_teacher("facebook/dinov2-small")(images).embedding``
    """
    if is_clip(name):
        if classes is None:
            raise TeacherError(f"{name} tells classes apart by their names: give classes=[...]")
        return CLIPTeacher(PREFIX + name.removeprefix(PREFIX), classes=classes, **options)
    foreign = classes is not None and hf_config(name).num_labels != len(classes)  # its scores are of other classes
    model: Any = hf_model(name, pooled=foreign)
    headless = foreign or hasattr(model, "num_classes")
    return ClassifierTeacher(model, classes=None if headless else classes, **options)
