"""open_clip's models: their names, files, weights, tokenizers and preprocessing. Importing this takes seconds."""

import logging
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import open_clip
from open_clip.constants import HF_SAFE_WEIGHTS_NAME
from open_clip.pretrained import download_pretrained_from_hf
from open_clip.tokenizer import HFTokenizer
from open_clip.transform import PreprocessCfg
from safetensors.torch import save_file
from torch import nn

from graphkd.errors import CheckpointError, TeacherError
from graphkd.files import local_path
from graphkd.models.hub import no_retries, not_had
from graphkd.models.huggingface import PREFIX, Tokenizer, hf_clip
from graphkd.models.weights import check_size, named_as, read_file, weights_in
from graphkd.registry import unknown
from graphkd.teachers.clip_files import clip_files, no_weights, require_weights
from graphkd.teachers.preprocess import Preprocess
from graphkd.text import read_json

log = logging.getLogger("graphkd")
HUB, FOLDER = "hf-hub:", "local-dir:"  # open_clip's own words
_PARTS = ("embed_dim", "vision_cfg", "text_cfg")
_CONFIG = "open_clip_config.json"
_WEIGHTS = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")


@dataclass(frozen=True)
class LoadedCLIP:
    """A model with its weights, its tokenizer, and its preprocessing as open_clip writes it."""

    model: Any  # open_clip's classes are untyped
    tokenizer: Tokenizer
    preprocess: dict[str, Any]

    def preprocessing(self, changes: Mapping[str, Any]) -> Preprocess:
        """The preprocessing with single values replaced. Raises: UnknownNameError for a value that does not exist."""
        for name in changes:
            if name not in self.preprocess:
                raise unknown("preprocessing value", name, sorted(self.preprocess))
        size = self.preprocess["size"] or getattr(getattr(self.model, "visual", None), "image_size", None)
        options = {**self.preprocess, "size": size, **changes}
        sides = options["size"]
        if options["resize_mode"] == "shortest" and not isinstance(sides, int | None) and len(set(sides)) == 2:
            options["interpolation"] = "bicubic"  # as open_clip does it, whatever the configuration says
        return Preprocess(**options)


def load_clip(
    model: str | Path | Mapping[str, Any] | nn.Module,
    pretrained: str | Path | None,
    *,
    quick_gelu: bool | None = None,
    tokenizer: Tokenizer | None = None,
) -> LoadedCLIP:
    """Build an open_clip model and load its weights.

    Args:
        model: a name that open_clip knows; a configuration in its JSON format, a dictionary or the path of a file; a
            checkpoint with its configuration beside it;
            ``hf-hub:org/model`` or ``local-dir:folder`` (open_clip's), ``hf:org/model`` or ``hf:folder``
            (transformers'); or a built open_clip model, which is taken as it is.
        pretrained: a tag of that name, or the path of a checkpoint (safetensors, or a torch file of plain tensors);
            not needed where the one checkpoint beside a configuration is meant.
        quick_gelu: activation x * sigmoid(1.702 x); ``None`` takes it from the tag, else from the configuration.
        tokenizer: prompts -> token ids; ``None`` takes the model's own.

    Raises: TeacherError, UnknownNameError.
    """
    if isinstance(model, nn.Module):
        return _built(model, tokenizer, pretrained, quick_gelu)
    if isinstance(model, str) and model.startswith((HUB, FOLDER, PREFIX)):
        if pretrained is not None:
            raise TeacherError(f"{model} brings its own weights: leave pretrained= out")
        if model.startswith(PREFIX):
            towers, own, preprocess = hf_clip(model)
            return LoadedCLIP(towers, tokenizer or own, preprocess)
        model, pretrained = _local_files(model) if model.startswith(FOLDER) else _hub_files(model)
    if isinstance(model, str | Path):
        model, pretrained = clip_files(model, pretrained)
    if isinstance(model, str) and not model.endswith(".json"):
        model = model.replace("/", "-")  # OpenAI writes ViT-B/32
    config, preprocess, source = _config(model)
    label, tags = ("the given configuration", {}) if source else (repr(model), _tags(str(model)))
    if pretrained is None:
        raise TeacherError(no_weights(label, tags))
    path = _weights(model, pretrained, tags, config, preprocess, quick_gelu)
    try:
        check_size(lambda: _build(config, label), path)
        built = _build(config, label)
        _load(built, path, label)
    except CheckpointError as error:
        raise TeacherError(str(error)) from error
    return LoadedCLIP(built, tokenizer or _tokenizer(model, config, source), preprocess)


def untrained_tower(name: str, classes: int) -> tuple[nn.Module, dict[str, Any]]:
    """The image tower of a model with random weights and a classifier on top, and what ClassifierTeacher shows it.

    Args:
        name: that open_clip knows.
        classes: of the classifier, which stands for the texts.

    Raises: UnknownNameError, TeacherError.
    """
    config, view, _ = _config(name.replace("/", "-"))
    config["vision_cfg"]["output_tokens"] = False
    tower: Any = getattr(_build(config, name), "visual")  # noqa: B009  # open_clip's classes are untyped
    classifier = nn.Linear(config["embed_dim"], classes)
    view = {"mean": view["mean"], "std": view["std"], "image_size": tower.image_size}
    return nn.Sequential(tower, classifier), view


