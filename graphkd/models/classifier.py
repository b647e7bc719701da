"""Where the classifier of an image model is: the one linear layer (or 1x1 convolution) that makes its logits."""

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
    linears = [each for each in root.modules() if _is_linear(each)]
    if not linears:
        raise TapError(
            f"{type(model).__name__} has no classifier{f' at {head!r}' if head else ''}: expected a Linear or a 1x1 "
            f"Conv2d, found {type(root).__name__}; create the model with num_classes > 0, or name the layer: "
            "head='module.path'"
        )
    classifier = linears[-1]
    assert isinstance(classifier, Classifier)
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
            heads = [each for each in found if any(map(_is_linear, each.modules()))]
            _only_one(model, heads)
            found = heads[0] if heads else nn.Identity()
        return found if isinstance(found, nn.Module) else nn.Identity()
    named = [each for name, each in model.named_children() if name in _NAMES]
    if len(named) > 1:
        _only_one(model, named)
    if named:
        return named[0]
    children = list(model.children())
    direct = [each for each in children if _is_linear(each)]
    if direct and not isinstance(model, nn.Sequential):
        _only_one(model, [each for each in direct if _rows(each) == _rows(direct[-1])])
        return direct[-1]
    last = [each for each in children if any(map(_is_linear, each.modules()))]
    return last[-1] if last else model


def _only_one(model: nn.Module, heads: list[nn.Module]) -> None:
    if len(heads) > 1:
        names = [_path(model, each) for each in heads]
        raise TapError(
            f"{type(model).__name__} has several classifiers ({', '.join(names)}): name the one whose input is the "
            f"embedding, such as head={names[0]!r}; the logits stay the model's own output (the average, where it "
            "averages its heads)"
        )


def _is_linear(module: nn.Module) -> bool:
    if isinstance(module, nn.Conv2d):
        return module.kernel_size == (1, 1) and module.groups == 1
    return isinstance(module, nn.Linear)


def _rows(module: nn.Module) -> int:
    assert isinstance(module, Classifier)
    return module.out_channels if isinstance(module, nn.Conv2d) else module.out_features


def _path(model: nn.Module, module: nn.Module) -> str:
    names: list[str] = [name for name, each in model.named_modules() if each is module]
    return names[0]
