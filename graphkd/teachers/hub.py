"""CLIP-like models that lie in one place with all that belongs to them: files of open_clip, or of transformers."""

from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

from torch import nn

from graphkd.errors import TapError, TeacherError
from graphkd.files import local_path
from graphkd.models.huggingface import PREFIX, hf_build, hf_config, hf_preprocessing
from graphkd.teachers.tokenizers import Tokenizer
from graphkd.typing import Float, Int, Tensor

HUB, FOLDER = "hf-hub:", "local-dir:"  # open_clip's own words
KINDS = ("clip", "siglip")  # model types of transformers whose towers are asked alike
_CONFIG = "open_clip_config.json"
_WEIGHTS = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")


class Files(NamedTuple):
    """Configuration and weights of an open_clip model."""

    config: Path
    weights: Path


def open_clip_files(name: str) -> Files:
    """The files of ``"hf-hub:org/model"`` or ``"local-dir:folder"``.

    Raises: TeacherError where they are missing or cannot be downloaded.
    """
    if name.startswith(FOLDER):
        folder = local_path(name.removeprefix(FOLDER))
        weights = [folder / each for each in _WEIGHTS if (folder / each).is_file()]
        others = sorted(folder.glob("*.safetensors"))
        if not (folder / _CONFIG).is_file() or not (weights or len(others) == 1):
            raise TeacherError(
                f"{name} needs {_CONFIG} and {' or '.join(_WEIGHTS)} in one folder, found "
                f"{', '.join(sorted(each.name for each in folder.glob('*'))[:8]) or 'nothing'}: download both files"
            )
        return Files(folder / _CONFIG, (weights or others)[0])
    repository = name.removeprefix(HUB)
    return Files(_downloaded(repository, _CONFIG), _downloaded(repository, *_WEIGHTS))


def _downloaded(repository: str, *names: str) -> Path:
    """The first of these files that the repository has."""
    hub: Any = import_module("huggingface_hub")
    error: Exception | None = None
    for name in names:
        try:
            return Path(hub.hf_hub_download(repository, name))
        except Exception as problem:  # the network fails in many ways
            error = problem
    raise TeacherError(
        f"{' or '.join(names)} of {HUB}{repository} is not on this machine and could not be downloaded: "
        f"{type(error).__name__}: {str(error)[:200]}. Where there is network, download {_CONFIG} and "
        f"{_WEIGHTS[0]} of https://huggingface.co/{repository} into one folder and give {FOLDER}folder"
    ) from error


class TwoTowers(nn.Module):
    """CLIP or SigLIP of transformers, asked as open_clip's models are.

    Args:
        model: a ``CLIPModel`` or ``SiglipModel``.

    Shapes: images (b, 3, h, w), token ids (n, length) -> (b, d), (n, d).
    Raises: TeacherError for a model without both towers.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        if not hasattr(model, "get_image_features") or not hasattr(model, "get_text_features"):
            raise TeacherError(f"{type(model).__name__} has no image and text towers: expected a CLIP or SigLIP model")
        self.model: Any = model

    @property
    def logit_scale(self) -> Tensor:
        """Logarithm of the factor of the logits."""
        scale: Tensor = self.model.logit_scale
        return scale

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
    found: Tensor = output if isinstance(output, Tensor) else output.pooler_output
    return found


class HFTower(NamedTuple):
    """A CLIP-like model of transformers with its tokenizer and preprocessing."""

    model: nn.Module
    tokenizer: Tokenizer
    preprocess: dict[str, Any]


def hf_clip(name: str) -> HFTower:
    """The CLIP-like model ``"hf:openai/clip-vit-base-patch32"``, from the hub or a folder.

    Raises: TeacherError where it cannot be had or is of another kind.
    """
    try:
        config = hf_config(name)
        if config.model_type not in KINDS:
            raise TeacherError(
                f"{name} is a model of type {config.model_type!r}, expected one of {', '.join(KINDS)}: use "
                "hf_teacher(name) for a classifier"
            )
        transformers: Any = import_module("transformers")
        bare = name.removeprefix(PREFIX)
        model = hf_build(name, "AutoModel", config)
        tokenize = transformers.AutoTokenizer.from_pretrained(bare, trust_remote_code=False)
        said = hf_preprocessing(name)
    except (TapError, TeacherError) as error:
        raise TeacherError(str(error)) from error
    except (OSError, ValueError, ImportError, RuntimeError) as error:
        raise TeacherError(
            f"{name} cannot be loaded ({type(error).__name__}: {' '.join(str(error).split())[:300]}): give a folder "
            "with model, tokenizer and image processor as save_pretrained writes them"
        ) from error
    length = int(config.text_config.max_position_embeddings)

    def tokenizer(prompts: list[str]) -> Int[Tensor, "n l"]:
        options = {"padding": "max_length", "truncation": True, "max_length": length, "return_tensors": "pt"}
        ids: Tensor = tokenize(prompts, **options)["input_ids"]
        return ids

    size = said.get("input_size", (3, config.vision_config.image_size, config.vision_config.image_size))[1:]
    keys = ("mean", "std", "interpolation", "resize_mode")
    return HFTower(TwoTowers(model), tokenizer, {"size": size, **{key: said[key] for key in keys}})


def is_clip(name: str) -> bool:
    """Whether a name of transformers is a CLIP-like model. Raises: TapError where its configuration cannot be had."""
    return hf_config(name).model_type in KINDS
