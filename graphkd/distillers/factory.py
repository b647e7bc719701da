"""Distillers by name."""

from importlib import import_module
from pkgutil import iter_modules
from typing import Any

import torch

import graphkd.distillers
from graphkd.distillers.base import DISTILLERS, Distiller
from graphkd.errors import GraphKDError
from graphkd.features import Features
from graphkd.registry import Registry, unknown


def distillers() -> Registry[type[Distiller]]:
    """The registry with every method of the library, and those that were registered elsewhere."""
    for module in iter_modules(graphkd.distillers.__path__):
        import_module(f"graphkd.distillers.{module.name}")
    return DISTILLERS


def create_distiller(name: str, student: Any, teacher: Any, **options: Any) -> Distiller:
    """The method of that name between two networks.

    Args:
        name: such as ``"prg"``, ``"ega"``, ``"rkd"``.
        student: a Tap, or the Features of one batch (methods on maps and tokens learn their channels from them).
        teacher: a Teacher, a store, or Features.
        options: of the method; its docstring lists them.

    Raises: UnknownNameError for an unknown method or option, with a suggestion and the list.
    Example: ``create_distiller("rkd", student, teacher, angle_weight=0)``
    """
    method = distillers().get(name)
    known = method.option_names()
    for option in options:
        if option not in known:
            raise unknown(f"option of {name!r}", option, known)
    return method.between(student, teacher, **options)


def methods_without_classes() -> list[str]:
    """Methods between two networks that have neither class scores nor proxies, such as two backbones.

    Each is tried, with its defaults, on features that have none.

    Example: ``"rkd" in methods_without_classes()`` is true, ``"kd" in methods_without_classes()`` is not
    """
    draw = torch.Generator().manual_seed(0)
    shapes = (6, 8), (6, 16, 4, 4), (6, 16, 4, 4), (6, 16, 8)
    embedding, first, second, tokens = (torch.rand(shape, generator=draw) for shape in shapes)
    features = Features(embedding, maps={"first": first, "second": second}, tokens={"tokens": tokens})
    return [name for name in distillers() if _takes(name, features)]


def _takes(name: str, features: Features) -> bool:
    options = {"num_samples": len(features)} if "num_samples" in DISTILLERS.get(name).sized_by else {}
    try:
        with torch.random.fork_rng(devices=[]):
            create_distiller(name, features, features, **options)(features, features, index=torch.arange(len(features)))
    except GraphKDError:
        return False
    return True
