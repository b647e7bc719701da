"""Models of Hugging Face's transformers, by name on the hub or from a folder, each with its own preprocessing."""

from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, TypeAlias

import torch
from torch import nn

from graphkd.errors import CheckpointError, GraphKDError, TapError, TeacherError
from graphkd.files import local_path
from graphkd.models.hub import no_retries, not_had
from graphkd.models.weights import check_archive, check_size
from graphkd.text import LIMIT, read_json, regular_size
from graphkd.typing import Float, Int, Tensor

Tokenizer: TypeAlias = Callable[[list[str]], Int[Tensor, "n l"]]
PREFIX = "hf:"
CLIP_TYPES = ("clip", "siglip")  # model types of transformers with the same two towers
_INTERPOLATIONS = {2: "bilinear", 3: "bicubic"}  # Pillow's numbers
_WEIGHTS = ("model.safetensors", "pytorch_model.bin")
_QUIETLY = {"_raise_exceptions_for_missing_entries": False, "_raise_exceptions_for_connection_errors": False}
_SAFE: dict[str, Any] = {"trust_remote_code": False}  # a repository's own code is never run
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
    """The files of these names that the model has. Raises: TapError for a file above the limit of a description."""
    asked = (import_module("transformers.utils.hub").cached_file(_bare(name), each, **_QUIETLY) for each in files)
    found = [Path(each) for each in asked if each is not None]
    for path in found:
        if (size := regular_size(path)) > LIMIT:
            raise TapError(f"{path.name} of {name!r} has {size} bytes, expected at most {LIMIT}: give another model")
    return found


def _check_values(name: str, found: Mapping[str, Any]) -> None:
    """Refuse numbers so large that transformers would fill the memory with lists of that length."""
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


