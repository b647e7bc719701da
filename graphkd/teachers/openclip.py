"""Loading of open_clip models: a name with a tag, a name with a file, or a configuration with a file."""

import logging
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from torch import nn

from graphkd.errors import CheckpointError, TeacherError
from graphkd.files import local_path
from graphkd.models.archives import check_archive, check_size
from graphkd.models.huggingface import PREFIX
from graphkd.models.weights import named_as, read_file, weights_in
from graphkd.registry import unknown
from graphkd.teachers.hub import FOLDER, HUB, hf_clip, open_clip_files
from graphkd.teachers.preprocess import Preprocess
from graphkd.teachers.tokenizers import Tokenizer, build_tokenizer
from graphkd.text import read_json

log = logging.getLogger("graphkd")
_PARTS = ("embed_dim", "vision_cfg", "text_cfg")


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
    model: str | Path | Mapping[str, Any],
    pretrained: str | Path | None,
    *,
    quick_gelu: bool | None = None,
    tokenizer: Tokenizer | None = None,
) -> LoadedCLIP:
    """Build an open_clip model and load its weights.

    Args:
        model: a name that open_clip knows, or a configuration in its JSON format: a dictionary or the path of a file;
            ``hf-hub:org/model`` or ``local-dir:folder`` (open_clip's), ``hf:org/model`` or ``hf:folder``
            (transformers').
        pretrained: a tag of that name, or the path of a checkpoint (safetensors, or a torch file of plain tensors).
        quick_gelu: activation x * sigmoid(1.702 x); ``None`` takes it from the tag, else from the configuration.
        tokenizer: prompts -> token ids; ``None`` takes the model's own.

    Raises: TeacherError, UnknownNameError.
    """
    if isinstance(model, str) and model.startswith((HUB, FOLDER, PREFIX)):
        if pretrained is not None:
            raise TeacherError(f"{model} brings its own weights: leave pretrained= out")
        if model.startswith(PREFIX):
            tower = hf_clip(model)
            return LoadedCLIP(tower.model, tokenizer or tower.tokenizer, tower.preprocess)
        model, pretrained = open_clip_files(model)
    if isinstance(model, str) and not model.endswith(".json"):
        model = model.replace("/", "-")  # OpenAI writes ViT-B/32
    config, preprocess, source = _config(model)
    label = repr(model) if source is None else "the given configuration"
    if pretrained is None:
        raise TeacherError(
            f"{label} has no weights yet: give pretrained= a tag ({_listed(_tags(model))}) or the path of a "
            "checkpoint; for random weights build the model with open_clip and give the model itself"
        )
    tag = _tag(model, str(pretrained)) if source is None else {}
    if tag:
        path = _download(str(model), str(pretrained), tag)
        preprocess |= {key: value for key, value in tag.items() if key in preprocess}
        config["quick_gelu"] = bool(tag.get("quick_gelu", False))
    else:
        path = _file(model, pretrained, source)
        if source is None:
            preprocess |= _shared_preprocess(str(model), preprocess)
            if quick_gelu is None and any(each.get("quick_gelu") for each in _tags(model).values()):
                log.warning(
                    "%s: some weights of this model need quick_gelu=True and a file does not say so; using %s",
                    model,
                    bool(config.get("quick_gelu", False)),
                )
    if quick_gelu is not None:
        config["quick_gelu"] = quick_gelu
    try:
        check_archive(path)
        check_size(lambda: _build(config, label), path)
        built = _build(config, label)
        _load(built, path, label)
    except CheckpointError as error:
        raise TeacherError(str(error)) from error
    return LoadedCLIP(built, tokenizer or build_tokenizer(model, config, source), preprocess)


def default_preprocess() -> dict[str, Any]:
    """OpenAI's preprocessing, which open_clip takes where nothing else is said."""
    from open_clip.transform import PreprocessCfg

    default = PreprocessCfg()
    keys = ("mean", "std", "interpolation", "resize_mode")
    return {"size": None, **{key: getattr(default, key) for key in keys}}


def _config(
    model: str | Path | Mapping[str, Any],
) -> tuple[dict[str, Any], dict[str, Any], Path | Mapping[str, Any] | None]:
    """Configuration, preprocessing, and where they come from (``None``: open_clip's own list)."""
    import open_clip

    preprocess = default_preprocess()
    if isinstance(model, str) and not model.endswith(".json"):
        found = open_clip.get_model_config(model) if model in open_clip.list_models() else None
        if found is None:
            raise unknown("open_clip model", model, open_clip.list_models())
        return found, preprocess, None
    if isinstance(model, Mapping):
        source: Path | Mapping[str, Any] = model
        data = deepcopy(dict(model))
    else:
        source = local_path(model)
        data = _read_json(source)
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


