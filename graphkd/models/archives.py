"""Checkpoints that strangers made: what they would take, before it is taken."""

import zipfile
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn
from torch.nn.modules.module import register_module_parameter_registration_hook

from graphkd.errors import CheckpointError, TeacherError

_GROWTH = 4  # weights do not compress: torch stores them as they are, numpy's .npz shrinks them by a tenth
_HARMLESS = 1 << 28  # parameters that are built without asking: 1 GiB in float32
_TENSORS = 10_000  # of a model; the deepest known have a few thousand


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


def check_size(build: Callable[[], nn.Module], *files: Path) -> None:
    """Refuse a model that its checkpoint cannot fill, at a byte a parameter, before its memory is allocated.

    The model is built without memory, and no further than to the first parameter too many.

    Args:
        build: makes the model.
        files: its checkpoint, in one file or several; none for a model that starts from random weights.

    Raises: TeacherError that says both sizes.
    """
    size, tensors, parameters = sum(file.stat().st_size for file in files), 0, 0

    def count(module: nn.Module, name: str, parameter: nn.Parameter | None) -> None:
        nonlocal tensors, parameters
        tensors, parameters = tensors + 1, parameters + (0 if parameter is None else parameter.numel())
        if parameters > max(size, _HARMLESS) or tensors > _TENSORS:
            held = f"its checkpoint {files[0]} has {size} bytes" if files else "there are no weights beside it"
            raise TeacherError(
                f"the configuration describes at least {parameters} parameters in {tensors} tensors, and {held}: "
                "they do not belong together; give the weights with their own configuration"
            )

    handle = register_module_parameter_registration_hook(count)
    try:
        with torch.device("meta"):  # shapes without memory
            build()
    except (NotImplementedError, RuntimeError):  # an architecture that computes with its weights while it is built
        return
    finally:
        handle.remove()