def hf_build(name: str, auto: str, config: Any, pretrained: bool = True, **options: Any) -> tuple[Any, list[str]]:
    """The model of a configuration, and the names of its parameters that the weights lack.

    It is built only where its weights are large enough to fill it.

    Args:
        name: repository or folder.
        auto: the class of transformers that makes it, such as ``"AutoModel"``.
        config: see :func:`hf_config`.
        pretrained: its weights; off for random ones.
        options: of ``from_pretrained``.

    Raises: TapError, TeacherError for weights that are absent, of another size, or no plain tensors.
    """
    kind = getattr(_transformers(), auto)

    def load() -> tuple[Any, list[str]]:
        files = _files(name, download=pretrained)
        for file in files:
            check_archive(file)
        check_size(lambda: kind.from_config(config), *files)
        if not pretrained:
            return kind.from_config(config, dtype=torch.float32), []
        asked = {"config": config, "dtype": torch.float32, "output_loading_info": True, **options, **_SAFE}
        model, report = kind.from_pretrained(_bare(name), **asked)
        return model, sorted(report["missing_keys"])

    built: tuple[Any, list[str]] = _asked(name, "weights" if pretrained else "architecture", load)
    return built


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
    """An image classifier of transformers; like timm's, it has its preprocessing in ``pretrained_cfg``.

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
    options = {} if headless else {"ignore_mismatched_sizes": True}
    model, missing = hf_build(name, kind, config, pretrained, **options)
    lost = [each for each in missing if not (each.startswith("pooler.") if headless else num_classes)]
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


class TwoTowers(nn.Module):
    """CLIP or SigLIP of transformers with the methods of open_clip's models.

    Args:
        model: a ``CLIPModel`` or ``SiglipModel``.

    Shapes: images (b, 3, h, w), token ids (n, length) -> (b, d), (n, d).
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model: Any = model

    @property
    def logit_scale(self) -> Tensor:
        """Logarithm of the factor of the logits."""
        return self.model.logit_scale  # type: ignore[no-any-return]

    @property
    def logit_bias(self) -> Tensor | None:
        """SigLIP's; ``None`` for CLIP."""
        return getattr(self.model, "logit_bias", None)

    def encode_image(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b d"]:
        """Embeddings of normalised images."""
        return _vector(self.model.get_image_features(pixel_values=images))

    def encode_text(self, tokens: Int[Tensor, "n l"]) -> Float[Tensor, "n d"]:
        """Embeddings of prompts."""
        return _vector(self.model.get_text_features(input_ids=tokens))


def _vector(output: Any) -> Tensor:
    """transformers 4 answers with the vector, 5 with a record of it."""
    return output if isinstance(output, Tensor) else output.pooler_output


def is_clip(name: str) -> bool:
    """Whether a name of transformers is a CLIP-like model. Raises: TapError where its configuration cannot be had."""
    return hf_config(name).model_type in CLIP_TYPES


def hf_clip(name: str) -> tuple[TwoTowers, Tokenizer, dict[str, Any]]:
    """A CLIP-like model such as ``"hf:openai/clip-vit-base-patch32"``: its towers, its tokenizer, its preprocessing.

    Raises: TeacherError where it cannot be had or is of another kind.
    """
    try:
        config = hf_config(name)
        if config.model_type not in CLIP_TYPES:
            raise TeacherError(
                f"{name} is a model of type {config.model_type!r}, expected one of {', '.join(CLIP_TYPES)}: use "
                "hf_teacher(name) for a classifier"
            )
        model, _ = hf_build(name, "AutoModel", config)
        auto = _transformers().AutoTokenizer
        tokenize = _asked(name, "tokenizer", lambda: auto.from_pretrained(_bare(name), **_SAFE))
        said = hf_preprocessing(name)
    except (TapError, CheckpointError) as error:
        raise TeacherError(str(error)) from error
    length = int(config.text_config.max_position_embeddings)
    options = {"padding": "max_length", "truncation": True, "max_length": length, "return_tensors": "pt"}
    side = config.vision_config.image_size
    size = said.pop("input_size", (3, side, side))[1:]
    return TwoTowers(model), lambda prompts: tokenize(prompts, **options)["input_ids"], {"size": size, **said}


def hf_preprocessing(name: str, needed: bool = True) -> dict[str, Any]:
    """The model's preprocessing in timm's names: input_size, mean, std, interpolation; and resize_mode.

    Mean and standard deviation are those of pixels in [0, 1], whatever the processor's own rescaling is.

    Args:
        needed: raise if the model has no processor; else the result is empty.

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
    size = _size(found.size) if found.do_resize else {}
    crop = _size(getattr(found, "crop_size", None)) if getattr(found, "do_center_crop", False) else {}
    said: dict[str, Any] = {
        "mean": [(each + shift) / scale for each in mean],
        "std": [each / scale for each in std],
        "interpolation": _INTERPOLATIONS.get(int(found.resample or 3), "bicubic"),
        "resize_mode": "squash" if "height" in size and not crop else "shortest",
    }
    if chosen := crop or size:
        side = chosen.get("shortest_edge")
        said["input_size"] = (3, chosen.get("height", side), chosen.get("width", side))
    return said


def _size(size: Any) -> dict[str, int]:
    """Height and width, or shortest_edge, as far as they are given."""
    if isinstance(size, int):
        return {"shortest_edge": size}
    said = size if isinstance(size, Mapping) else getattr(size, "__dict__", {})
    return {name: int(said[name]) for name in ("height", "width", "shortest_edge") if said.get(name)}


def _bare(name: str) -> str:
    return str(local_path(name.removeprefix(PREFIX)))


def _transformers() -> Any:
    try:
        return import_module("transformers")
    except ImportError as error:
        raise TapError("models of Hugging Face need transformers: pip install 'graphkd[integrations]'") from error


def _asked(name: str, what: str, load: Any) -> Any:
    """The result of a call of transformers; its many errors become one that says what to do."""
    local, found = local_path(name.removeprefix(PREFIX)).is_dir(), True
    try:
        if local:
            return load()
        with no_retries() as found:
            return load()
    except GraphKDError:
        raise
    except UnpicklingError as error:  # torch's own message tells how to run it
        raise TapError(
            f"the {what} of {name!r} hold more than plain tensors: pickled objects could run code, so they are not "
            "loaded; give a model.safetensors of the same weights"
        ) from error
    except Exception as error:  # transformers fails in many ways
        why = f"cannot be had ({type(error).__name__}: {' '.join(str(error).split())})"
        if not found:
            why = f"cannot be had: {not_had(found, error)}"
        raise TapError(
            f"the {what} of {name!r} {why}. Give a folder with the files that save_pretrained wrote (config.json, "
            "model.safetensors, preprocessor_config.json), or, where there is network, a repository of image models "
            "on the hub"
        ) from error