def _built(model: nn.Module, tokenizer: Tokenizer | None, pretrained: object, quick_gelu: object) -> LoadedCLIP:
    missing = [name for name in ("encode_image", "encode_text", "logit_scale") if not hasattr(model, name)]
    if missing:
        raise TeacherError(
            f"{type(model).__name__} is no open_clip model, it has no {', '.join(missing)}: use ClassifierTeacher "
            "for a network without a text tower"
        )
    if pretrained is not None or quick_gelu is not None:
        raise TeacherError(
            "a built model has its weights and activations already: leave pretrained= and quick_gelu= out"
        )
    if tokenizer is None:
        raise TeacherError("a built model needs its tokenizer: tokenizer=open_clip.get_tokenizer(name)")
    said = getattr(getattr(model, "visual", None), "preprocess_cfg", {})
    return LoadedCLIP(model, tokenizer, {key: said.get(key, value) for key, value in default_preprocess().items()})


def default_preprocess() -> dict[str, Any]:
    """OpenAI's preprocessing, which open_clip takes where nothing else is said."""
    default = PreprocessCfg()
    keys = ("mean", "std", "interpolation", "resize_mode")
    return {"size": None, **{key: getattr(default, key) for key in keys}}


def _local_files(name: str) -> tuple[Path, Path]:
    """Configuration and weights of ``"local-dir:folder"``."""
    folder = local_path(name.removeprefix(FOLDER))
    weights = [folder / each for each in _WEIGHTS if (folder / each).is_file()]
    others = sorted(folder.glob("*.safetensors"))
    if not (folder / _CONFIG).is_file() or not (weights or len(others) == 1):
        raise TeacherError(
            f"{name} needs {_CONFIG} and {' or '.join(_WEIGHTS)} in one folder, found "
            f"{', '.join(sorted(each.name for each in folder.glob('*'))[:8]) or 'nothing'}: download both files"
        )
    return folder / _CONFIG, (weights or others)[0]


def _hub_files(name: str) -> tuple[Path, Path]:
    """Configuration and weights of ``"hf-hub:org/model"``."""
    repository = name.removeprefix(HUB)
    with no_retries() as found:
        try:
            config, weights = (download_pretrained_from_hf(repository, file) for file in (_CONFIG, None))
        except Exception as error:  # the network fails in many ways
            raise TeacherError(
                f"the files of {name} are {not_had(found, error)}: download {_CONFIG} and {_WEIGHTS[0]} of "
                f"https://huggingface.co/{repository} into one folder where there is a network, and give "
                f"{FOLDER}folder"
            ) from error
    return Path(config), Path(weights)


def _config(
    model: str | Path | Mapping[str, Any],
) -> tuple[dict[str, Any], dict[str, Any], Path | Mapping[str, Any] | None]:
    """Configuration, preprocessing, and where they come from (``None``: open_clip's own list)."""
    preprocess = default_preprocess()
    if isinstance(model, str) and not model.endswith(".json"):
        if model not in open_clip.list_models():
            raise unknown("open_clip model", model, open_clip.list_models())
        return open_clip.get_model_config(model), preprocess, None
    source = model if isinstance(model, Mapping) else local_path(model)
    data = _read_json(source) if isinstance(source, Path) else deepcopy(dict(source))
    preprocess |= {key: value for key, value in data.get("preprocess_cfg", {}).items() if key in preprocess}
    config = data.get("model_cfg", data)
    missing = [part for part in _PARTS if part not in config]
    if missing:
        raise TeacherError(
            f"a model configuration needs {', '.join(_PARTS)}; {', '.join(missing)} is missing from "
            f"{source if isinstance(source, Path) else 'the dictionary'} (found: {', '.join(config) or 'nothing'})"
        )
    return config, preprocess, source


def _read_json(path: Path) -> dict[str, Any]:
    try:
        data = read_json(path)
    except (OSError, ValueError) as error:
        raise TeacherError(f"cannot read the model configuration {path}: {error}") from error
    if not isinstance(data, dict):
        raise TeacherError(f"expected a JSON object in {path}, found {type(data).__name__}")
    return data


def _weights(
    model: object,
    pretrained: str | Path,
    tags: Mapping[str, dict[str, Any]],
    config: dict[str, Any],
    preprocess: dict[str, Any],
    quick_gelu: bool | None,
) -> Path:
    """The file of the weights; what goes with them is written into configuration and preprocessing."""
    if tag := open_clip.get_pretrained_cfg(model, str(pretrained)) if tags else {}:
        path = _download(str(model), str(pretrained), tag)
        preprocess |= {key: value for key, value in tag.items() if key in preprocess}
        config["quick_gelu"] = bool(tag.get("quick_gelu", False))
    else:
        path = require_weights(model, pretrained, tags)
        # what all tags of a model agree on (SigLIP's mean and std, say), for a file of unknown origin
        for key in preprocess:
            first, *others = [each.get(key) for each in tags.values()] or [None]
            if first is not None and all(other == first for other in others):
                preprocess[key] = first
        if quick_gelu is None and any(each.get("quick_gelu") for each in tags.values()):
            log.warning(
                "%s: some weights of this model need quick_gelu=True and a file does not say so; using %s",
                model,
                bool(config.get("quick_gelu", False)),
            )
    if quick_gelu is not None:
        config["quick_gelu"] = quick_gelu
    return path


