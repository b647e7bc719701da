"""Vision models of Hugging Face's transformers, by name on the hub or from a folder, with their own preprocessing."""

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from torch import nn

from graphkd.errors import GraphKDError, TapError
from graphkd.files import local_path
from graphkd.models.archives import check_archive, check_size
from graphkd.text import LIMIT, read_json, regular_size
from graphkd.typing import Float, Tensor

PREFIX = "hf:"
_INTERPOLATIONS = {2: "bilinear", 3: "bicubic"}  # Pillow's numbers
_WEIGHTS = ("model.safetensors", "pytorch_model.bin")
_QUIETLY = {"_raise_exceptions_for_missing_entries": False, "_raise_exceptions_for_connection_errors": False}
_MOST, _MOST_LABELS = 1 << 20, 1 << 17  # numbers of a configuration; transformers takes 0.8 KB a label


def hf_config(name: str) -> Any:
    """The configuration of a model. Raises: TapError where it cannot be had, or has a number that no model has."""
    transformers = _transformers()

    def load() -> Any:
        for file in _small_files(name, "config.json"):
            _small_files(name, *read_json(file).get("configuration_files", ()))
        _check_values(name, transformers.PretrainedConfig.get_config_dict(_bare(name))[0])
        return transformers.AutoConfig.from_pretrained(_bare(name), **_SAFE)

    return _asked(name, "configuration", load)


def _small_files(name: str, *files: str) -> list[Path]:
    """Those of the files that the model has. Raises: TapError for one that is larger than a description may be."""
    asked = (import_module("transformers.utils.hub").cached_file(_bare(name), each, **_QUIETLY) for each in files)
    found = [Path(each) for each in asked if each is not None]
    for path in found:
        if (size := regular_size(path)) > LIMIT:
            raise TapError(f"{path.name} of {name!r} has {size} bytes, expected at most {LIMIT}: give another model")
    return found


def _check_values(name: str, found: Mapping[str, Any]) -> None:
    """Refuse what would become a list as long as a number says, before transformers makes it."""
    named = found.get("architectures") or []
    if not (isinstance(named, list) and all(isinstance(each, str) for each in named)):
        raise TapError(
            f"the configuration of {name!r} has architectures {named!r}, expected a list of names: correct it"
        )
    waiting: list[tuple[str, Any]] = [("", found)]
    while waiting:
        key, value = waiting.pop()
        if isinstance(value, Mapping):
            waiting += value.items()
        elif isinstance(value, list):
            waiting += [(key, each) for each in value]
        elif isinstance(value, int) and value > (_MOST_LABELS if key == "num_labels" else _MOST):
            raise TapError(f"the configuration of {name!r} has a {key} of no known model: correct it, or give another")


def hf_build(name: str, auto: str, config: Any, pretrained: bool = True, **options: Any) -> Any:
    """The model of a configuration, once its weights were found to be large enough to fill it.

    Args:
        name: repository or folder.
        auto: the class of transformers that makes it, such as ``"AutoModel"``.
        config: see :func:`hf_config`.
        pretrained: its weights; off for random ones.
        options: of ``from_pretrained``.

    Raises: TapError, TeacherError for weights that are absent, of another size, or no plain tensors.
    """
    kind = getattr(_transformers(), auto)

    def load() -> Any:
        files = _files(name, download=pretrained)
        for file in files:
            check_archive(file)
        check_size(lambda: kind.from_config(config), *files)
        if not pretrained:
            return kind.from_config(config, dtype=torch.float32)
        return kind.from_pretrained(_bare(name), config=config, dtype=torch.float32, **options, **_SAFE)

    return _asked(name, "weights" if pretrained else "architecture", load)


def _files(name: str, download: bool) -> list[Path]:
    """The files of a model's weights, of which transformers takes the first kind that is there."""
    hub = import_module("transformers.utils.hub")
    for each in (f"{kind}{index}" for kind in _WEIGHTS for index in ("", ".index.json")):
        found = hub.cached_file(_bare(name), each, local_files_only=not download, **_QUIETLY)
        if found is None:
            continue
        folder, files = Path(found).parent, [found]
        if each.endswith(".index.json"):
            _small_files(name, each)
            files = hub.get_checkpoint_shard_files(_bare(name), found, local_files_only=not download)[0]
        if any(Path(file).parent != folder for file in files):
            raise TapError(f"{found} names files outside its folder: give a folder that save_pretrained wrote")
        return [Path(file) for file in files]
    return []


