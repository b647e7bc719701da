"""Prompt templates, class names, and the text embeddings of all prompts, cached on disk by template."""

import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch

from graphkd.errors import DataError, OptionError
from graphkd.files import local_path, write_file
from graphkd.models.installed import imagenet_names as imagenet_names
from graphkd.registry import Registry
from graphkd.teachers.base import json_digest, tensor_digest
from graphkd.typing import Float, Tensor

log = logging.getLogger("graphkd")
_ENTRY = "text"
TEMPLATES: Registry[Callable[[], Sequence[str]]] = Registry("template set")

_CIFAR_STYLES = ("", "blurry ", "black and white ", "low contrast ", "high contrast ", "bad ", "good ")


@TEMPLATES.register
def imagenet() -> Sequence[str]:
    """The 80 templates of OpenAI's ImageNet notebook, from open_clip."""
    from open_clip import OPENAI_IMAGENET_TEMPLATES

    return [template("{}") for template in OPENAI_IMAGENET_TEMPLATES]


@TEMPLATES.register
def cifar() -> Sequence[str]:
    """The 18 templates that OpenAI lists for CIFAR-10 and CIFAR-100."""
    pictures = [*((style, "") for style in _CIFAR_STYLES), ("", "small "), ("", "big ")]
    return [f"a {style}photo of {article} {size}{{}}." for article in ("a", "the") for style, size in pictures]


@TEMPLATES.register
def photo() -> Sequence[str]:
    """One template."""
    return ["a photo of a {}."]


def resolve_templates(templates: str | Sequence[str]) -> tuple[str, ...]:
    """Template texts, each with one ``{}`` for the class name.

    Args:
        templates: name of a set (``"imagenet"``, ``"cifar"``, ``"photo"``), one template, or a list of templates.

    Raises: UnknownNameError with a suggestion and the list; OptionError for a template without exactly one ``{}``.
    Example: ``resolve_templates("a sketch of a {}.")`` is ``("a sketch of a {}.",)``.
    """
    if isinstance(templates, str):
        found = (templates,) if "{}" in templates else tuple(TEMPLATES.get(templates)())
    else:
        found = tuple(templates)
    if not found:
        raise OptionError(
            "expected at least one prompt template, found none: use templates='photo' or ['a photo of a {}.']"
        )
    for template in found:
        if not isinstance(template, str) or template.count("{}") != 1:
            raise OptionError(
                f"prompt template {template!r} must contain {{}} exactly once, where the class name goes, "
                "as in 'a photo of a {}.'"
            )
    return found


def fill(template: str, classes: Sequence[str]) -> list[str]:
    """The prompt of every class; braces in a class name are left as they are."""
    return [template.replace("{}", name) for name in classes]


def resolve_classes(classes: Sequence[str] | Mapping[str, str]) -> tuple[str, ...]:
    """Class names as a tuple; of a mapping from id to name, the names. Two classes may share one.

    Raises: DataError for one text instead of a list, for an empty list and for a name that is empty or no text.
    """
    if isinstance(classes, str):
        raise DataError(f"expected a list of class names, found the text {classes!r}: write classes=[{classes!r}, ...]")
    names = tuple(classes.values() if isinstance(classes, Mapping) else classes)
    if not names:
        raise DataError("expected at least one class name, found none")
    for index, name in enumerate(names):
        if not isinstance(name, str) or not name.strip():
            raise DataError(f"class name {index} is {name!r}: every class needs a name, as prompts are made of it")
    return names


class TextCache:
    """Embeddings of one text tower and one list of classes: a folder with a safetensors file per template.

    Each file carries the SHA-256 of its tensor, so that a damaged file is found and computed again. A killed run loses
    one template.

    Args:
        root: folder of all caches; this one is a folder in it, named by the digest of ``facts`` and ``classes``.
        facts: what determines a text embedding besides the prompt, JSON-ready.
        classes: class names, in order.
    """

    def __init__(self, root: str | Path, facts: Mapping[str, str], classes: Sequence[str]) -> None:
        self.classes = tuple(classes)
        self.folder = local_path(root) / json_digest([dict(facts), self.classes])[:16]

    def read(self, template: str) -> Float[Tensor, "c d"] | None:
        """The embeddings of a template, or ``None`` if they are absent or damaged (one log line)."""
        from safetensors import SafetensorError, safe_open

        path = self.path(template)
        if not path.exists():
            return None
        try:
            with safe_open(path, framework="pt") as file:
                texts: Tensor = file.get_tensor(_ENTRY)
                digest = (file.metadata() or {}).get("sha256")
            if texts.ndim != 2 or len(texts) != len(self.classes) or digest != tensor_digest([(_ENTRY, texts)]):
                raise OSError("its content does not have the digest that was stored with it")
        except (SafetensorError, OSError) as error:
            log.warning("text cache: %s is damaged (%s) and is made again", path, error)
            return None
        return texts

    def write(self, template: str, texts: Float[Tensor, "c d"]) -> None:
        """Keep the embeddings of a template."""
        from safetensors.torch import save

        digest = {"sha256": tensor_digest([(_ENTRY, texts)])}
        write_file(self.path(template), save({_ENTRY: texts.contiguous()}, metadata=digest))

    def path(self, template: str) -> Path:
        """The file of a template."""
        return self.folder / f"{json_digest(template)[:16]}.safetensors"


def text_bank(
    templates: Sequence[str],
    classes: Sequence[str],
    encode: Callable[[list[str]], Float[Tensor, "c d"]],
    *,
    dtype: torch.dtype = torch.float32,
    cache: TextCache | None = None,
) -> Float[Tensor, "p c d"]:
    """Embeddings of every prompt, from the cache where it has them.

    Args:
        templates: p templates with ``{}``.
        classes: c class names.
        encode: prompts -> embeddings of unit length, float32 on the CPU; called once per missing template.
        dtype: of the bank in memory (80 x 1000 x 768: 246 MB in float32, 123 MB in float16). Files are float32.
        cache: where to keep them, or ``None``.

    Shapes: -> (p, c, d) on the CPU.
    """
    from tqdm.auto import tqdm

    bank: Tensor | None = None
    bar = tqdm(templates, desc="text embeddings", unit="template", disable=None)  # on a terminal only
    for index, template in enumerate(bar):
        texts = None if cache is None else cache.read(template)
        if texts is None:
            texts = encode(fill(template, classes))
            if cache is not None:
                cache.write(template, texts)
        if bank is None:
            bank = torch.empty(len(templates), *texts.shape, dtype=dtype)
        bank[index] = texts
    assert bank is not None  # templates are checked to be non-empty
    return bank
