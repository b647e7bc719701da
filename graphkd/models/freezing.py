"""Freezes layers by patterns of their names, with the statistics of their BatchNorm."""

from collections.abc import Sequence
from difflib import get_close_matches
from fnmatch import fnmatchcase
from functools import partial

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from graphkd.errors import OptionError
from graphkd.models.tap import Tap


def freeze(student: nn.Module, patterns: Sequence[str]) -> list[str]:
    """Freeze layers before an optimiser is made; returns the names of their parameters.

    BatchNorm inside stays in eval mode, also after ``student.train()``, so that its statistics do not change either.

    Args:
        student: a Tap, whose model's names count, or any module.
        patterns: paths of modules or parameters, ``*``, ``?`` and ``[...]`` allowed: ``"layer1"`` is all below it,
            ``"layer[12]*"``, ``"*.bias"``.

    Raises: OptionError for a pattern that matches nothing (with the nearest names), or if nothing is left to train.
    Example: ``freeze(student, ["conv1", "bn1", "layer1"])``
    """
    model = student.model if isinstance(student, Tap) else student
    parameters = dict(model.named_parameters())
    frozen: dict[str, nn.Parameter] = {}
    for pattern in patterns:
        found = {name: each for name, each in parameters.items() if _matches(name, pattern)}
        if not found:
            raise OptionError(_nothing(model, pattern))
        frozen |= found
    if frozen and len(frozen) == len(parameters):
        raise OptionError(f"freeze={tuple(patterns)} leaves no parameter of the student to train: name fewer layers")
    for each in frozen.values():
        each.requires_grad_(False)
    for name, module in model.named_modules():
        if isinstance(module, _BatchNorm) and any(_matches(name, pattern) for pattern in patterns):
            setattr(module, "train", partial(_stay, module))  # noqa: B010  # a partial is copied with its module
            module.train()
    return list(frozen)


def _stay(module: nn.Module, mode: bool = True) -> nn.Module:
    """``train()`` of a frozen normalisation; what lies inside it (timm keeps the activation there) follows ``mode``."""
    module.training = False
    for child in module.children():
        child.train(mode)
    return module


def _matches(name: str, pattern: str) -> bool:
    """Whether the pattern names this path or one above it."""
    parts = name.split(".")
    return any(fnmatchcase(".".join(parts[: end + 1]), pattern) for end in range(len(parts)))


def _nothing(model: nn.Module, pattern: str) -> str:
    names = [name for name, module in model.named_modules() if name and next(module.parameters(), None) is not None]
    near = get_close_matches(pattern, names, n=3) or [name for name, _ in model.named_children()][:8]
    return (
        f"freeze: the pattern {pattern!r} matches no layer of {type(model).__name__} that has parameters; near it: "
        f"{', '.join(near)}. See student.model.named_modules() for all paths"
    )