def _tags(model: str) -> dict[str, dict[str, Any]]:
    """The pretrained tags of a model name; open_clip keeps no public table of them."""
    return {tag: open_clip.get_pretrained_cfg(model, tag) for tag in open_clip.list_pretrained_tags_by_model(model)}


def _download(model: str, pretrained: str, tag: Mapping[str, Any]) -> Path:
    with no_retries() as found:
        try:
            return Path(open_clip.download_pretrained(tag))
        except Exception as error:  # the network fails in many ways, and open_clip passes them all on
            repository, _, file = str(tag.get("hf_hub", "")).rpartition("/")
            hub = f"https://huggingface.co/{repository}/resolve/main/{file or HF_SAFE_WEIGHTS_NAME}"
            place = hub if repository else tag.get("url")  # OpenAI's own files are TorchScript: the hub first
            flag = ", quick_gelu=True" if tag.get("quick_gelu") else ""
            raise TeacherError(
                f"the weights {pretrained!r} of {model!r} are {not_had(found, error)}: download {place} where there "
                f"is a network, put the file anywhere on this machine and use CLIPTeacher({model!r}, "
                f"pretrained='/path/to/file'{flag})"
            ) from error


def _build(config: dict[str, Any], label: str) -> nn.Module:
    """The model with random weights, of the class that open_clip would choose; single towers fetch no weights."""
    config = deepcopy(config)
    for tower, flag in (("vision_cfg", "timm_model_pretrained"), ("text_cfg", "hf_model_pretrained")):
        config[tower][flag] = False
    custom = config.pop("custom_text", False) or "hf_model_name" in config["text_cfg"]
    own = open_clip.CoCa if "multimodal_cfg" in config else open_clip.CustomTextCLIP
    try:
        model: nn.Module = (own if custom else open_clip.CLIP)(**config)
    except Exception as error:  # whatever a wrong option breaks in open_clip, timm or transformers
        raise TeacherError(f"open_clip cannot build {label}: {type(error).__name__}: {error}") from error
    return model


def _load(model: nn.Module, path: Path, label: str) -> None:
    """Fill the model from a file; weights under other names go through a copy, as open_clip converts files only."""
    held = read_file(path)
    found = named_as(model.state_dict(), weights_in(held, path))
    with TemporaryDirectory() as folder:
        plain = path
        if found.keys() != held.keys():
            plain = Path(folder) / "plain.safetensors"
            save_file({name: value.contiguous().clone() for name, value in found.items()}, plain)
        try:
            open_clip.load_checkpoint(model, str(plain), strict=True, weights_only=True)
        except Exception as error:  # of another model
            reason = " ".join(f"{type(error).__name__}: {error}".split())[:400]
            raise CheckpointError(f"the checkpoint {path} does not fit {label}: {reason}") from error


def _tokenizer(model: object, config: Mapping[str, Any], source: object) -> Tokenizer:
    """The model's own tokenizer; what a configuration says of it never runs code of its own.

    Args:
        model: its name, for open_clip's own models.
        config: open_clip's configuration of the model.
        source: where the configuration comes from: a file, a dictionary, or ``None`` for open_clip's list.

    Raises: TeacherError where it is not available, or would run code that comes with it.
    """
    text = config["text_cfg"]
    name, options = text.get("hf_tokenizer_name"), dict(text.get("tokenizer_kwargs") or {})
    if options.pop("trust_remote_code", False):
        raise TeacherError(
            "the model configuration asks for trust_remote_code=True, which runs code that comes with the tokenizer: "
            "remove it, or build the tokenizer yourself and give tokenizer="
        )
    try:
        if source is None:
            found: Tokenizer = open_clip.get_tokenizer(model)
        elif name:
            beside = isinstance(source, Path) and (source.parent / "tokenizer_config.json").is_file()
            found = HFTokenizer(
                str(source.parent) if beside and isinstance(source, Path) else name,
                context_length=text.get("context_length"),
                tokenizer_mode=text.get("tokenizer_mode"),
                trust_remote_code=False,
                **options,
            )
        else:
            found = open_clip.SimpleTokenizer(context_length=text.get("context_length", 77))
    except Exception as error:  # transformers missing, no network, or no such tokenizer
        raise TeacherError(
            f"the tokenizer {name or model!r} is not available: {type(error).__name__}: {str(error)[:200]}. Download "
            "its files where there is network and point text_cfg.hf_tokenizer_name at their folder, or give tokenizer="
        ) from error
    return found
