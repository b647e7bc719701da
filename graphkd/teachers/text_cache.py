"""Text embeddings of every template and class, on disk template by template: a killed run loses one template."""

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import torch

from graphkd.files import local_path, write_file, write_json
from graphkd.teachers.digests import json_digest, tensor_digest
from graphkd.teachers.templates import fill
from graphkd.text import read_json
from graphkd.typing import Float, Tensor

log = logging.getLogger("graphkd")
_ENTRY = "text"


class TextCache:
    """Embeddings of one text tower and one list of classes: a folder with a safetensors file per template.

    Each file carries the SHA-256 of its own tensor, so that a damaged one is found and computed again;
    ``manifest.json`` says what the folder belongs to.

    Args:
        root: folder of all caches; this one is a folder in it, named by the digest of ``facts`` and ``classes``.
        facts: what determines a text embedding besides the prompt, JSON-ready.
        classes: class names, in order.
    """

    def __init__(self, root: str | Path, facts: Mapping[str, str], classes: Sequence[str]) -> None:
        self.classes = tuple(classes)
        self.folder = local_path(root) / json_digest([dict(facts), self.classes])[:16]
        self.folder.mkdir(parents=True, exist_ok=True)
        self._owner = {"format": 1, "facts": dict(facts), "classes": list(self.classes)}

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
        except (SafetensorError, OSError) as error:
            self._damaged(path, str(error))
            return None
        if texts.ndim != 2 or len(texts) != len(self.classes) or digest != tensor_digest([(_ENTRY, texts)]):
            self._damaged(path, "its content does not have the digest that was stored with it")
            return None
        return texts

    def write(self, template: str, texts: Float[Tensor, "c d"]) -> None:
        """Keep the embeddings of a template."""
        from safetensors.torch import save

        metadata = {"template": template, "sha256": tensor_digest([(_ENTRY, texts)])}
        write_file(self.path(template), save({_ENTRY: texts.contiguous()}, metadata=metadata))

    def write_manifest(self, templates: Iterable[str]) -> None:
        """Say what the folder belongs to and which file holds which template."""
        files = {self.path(template).name: template for template in templates}
        path = self.folder / "manifest.json"
        if path.exists():
            try:
                files = {**read_json(path)["files"], **files}
            except (OSError, ValueError, KeyError, TypeError):
                self._damaged(path, "it is not the JSON that was written")
        write_json(path, {**self._owner, "files": files})

    def path(self, template: str) -> Path:
        """The file of a template."""
        return self.folder / f"{json_digest(template)[:16]}.safetensors"

    def _damaged(self, path: Path, reason: str) -> None:
        log.warning("text cache: %s is damaged (%s) and is made again", path, reason)


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
    if cache is not None:
        cache.write_manifest(templates)
    bank: Tensor | None = None
    for index, template in enumerate(_progress(templates)):
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


def _progress(templates: Sequence[str]) -> Iterable[str]:
    """A progress bar on a terminal, where tqdm is installed."""
    try:
        from tqdm.auto import tqdm
    except ImportError:
        return templates
    bar: Iterable[str] = tqdm(templates, desc="text embeddings", unit="template", disable=None)
    return bar
