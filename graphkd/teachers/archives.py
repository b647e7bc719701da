"""Checkpoints that strangers made: what they would take, before it is taken."""

import zipfile
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

from graphkd.errors import CheckpointError, TeacherError

_GROWTH = 4  # weights do not compress: torch stores them as they are, numpy's .npz shrinks them by a tenth

_HARMLESS = 1 << 28  # parameters that are built without asking: 1 GiB in float32


def check_archive(path: Path) -> None:
    """Refuse a zip archive (a torch file, an ``.npz``) that unpacks to far more than it is, before a byte is unpacked.

    Measured with torch 2.15: a file of 1 MB whose pickle unpacks to 1 GiB made ``torch.load(weights_only=True)`` take
    2.5 GiB before it was found to be wrong.

    Raises: CheckpointError that says both sizes.
    """
    if not zipfile.is_zipfile(path):
        return
    try:
        with zipfile.ZipFile(path) as archive:
            unpacked = sum(entry.file_size for entry in archive.infolist())
    except (zipfile.BadZipFile, NotImplementedError, ValueError, OSError) as error:
        raise CheckpointError(f"the checkpoint {path} is a broken archive: {error}") from error
    if unpacked > _GROWTH * path.stat().st_size:
        raise CheckpointError(
            f"the checkpoint {path} has {path.stat().st_size} bytes and would unpack to {unpacked}: weights do not "
            "shrink like that, so it is not unpacked; give a safetensors file"
        )


def check_size(build: Callable[[], nn.Module], path: Path) -> None:
    """Refuse a model whose checkpoint cannot fill it, at a byte a parameter, before its memory is allocated.

    Raises: TeacherError that says both sizes.
    """
    try:
        with torch.device("meta"):  # shapes without memory
            parameters = sum(each.numel() for each in build().parameters())
    except (NotImplementedError, RuntimeError):  # an architecture that computes with its weights while it is built
        return
    if parameters > max(path.stat().st_size, _HARMLESS):
        raise TeacherError(
            f"the configuration describes {parameters} parameters and the checkpoint {path} has "
            f"{path.stat().st_size} bytes: they do not belong together"
        )
