"""The tokenizer of an open_clip model; what a configuration file says of it never runs code of its own."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from graphkd.errors import TeacherError
from graphkd.typing import Int, Tensor

Tokenizer = Callable[[list[str]], Int[Tensor, "c n"]]


def build_tokenizer(model: object, config: Mapping[str, Any], source: object) -> Tokenizer:
    """The model's own tokenizer.

    Args:
        model: its name, for open_clip's own models.
        config: open_clip's configuration of the model.
        source: where the configuration comes from: a file, a dictionary, or ``None`` for open_clip's list.

    Raises: TeacherError where it is not available, or would run code that comes with it.
    """
    import open_clip
    from open_clip.tokenizer import HFTokenizer

    text = config["text_cfg"]
    name = text.get("hf_tokenizer_name")
    try:
        if source is None:
            found: Tokenizer = open_clip.get_tokenizer(model)
        elif name:
            beside = isinstance(source, Path) and (source.parent / "tokenizer_config.json").is_file()
            found = HFTokenizer(
                str(source.parent) if beside and isinstance(source, Path) else name,
                context_length=text.get("context_length"),
                tokenizer_mode=text.get("tokenizer_mode"),
                **tokenizer_options(text),
            )
        else:
            found = open_clip.SimpleTokenizer(context_length=text.get("context_length", 77))
    except TeacherError:
        raise
    except Exception as error:  # transformers missing, no network, or no such tokenizer
        raise TeacherError(
            f"the tokenizer {name or model!r} is not available: {type(error).__name__}: {str(error)[:200]}. Download "
            "its files where there is network and point text_cfg.hf_tokenizer_name at their folder, or give tokenizer="
        ) from error
    return found


def tokenizer_options(text: Mapping[str, Any]) -> dict[str, Any]:
    """Keyword arguments of a Hugging Face tokenizer out of a configuration, with its own code switched off.

    Raises: TeacherError where the configuration asks for code of its own to be run.
    """
    options = dict(text.get("tokenizer_kwargs") or {})
    if options.pop("trust_remote_code", False):
        raise TeacherError(
            "the model configuration asks for trust_remote_code=True, which runs code that comes with the tokenizer: "
            "remove it, or build the tokenizer yourself and give tokenizer="
        )
    return {**options, "trust_remote_code": False}