def hf_model(name: str, num_classes: int | None = None, *, pretrained: bool = True, pooled: bool = False) -> nn.Module:
    """An image classifier of transformers that says of itself, as timm's do (``pretrained_cfg``), how it sees images.

    Args:
        name: repository on the hub (``"google/vit-base-patch16-224"``) or folder, with or without ``"hf:"`` before it.
        num_classes: width of its head, which starts fresh where it differs; ``None`` for its own, or, where the weights
            have no classifier (DINOv2), for a network that gives its pooled embedding.
        pretrained: its weights; off for random ones of the same architecture.
        pooled: leave its classifier out.

    Raises: TapError if transformers is not installed, or if the model cannot be had or classifies no images.
    Example: ``Tap(hf_model("facebook/convnextv2-tiny-1k-224", 10))``
    """
    config = hf_config(name)
    classifies = any("ImageClassification" in each for each in config.architectures or ())
    headless = pooled or (num_classes is None and not classifies)
    if num_classes is not None:
        config.num_labels = num_classes
    kind = "AutoModel" if headless else "AutoModelForImageClassification"
    missing: set[str] = set()
    if pretrained:
        options: dict[str, Any] = {} if headless else {"ignore_mismatched_sizes": True}
        model, report = hf_build(name, kind, config, output_loading_info=True, **options)
        missing = set(report["missing_keys"])
    else:
        model = hf_build(name, kind, config, pretrained=False)
    lost = sorted(each for each in missing if not (each.startswith("pooler.") if headless else num_classes))
    if lost:
        raise TapError(f"the weights of {name!r} lack {', '.join(lost[:5])}: give a complete checkpoint")
    built: Any = Pooled(model, own=not missing) if headless else model
    built.pretrained_cfg = hf_preprocessing(name, needed=pretrained)
    return built  # type: ignore[no-any-return]


class Pooled(nn.Module):
    """A network of transformers without classifier, as one vector per image.

    Args:
        model: any ``AutoModel`` of images.
        own: whether its pooling layer is trained; else its first token counts.

    Shapes: (b, 3, h, w) -> (b, d).
    """

    num_classes = 0  # timm's word for a network without classifier

    def __init__(self, model: nn.Module, own: bool = True) -> None:
        super().__init__()
        self.model, self.own = model, own

    def forward(self, pixels: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b d"]:
        """The model's own pooling, else its first token."""
        output = self.model(pixels)
        pooled = getattr(output, "pooler_output", None) if self.own else None
        return output.last_hidden_state[:, 0] if pooled is None else pooled.flatten(1)  # type: ignore[no-any-return]


def hf_preprocessing(name: str, needed: bool = True) -> dict[str, Any]:
    """What the model's image processor does, in timm's words: input_size, mean, std, interpolation; and resize_mode.

    Mean and standard deviation are those of pixels in [0, 1], whatever the processor's own rescaling is.

    Args:
        needed: raise where the model has no processor; else nothing is said of the images.

    Raises: TapError.
    """
    loader = _transformers().AutoImageProcessor
    try:
        _small_files(name, "preprocessor_config.json", "processor_config.json")
        found = _asked(name, "image processor", lambda: loader.from_pretrained(_bare(name), **_SAFE))
    except TapError:
        if needed:
            raise
        return {}
    scale = 255 * (found.rescale_factor or 1 / 255) if found.do_rescale else 255.0
    shift = 1.0 if getattr(found, "rescale_offset", None) else 0.0
    mean, std = (found.image_mean, found.image_std) if found.do_normalize else ([0.0] * 3, [1.0] * 3)
    said: dict[str, Any] = {
        "mean": [(each + shift) / scale for each in mean],
        "std": [each / scale for each in std],
        "interpolation": _INTERPOLATIONS.get(int(found.resample or 3), "bicubic"),
        "resize_mode": "shortest",
    }
    size = _size(found.size) if found.do_resize else None
    crop = _size(getattr(found, "crop_size", None)) if getattr(found, "do_center_crop", False) else None
    if size is not None and crop is None and "height" in size:
        said["resize_mode"] = "squash"
    chosen = crop or size
    if chosen:
        side = chosen.get("shortest_edge")
        said["input_size"] = (3, chosen.get("height", side), chosen.get("width", side))
    return said


_SAFE: dict[str, Any] = {"trust_remote_code": False}  # a repository's own code is never run


def _size(size: Any) -> dict[str, int] | None:
    """Height and width, or shortest_edge."""
    if isinstance(size, int):
        return {"shortest_edge": size}
    names = ("height", "width", "shortest_edge")
    sides = {name: size.get(name) if isinstance(size, Mapping) else getattr(size, name, None) for name in names}
    return {name: int(side) for name, side in sides.items() if side} or None


def _bare(name: str) -> str:
    return str(local_path(name.removeprefix(PREFIX)))


def _transformers() -> Any:
    try:
        return import_module("transformers")
    except ImportError as error:
        raise TapError("models of Hugging Face need transformers: pip install 'graphkd[integrations]'") from error


def _asked(name: str, what: str, load: Any) -> Any:
    """The answer of transformers, or its many errors as one that says what to do."""
    try:
        return load()
    except GraphKDError:
        raise
    except UnpicklingError as error:  # torch's own message tells how to run it
        raise TapError(
            f"the {what} of {name!r} hold more than plain tensors: pickled objects could run code, so they are not "
            "loaded; give a model.safetensors of the same weights"
        ) from error
    except Exception as error:  # transformers fails in many ways
        reason = " ".join(str(error).split())[:300]
        raise TapError(
            f"the {what} of {name!r} cannot be had ({type(error).__name__}: {reason}). Give a folder with the files "
            "that save_pretrained wrote (config.json, model.safetensors, preprocessor_config.json), or, where there is "
            "network, a repository of image models on the hub"
        ) from error
