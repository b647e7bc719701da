"""Finds the classifier of an image model: the linear layer (or 1x1 convolution) that makes its logits."""

from collections.abc import Sequence
from difflib import get_close_matches
from typing import TypeAlias

from torch import nn
from torch.nn.parameter import is_lazy

from graphkd.errors import TapError

Classifier: TypeAlias = nn.Linear | nn.Conv2d

# What torchvision and most other libraries call the classifier; timm's models answer get_classifier() instead.
_NAMES = ("fc", "classifier", "heads", "head", "last_linear")


def submodule(model: nn.Module, path: str) -> nn.Module:
    """The module of that path. Raises: TapError that suggests the nearest paths."""
    modules: dict[str, nn.Module] = dict(model.named_modules())
    if path not in modules:
        near = get_close_matches(path, modules, n=3) or list(dict(model.named_children()))
        raise TapError(
            f"{type(model).__name__} has no module {path!r}; near it: {', '.join(near)}. "
            "dict(model.named_modules()) lists all paths"
        )
    return modules[path]


def find_classifier(model: nn.Module, head: str | None = None) -> tuple[str, Classifier]:
    """Path and module of the classifier.

    Asked in this order: ``head``; timm's ``get_classifier()``; the usual names (fc, classifier, heads, head,
    last_linear); the last linear layer of the model. Inside a container the last linear layer is taken.

    Raises: TapError if there is none, if several could be meant, or if it has no shape yet (LazyLinear).
    """
    root = submodule(model, head) if head is not None else _root(model)
    linears = _linears(root)
    if not linears:
        raise TapError(
            f"{type(model).__name__} has no classifier{f' at {head!r}' if head else ''}: expected a Linear or a 1x1 "
            f"Conv2d, found {type(root).__name__}; create the model with num_classes > 0, or name the layer: "
            "head='module.path'"
        )
    classifier = linears[-1]
    if is_lazy(classifier.weight):
        raise TapError(
            f"the classifier {type(classifier).__name__} has no width yet: "
            "run the model once on a batch of images, then tap it"
        )
    if not isinstance(root, nn.Sequential):  # in a sequence the last layer is the classifier, whatever the others
        _only_one(model, [each for each in linears if _rows(each) == _rows(classifier)])
    return _path(model, classifier), classifier


def _root(model: nn.Module) -> nn.Module:
    """The part of the model that the classifier is looked for in."""
    if callable(get := getattr(model, "get_classifier", None)):
        found = get()
        if isinstance(found, (tuple, list, nn.ModuleList)):
            found = _only_one(model, [each for each in found if _linears(each)])
        return found if isinstance(found, nn.Module) else nn.Identity()
    named = [each for name, each in model.named_children() if name in _NAMES]
    if named:
        return _only_one(model, named)
    children = [each for each in model.children() if _linears(each)]
    direct = [each for each in children if isinstance(each, Classifier)]
    if direct and not isinstance(model, nn.Sequential):
        _only_one(model, [each for each in direct if _rows(each) == _rows(direct[-1])])
        return direct[-1]
    return children[-1] if children else model


def _only_one(model: nn.Module, heads: Sequence[nn.Module]) -> nn.Module:
    if len(heads) > 1:
        names = [_path(model, each) for each in heads]
        raise TapError(
            f"{type(model).__name__} has several classifiers ({', '.join(names)}): name the one whose input is the "
            f"embedding, such as head={names[0]!r}; the logits stay the model's own output (the average, where it "
            "averages its heads)"
        )
    return heads[0] if heads else nn.Identity()


def _linears(module: nn.Module) -> list[Classifier]:
    """The linear layers and 1x1 convolutions of a module, itself included."""
    layers = [each for each in module.modules() if isinstance(each, Classifier)]
    return [each for each in layers if isinstance(each, nn.Linear) or (each.kernel_size, each.groups) == ((1, 1), 1)]


def _rows(layer: Classifier) -> int:
    return layer.out_channels if isinstance(layer, nn.Conv2d) else layer.out_features


def _path(model: nn.Module, module: nn.Module) -> str:
    return next(name for name, each in model.named_modules() if each is module)  # type: ignore[no-any-return]
