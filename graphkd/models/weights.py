"""The one reader of checkpoints, for students and teachers, with an account of every tensor that does not fit."""

import logging
import re
from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from graphkd.errors import CheckpointError
from graphkd.files import local_path
from graphkd.models.archives import check_archive
from graphkd.models.tap import Tap
from graphkd.typing import Tensor

log = logging.getLogger("graphkd")
# where training scripts put the weights in a file that holds more; the moving average is what they score
_AVERAGES = ("state_dict_ema", "model_ema", "ema_state_dict", "model_ema_state_dict", "ema", "shadow")
_KEYS = ("state_dict", "model_state_dict", "model", "net", "network", "weights", "params", "checkpoint")
_OUTER = ("module.", "model.", "student.", "net.", "network.")  # of wrappers, before the names of a whole network
_INSIDE = re.compile(r"(?:^|(?<=\.))(?:_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.")
_LISTED, _DEPTH = 5, 8  # no training script nests deeper, and a file may hold itself


def read_weights(path: str | Path, *, average: bool = True) -> dict[str, Tensor]:
    """The tensors of a checkpoint, safetensors or a torch file, read without executing anything.

    They are looked for under the usual keys (``state_dict``, ``model``, ``net``, ...), nested too. A moving average
    (``state_dict_ema``, ``model_ema``, ...) is preferred to the weights beside it: it is the network that timm's and
    torchvision's training scripts score. What ``torch.compile``, FSDP and activation checkpointing add to the names is
    dropped.

    Args:
        average: prefer a moving average where there is one.

    Raises: CheckpointError for a file that is absent, unreadable, would run code, or holds no tensors by name.
    Example: ``read_weights("checkpoint.pth")["conv1.weight"].shape``
    """
    path = local_path(path)
    return weights_in(read_file(path), path, average=average)


def weights_in(found: Any, path: Path, *, average: bool = True) -> dict[str, Tensor]:
    """What :func:`read_weights` takes of the content of a file."""
    for _ in range(_DEPTH):
        if not isinstance(found, Mapping):
            break
        known = [key for key in (*_AVERAGES, *_KEYS) if _holds_tensors(found.get(key))]
        chosen = next((key for key in known if average or key not in _AVERAGES), None)
        if chosen is None:
            break
        if len(known) > 1:
            log.warning("%s holds %s: taking %s", path, " and ".join(known), chosen)
        found = found[chosen]
    if not isinstance(found, Mapping) or not all(isinstance(value, Tensor) for value in found.values()):
        held = f" (it holds {_some([str(key) for key in found])})" if isinstance(found, Mapping) else ""
        raise CheckpointError(f"{path} holds no tensors by name{held}: give a state dict, or one under state_dict")
    # n_averaged is the counter of torch's AveragedModel
    return {_INSIDE.sub("", name): value for name, value in found.items() if name != "n_averaged"}


def _holds_tensors(found: Any, depth: int = _DEPTH) -> bool:
    """Whether there are tensors in a part of a file: the options of a moving average may stand where others keep it."""
    if not isinstance(found, Mapping) or not depth:
        return False
    return any(isinstance(each, Tensor) or _holds_tensors(each, depth - 1) for each in found.values())


def read_file(path: Path) -> Any:
    """What a safetensors or torch file holds, read without executing anything. Raises: CheckpointError."""
    if not path.is_file():
        raise CheckpointError(f"there is no file {path}: give the path of a checkpoint")
    check_archive(path)
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        with torch.serialization.safe_globals([Namespace]):  # the options that most training scripts keep beside
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # unreadable or executable; torch's own message says how to run it
        if "TorchScript" in str(error):
            raise CheckpointError(
                f"{path} is a TorchScript archive, which would be executed: give a safetensors file of the same "
                "weights (OpenAI's are on huggingface.co under timm/*_clip_*.openai)"
            ) from error
        raise CheckpointError(
            f"{path} is no checkpoint of plain tensors ({type(error).__name__}): give a safetensors file, or a state "
            "dict that torch loads with weights_only=True, as pickled objects could run code"
        ) from error


def named_as(own: Mapping[str, Any], found: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """The tensors by the network's names: what wrappers put before all of them is dropped, as often as it stands there.

    Args:
        own: the names that the network has.
        found: the tensors of a file.

    Example: ``named_as(["fc.weight"], {"module.model.fc.weight": w})`` is ``{"fc.weight": w}``
    """
    while found and not any(name in own for name in found):
        prefix = next((each for each in _OUTER if all(name.startswith(each) for name in found)), None)
        if prefix is None:
            break
        found = {name.removeprefix(prefix): value for name, value in found.items()}
    return found


def load_weights(network: Tap, path: str | Path, *, other_classes: bool = True, average: bool = True) -> list[str]:
    """Fill a network from a file: every tensor must fit, but for a classifier of other classes, which stays fresh.

    Args:
        network: its model's names count; wrappers' words before all names are dropped (:func:`named_as`).
        path, average: see :func:`read_weights`.
        other_classes: off to refuse a classifier of other classes too.

    Returns: names of the tensors that were not taken: none, or the classifier's.
    Raises: CheckpointError that lists what is missing, unexpected and of another shape.
    Example: ``load_weights(create_student("resnet18", 10), "resnet18.safetensors")`` is ``["fc.weight", "fc.bias"]``
    """
    own = network.model.state_dict()
    found = named_as(own, read_weights(path, average=average))
    head = {name for name in own if name.startswith(f"{network._classifier_path}.")}
    other_head = other_classes and any(name in found and found[name].shape != own[name].shape for name in head)
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
            f"{path} does not fit {type(network.model).__name__}: of {len(own)} tensors {'; '.join(parts)}. "
            f"Give the weights of the same architecture{'' if other_classes else f' and {network.num_classes} classes'}"
        )
    network.model.load_state_dict({**own, **{name: found[name] for name in own if name not in fresh}})
    return fresh


def _some(names: list[str]) -> str:
    return ", ".join(names[:_LISTED]) + (", ..." if len(names) > _LISTED else "")
