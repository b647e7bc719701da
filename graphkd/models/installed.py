"""What the installed timm, torchvision, open_clip and accelerate know by name.

Names of models and options are read in their files: that takes a tenth of a second, importing the libraries takes many.
Where a later version keeps its names elsewhere, nothing is found, and nobody is refused: the library itself answers
later. Only :func:`imagenet_names` imports them, when it is called.
"""

import ast
import re
import sys
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

from graphkd.registry import unknown

TORCHVISION: Final = "torchvision/"  # before the name of a student that is to be torchvision's
LITE: Final = {"lite0": "tf_efficientnet_lite0", "lite2": "tf_efficientnet_lite2"}  # teachers -> their networks in timm
_TIMM_MODEL = re.compile(r"^@register_model\b.*\n(?:@.*\n)*def (\w+)", re.MULTILINE)
_TIMM_RENAMED = re.compile(r"^register_model_deprecations\(__name__, \{(.*?)^\}\)", re.MULTILINE | re.DOTALL)
_KEY = re.compile(r"^\s*['\"](\w+)['\"]\s*:", re.MULTILINE)
_TORCHVISION_MODEL = re.compile(
    r"^@register_model\(\s*(?:name\s*=\s*['\"](\w+)['\"])?[^)]*\)\n.*?^def (\w+)", re.MULTILINE | re.DOTALL
)
_OPTIMIZER = re.compile(r"(?:\bname\s*=\s*|OptimInfo\(\s*|register_alias\()['\"](\w+)['\"]")
_TRACKERS = re.compile(r"^LOGGER_TYPE_TO_CLASS = \{(.*?)^\}", re.MULTILINE | re.DOTALL)
_QUICK = "-quickgelu"  # open_clip lists a model under this name too, with the tags that need the activation


@cache
def timm_models() -> tuple[str, ...]:
    """Architectures of timm, earlier names among them."""
    found = set[str]()
    for text in _texts("timm", "models/**/*.py"):
        found.update(_TIMM_MODEL.findall(text))
        found.update(name for table in _TIMM_RENAMED.findall(text) for name in _KEY.findall(table))
    return tuple(sorted(found))


@cache
def torchvision_models() -> tuple[str, ...]:
    """Models of torchvision."""
    pairs = (pair for text in _texts("torchvision", "models/**/*.py") for pair in _TORCHVISION_MODEL.findall(text))
    return tuple(sorted({given or own for given, own in pairs}))


@cache
def optimizers() -> tuple[str, ...]:
    """Optimisers of timm, those that need another package among them."""
    return tuple(
        sorted({name for text in _texts("timm", "optim/_optim_factory.py") for name in _OPTIMIZER.findall(text)})
    )


@cache
def trackers() -> tuple[str, ...]:
    """Trackers of accelerate, installed or not."""
    tables = (table for text in _texts("accelerate", "tracking.py") for table in _TRACKERS.findall(text))
    return tuple(name for table in tables for name in _KEY.findall(table))


@cache
def clip_models() -> tuple[str, ...]:
    """Models of open_clip."""
    return tuple(sorted(path.stem for path in _files("open_clip", "model_configs/*.json")))


@cache
def clip_tags() -> dict[str, tuple[str, ...]]:
    """Tags of the weights of each of open_clip's models that has some."""
    tables: dict[str, dict[str, ast.expr]] = {}
    for text in _texts("open_clip", "pretrained.py"):
        for node in ast.parse(text).body:
            if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
                tables[node.targets[0].id] = _entries(node.value)
    found: dict[str, tuple[str, ...]] = {}
    for model, value in tables.get("_PRETRAINED", {}).items():
        weights = tables.get(value.id, {}) if isinstance(value, ast.Name) else _entries(value)
        found[model] = tuple(weights)
        if quick := tuple(tag for tag, made in weights.items() if "quick_gelu" in _entries(made)):
            found[model + _QUICK] = quick
    return found


def require_network(kind: str, name: str) -> None:
    """Refuse a name that neither timm nor torchvision has; a model that this process registered with timm is known.

    Args:
        kind: ``"student"`` or ``"teacher"``, for the message.
        name: of timm, with a tag or without, or ``"torchvision/NAME"``.

    Raises: UnknownNameError with the nearest name.
    Example: ``require_network("student", "resnet18")``
    """
    bare, timm = name.removeprefix(TORCHVISION), sys.modules.get("timm")
    if bare == name and timm is not None and timm.is_model(name):
        return
    ours, theirs = (() if bare != name else timm_models()), torchvision_models()
    if theirs and (bare != name or ours) and bare not in theirs and name.partition(".")[0] not in ours:
        raise unknown(kind, bare, list(ours or theirs))


def listed_network(teacher: str) -> str | None:
    """The network of a teacher, as a student of it is called; ``None`` where timm and torchvision do not have it.

    Example: ``listed_network("torchvision:resnet50")`` is ``"torchvision/resnet50"``
    """
    library, colon, name = teacher.partition(":")
    return {"timm:": name, "torchvision:": TORCHVISION + name}.get(library + colon, LITE.get(teacher))


def imagenet_names() -> dict[str, str]:
    """ImageNet-1k's WordNet ids, sorted, and the class names that OpenAI curated for CLIP."""
    from open_clip import IMAGENET_CLASSNAMES
    from timm.data.imagenet_info import ImageNetInfo

    info: Any = ImageNetInfo("imagenet-1k")
    return dict(zip(info.label_names(), IMAGENET_CLASSNAMES, strict=True))


def _files(package: str, pattern: str) -> list[Path]:
    """Files of an installed package, which is not imported."""
    spec = find_spec(package)
    roots = spec.submodule_search_locations if spec is not None else None
    return sorted(Path(roots[0]).glob(pattern)) if roots else []


def _texts(package: str, pattern: str) -> list[str]:
    return [path.read_text(encoding="utf-8") for path in _files(package, pattern)]


def _entries(value: ast.expr) -> dict[str, ast.expr]:
    """Names and values in ``{"name": value}`` and in any call ``f(name=value)``."""
    if isinstance(value, ast.Call):
        return {each.arg: each.value for each in value.keywords if each.arg is not None}
    if isinstance(value, ast.Dict):
        pairs = zip(value.keys, value.values, strict=True)
        return {key.value: each for key, each in pairs if isinstance(key, ast.Constant) and isinstance(key.value, str)}
    return {}
