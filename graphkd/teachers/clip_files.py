"""A CLIP by name or by file: its configuration and its weights, found and checked without importing open_clip."""

import sys
from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path
from typing import Final

from graphkd.errors import TeacherError
from graphkd.files import local_path
from graphkd.models.installed import clip_models, clip_tags
from graphkd.registry import unknown

CONFIGS: Final = ("open_clip_config.json", "config.json")
_WEIGHTS = ("safetensors", "pt", "bin")


def clip_files(model: str | Path, pretrained: str | Path | None = None) -> tuple[str | Path, str | Path | None]:
    """Model and weights; a checkpoint brings its configuration in a file beside it, and the reverse.

    Args:
        model: a name of open_clip, a checkpoint, or a configuration.
        pretrained: a tag, or the path of a checkpoint.

    Returns: what is not completed stays as it is.
    Raises: TeacherError for a folder, and for a checkpoint without a configuration.
    Example: ``clip_files("teacher/config.json")`` is ``(Path("teacher/config.json"), "teacher/model.safetensors")``
    """
    path = local_path(model)
    if path.is_dir():
        raise TeacherError(
            f"{model} is a folder, and no run folder of graphkd distill: give the checkpoint file in it, or a run "
            "folder with student.json"
        )
    if path.suffix == ".json" and pretrained is None:
        weights = [each for suffix in _WEIGHTS for each in path.parent.glob(f"*.{suffix}")]
        return (path, str(weights[0])) if len(weights) == 1 else (model, None)
    if not path.is_file() or path.suffix == ".json":
        return model, pretrained
    for name in CONFIGS:
        if (path.parent / name).is_file():
            return path.parent / name, str(path)
    raise TeacherError(
        f"{model} is a checkpoint, and there is no {' or '.join(CONFIGS)} beside it: say what model it is, as in: "
        f"use CLIPTeacher('ViT-B-32', pretrained={str(model)!r})"
    )


def require_clip(model: str | Path, pretrained: str | Path | None) -> None:
    """Refuse a model or a tag that open_clip does not have, and a file that is not there.

    Args:
        model, pretrained: as of :func:`clip_files`. A model that this process added to open_clip is known.

    Raises: UnknownNameError with the nearest name; TeacherError for a file that is missing, and for no weights.
    Example: ``require_clip("ViT-B-32", "openai")``
    """
    model, pretrained = clip_files(model, pretrained)
    if local_path(model).is_file():
        if pretrained is None:
            raise TeacherError(no_weights(f"{model}", ()))
        require_weights(model, pretrained, ())
        return
    name, open_clip = require_clip_name(model), sys.modules.get("open_clip")
    if name is None:
        return
    tags = clip_tags().get(name, ()) if open_clip is None else open_clip.list_pretrained_tags_by_model(name)
    if pretrained is None:
        raise TeacherError(no_weights(repr(name), tags))
    if str(pretrained).lower().replace("-", "_") not in tags:
        require_weights(name, pretrained, tags)


def require_clip_name(model: str | Path) -> str | None:
    """The model's name as open_clip writes it; ``None`` where open_clip's names cannot be read.

    Raises: UnknownNameError with the nearest name; TeacherError for what looks like a path.
    Example: ``require_clip_name("ViT-B/32")`` is ``"ViT-B-32"``
    """
    name, open_clip = str(model).replace("/", "-"), sys.modules.get("open_clip")  # OpenAI writes ViT-B/32
    known = list(clip_models() if open_clip is None else open_clip.list_models())
    if name in known or not known:
        return name if known else None
    path = local_path(model)
    if (path.suffix or len(path.parts) > 1) and not get_close_matches(name, known, n=1):
        raise TeacherError(
            f"there is no file or folder {str(model)!r}: give the path of a checkpoint or of a run folder, or a "
            "name of open_clip such as ViT-B-32"
        )
    raise unknown("open_clip model", name, known)


def no_weights(label: str, tags: Iterable[str]) -> str:
    """What is said of a model without weights."""
    return (
        f"{label} has no weights yet: give pretrained= a tag ({', '.join(tags) or 'it has none'}) or the path of a "
        "checkpoint; for random weights build the model with open_clip and give the model itself"
    )


def require_weights(model: object, pretrained: str | Path, tags: Iterable[str]) -> Path:
    """The checkpoint file that stands in a tag's place.

    Args:
        model: for the message.
        pretrained: the path.
        tags: that the model has.

    Raises: TeacherError, UnknownNameError.
    """
    path, tags = local_path(pretrained), list(tags)
    if path.is_file():
        return path
    if path.is_dir():
        raise TeacherError(f"pretrained={str(pretrained)!r} is a folder: give the checkpoint file in it")
    if not tags or isinstance(pretrained, Path) or path.suffix or len(path.parts) > 1:
        listed = f" or a tag of {model} ({', '.join(tags)})" if tags else ""
        raise TeacherError(f"there is no file {str(pretrained)!r}: give pretrained= the path of a checkpoint{listed}")
    raise unknown(f"pretrained tag of {model}", str(pretrained), tags)