def _tags(model: object) -> dict[str, dict[str, Any]]:
    """The pretrained tags of a model name; open_clip keeps no public table of them."""
    import open_clip

    if not isinstance(model, str):
        return {}
    return {tag: open_clip.get_pretrained_cfg(model, tag) for tag in open_clip.list_pretrained_tags_by_model(model)}


def _tag(model: object, pretrained: str) -> dict[str, Any]:
    import open_clip

    found: dict[str, Any] = open_clip.get_pretrained_cfg(model, pretrained)
    return found


def _listed(tags: Mapping[str, Any]) -> str:
    return ", ".join(tags) or "it has none"


def _file(model: object, pretrained: str | Path, source: object) -> Path:
    """A local checkpoint, or the error that fits."""
    path = local_path(pretrained)
    if path.is_file():
        return path
    if path.is_dir():
        raise TeacherError(f"pretrained={str(pretrained)!r} is a folder: give the checkpoint file in it")
    if source is not None or isinstance(pretrained, Path) or path.suffix or len(path.parts) > 1:
        raise TeacherError(
            f"there is no file {str(pretrained)!r}: pretrained= takes the path of a checkpoint"
            + (f" or a tag of {model!r} ({_listed(_tags(model))})" if source is None else "")
        )
    raise unknown(f"pretrained tag of {model}", str(pretrained), list(_tags(model)))


def _shared_preprocess(model: str, known: Mapping[str, Any]) -> dict[str, Any]:
    """What all tags of a model agree on (SigLIP's mean and std, say), for a file of unknown origin."""
    tags = list(_tags(model).values())
    return {key: tags[0][key] for key in known if tags and all(key in t and t[key] == tags[0].get(key) for t in tags)}


def _download(model: str, pretrained: str, tag: Mapping[str, Any]) -> Path:
    import open_clip
    from open_clip.constants import HF_SAFE_WEIGHTS_NAME

    try:
        return Path(open_clip.download_pretrained(tag))
    except Exception as error:  # the network fails in many ways, and open_clip passes them all on
        repository, _, file = str(tag.get("hf_hub", "")).rpartition("/")
        hub = f"https://huggingface.co/{repository}/resolve/main/{file or HF_SAFE_WEIGHTS_NAME}"
        place = hub if repository else tag.get("url")  # OpenAI's own files are TorchScript: the hub first
        flag = ", quick_gelu=True" if tag.get("quick_gelu") else ""
        raise TeacherError(
            f"the weights {pretrained!r} of {model!r} are not on this machine and could not be downloaded: "
            f"{type(error).__name__}: {str(error)[:200]}. Where there is network, download {place}; "
            f"put the file anywhere on this machine and use CLIPTeacher({model!r}, pretrained='/path/to/file'{flag})"
        ) from error


def _build(config: dict[str, Any], label: str) -> nn.Module:
    """The model with random weights, of the class that open_clip would choose; single towers fetch no weights."""
    from open_clip import CLIP, CoCa, CustomTextCLIP

    config = deepcopy(config)
    for tower, flag in (("vision_cfg", "timm_model_pretrained"), ("text_cfg", "hf_model_pretrained")):
        config[tower][flag] = False
    custom = config.pop("custom_text", False) or "hf_model_name" in config["text_cfg"]
    kind = (CoCa if "multimodal_cfg" in config else CustomTextCLIP) if custom else CLIP
    try:
        model: nn.Module = kind(**config)
    except Exception as error:  # whatever a wrong option breaks in open_clip, timm or transformers
        raise TeacherError(f"open_clip cannot build {label}: {type(error).__name__}: {error}") from error
    return model


def _load(model: nn.Module, path: Path, label: str) -> None:
    import open_clip

    try:
        with TemporaryDirectory() as folder:
            open_clip.load_checkpoint(model, str(_plain(path, model, Path(folder))), strict=True, weights_only=True)
    except CheckpointError:
        raise
    except Exception as error:  # of another model
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:400]
        raise CheckpointError(f"the checkpoint {path} does not fit {label}: {reason}") from error


def _plain(path: Path, model: nn.Module, folder: Path) -> Path:
    """The file, or a copy of its weights under plain names where open_clip would not find them.

    open_clip converts the weights of many other projects, and does so by file only.
    """
    from safetensors.torch import save_file

    if path.suffix in (".npz", ".npy"):  # big_vision's
        return path
    held = read_file(path)
    found = named_as(model.state_dict(), weights_in(held, path))
    if found.keys() == held.keys():
        return path
    save_file({name: value.contiguous().clone() for name, value in found.items()}, folder / "plain.safetensors")
    return folder / "plain.safetensors"
