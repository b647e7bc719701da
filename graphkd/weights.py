"""A student's first weights from a file, with an account of every tensor that does not fit."""

from collections.abc import Mapping
from pathlib import Path

import torch

from graphkd.errors import CheckpointError
from graphkd.paths import local_path
from graphkd.tap import Tap
from graphkd.teachers.archives import check_archive
from graphkd.typing import Tensor

_INNER = ("state_dict", "model")  # where training scripts put the weights in a file that holds more
_PREFIXES = ("student.model.", "module.", "model.")
_LISTED = 5


def read_weights(path: str | Path) -> dict[str, Tensor]:
    """The tensors of a checkpoint, safetensors or a torch file, read without executing anything.

    Raises: CheckpointError for a file that is absent, unreadable, would run code, or holds no tensors by name.
    """
    path = local_path(path)
    if not path.is_file():
        raise CheckpointError(f"there is no file {path}: give the path of a checkpoint")
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        check_archive(path)
        found = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # unreadable, executable, or no checkpoint at all
        raise CheckpointError(
            f"{path} is no checkpoint of plain tensors ({type(error).__name__}): give a safetensors file, or a state "
            "dict that torch loads with weights_only=True"
        ) from error
    for key in _INNER:
        found = found.get(key, found) if isinstance(found, dict) else found
    if not isinstance(found, dict) or not all(isinstance(value, Tensor) for value in found.values()):
        raise CheckpointError(f"{path} holds no tensors by name: give a state dict")
    return found


def load_weights(student: Tap, path: str | Path) -> list[str]:
    """Start a student from a file: every tensor must fit, but for a classifier of other classes, which stays fresh.

    Args:
        student: whose model's names count; ``model.``, ``module.`` and ``student.model.`` before all names are dropped.
        path: see :func:`read_weights`.

    Returns: names of the tensors that were not taken: none, or the classifier's.
    Raises: CheckpointError that lists what is missing, unexpected and of another shape.
    Example: ``load_weights(create_student("resnet18", 10), "resnet18.safetensors")`` is ``["fc.weight", "fc.bias"]``
    """
    found, own = _unprefixed(read_weights(path), student), student.model.state_dict()
    head = {name for name in own if name.startswith(f"{student._classifier_path}.")}
    other_head = any(name in found and found[name].shape != own[name].shape for name in head)
    fresh = [name for name in own if name in head] if other_head else []
    problems = {
        "missing": [name for name in own if name not in found and name not in fresh],
        "unexpected": [name for name in found if name not in own],
        "of another shape": [
            f"{name} {tuple(found[name].shape)} instead of {tuple(own[name].shape)}"
            for name in own
            if name in found and name not in fresh and found[name].shape != own[name].shape
        ],
    }
    if any(problems.values()):
        parts = [f"{len(names)} {kind} ({_some(names)})" for kind, names in problems.items() if names]
        raise CheckpointError(
            f"{path} does not fit {type(student.model).__name__}: of {len(own)} tensors {'; '.join(parts)}. "
            "Give the weights of the same architecture"
        )
    student.model.load_state_dict({**own, **{name: found[name] for name in own if name not in fresh}})
    return fresh


def _unprefixed(found: Mapping[str, Tensor], student: Tap) -> dict[str, Tensor]:
    own = student.model.state_dict()
    for prefix in _PREFIXES:
        if all(name.startswith(prefix) for name in found) and not any(name in own for name in found):
            return {name.removeprefix(prefix): value for name, value in found.items()}
    return dict(found)


def _some(names: list[str]) -> str:
    return ", ".join(names[:_LISTED]) + (", ..." if len(names) > _LISTED else "")
