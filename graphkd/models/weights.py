"""The one reader of checkpoints, for students and teachers: safe to open, of the right size, fitted name by name."""

import logging
import re
import zipfile
from argparse import Namespace
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.modules.module import register_module_parameter_registration_hook

from graphkd.errors import CheckpointError, TeacherError
from graphkd.files import local_path
from graphkd.models.tap import Tap
from graphkd.typing import Tensor

log = logging.getLogger("graphkd")
_GROWTH = 4  # weights hardly compress, and torch stores them as they are
_HARMLESS = 1 << 28  # parameters that are built without asking: 1 GiB in float32
_TENSORS = 10_000  # of a model; the deepest known have a few thousand
# where training scripts put the weights in a file that holds more; the moving average, which they score, comes first
_AVERAGES = ("state_dict_ema", "model_ema", "ema_state_dict", "model_ema_state_dict", "ema", "shadow")
_KEYS = (*_AVERAGES, "state_dict", "model_state_dict", "model", "net", "network", "weights", "params", "checkpoint")
_OUTER = ("module.", "model.", "student.", "net.", "network.")  # of wrappers, before the names of a whole network
_INSIDE = re.compile(r"(?:^|(?<=\.))(?:_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.")
_LISTED, _DEPTH = 5, 8  # no training script nests deeper, and a file may hold itself


def check_archive(path: Path) -> None:
    """Refuse a zip archive, as a torch file is, that unpacks to far more than it is, before a byte is unpacked.

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
    """Refuse a model with more parameters than its checkpoint has bytes, before its memory is allocated.

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


def read_file(path: Path) -> Any:
    """The content of a safetensors or torch file, read without executing anything. Raises: CheckpointError."""
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


def weights_in(found: Any, path: Path) -> dict[str, Tensor]:
    """The tensors in the content of a checkpoint file, as :func:`read_weights` finds them."""
    for _ in range(_DEPTH):
        known = [key for key in _KEYS if _holds_tensors(found.get(key))] if isinstance(found, Mapping) else []
        if not known:
            break
        if len(known) > 1:
            log.warning("%s holds %s: taking %s", path, " and ".join(known), known[0])
        found = found[known[0]]
    if not isinstance(found, Mapping) or not all(isinstance(value, Tensor) for value in found.values()):
        held = f" (it holds {_some([str(key) for key in found])})" if isinstance(found, Mapping) else ""
        raise CheckpointError(f"{path} holds no tensors by name{held}: give a state dict, or one under state_dict")
    # n_averaged is the counter of torch's AveragedModel
    return {_INSIDE.sub("", name): value for name, value in found.items() if name != "n_averaged"}


def _holds_tensors(found: Any, depth: int = _DEPTH) -> bool:
    """Whether a part of a file is a mapping with tensors in it; the options of a moving average have none."""
    if not isinstance(found, Mapping) or not depth:
        return False
    return any(isinstance(each, Tensor) or _holds_tensors(each, depth - 1) for each in found.values())


def read_weights(path: str | Path) -> dict[str, Tensor]:
    """The tensors of a checkpoint, safetensors or a torch file, read without executing anything.

    They are looked for under the usual keys (``state_dict``, ``model``, ``net``, ...), nested too. A moving average
    (``state_dict_ema``, ``model_ema``, ...) is preferred to the weights beside it: it is the network that timm's and
    torchvision's training scripts score. What ``torch.compile``, FSDP and activation checkpointing add to the names is
    dropped.

    Raises: CheckpointError for a file that is absent, unreadable, would run code, or holds no tensors by name.
    Example: ``read_weights("checkpoint.pth")["conv1.weight"].shape``
    """
    path = local_path(path)
    return weights_in(read_file(path), path)


def named_as(own: Mapping[str, Any], found: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """The tensors by the network's names: prefixes that wrappers put before every name are dropped, however many.

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


def load_weights(network: Tap, path: str | Path, *, other_classes: bool = True) -> list[str]:
    """Fill a network from a file: every tensor must fit, but a classifier of other classes or none, which stays fresh.

    Args:
        network: its model's names count; prefixes of wrappers are dropped (:func:`named_as`).
        path: see :func:`read_weights`.
        other_classes: off to refuse a classifier of other classes too.

    Returns: names of the tensors that were not taken: none, or the classifier's.
    Raises: CheckpointError that lists what is missing, unexpected and of another shape.
    Example: ``load_weights(create_student("resnet18", 10), "resnet18.safetensors")`` is ``["fc.weight", "fc.bias"]``
    """
    return fit_weights(network, read_weights(path), str(path), other_classes=other_classes)


def fit_weights(network: Tap, found: Mapping[str, Tensor], where: str, *, other_classes: bool = True) -> list[str]:
    """Fill a network from tensors, as :func:`load_weights` does from a file.

    Args:
        network, other_classes: as there.
        found: the tensors by name.
        where: they come from, for messages.
    """
    own = network.model.state_dict()
    found = named_as(own, found)
    head = [name for name in own if network.classifier_path and name.startswith(f"{network.classifier_path}.")]
    differing = [name for name in own if name in found and found[name].shape != own[name].shape]
    headless = bool(head) and not any(name in found for name in head)  # the weights of a backbone
    fresh = head if other_classes and (headless or any(name in differing for name in head)) else []
    problems = {
        "missing": [name for name in own if name not in found and name not in fresh],
        "unexpected": [name for name in found if name not in own],
        "of another shape": [
            f"{name} {tuple(found[name].shape)} instead of {tuple(own[name].shape)}"
            for name in differing
            if name not in fresh
        ],
    }
    if parts := [f"{len(names)} {kind} ({_some(names)})" for kind, names in problems.items() if names]:
        raise CheckpointError(
            f"{where} does not fit {type(network.model).__name__}: of {len(own)} tensors {'; '.join(parts)}. "
            f"Give the weights of the same architecture{'' if other_classes else f' and {network.num_classes} classes'}"
        )
    network.model.load_state_dict({**own, **{name: found[name] for name in own if name not in fresh}})
    return fresh


def _some(names: list[str]) -> str:
    return ", ".join(names[:_LISTED]) + (", ..." if len(names) > _LISTED else "")
