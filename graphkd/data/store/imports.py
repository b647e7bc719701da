"""Vectors of other programs as a store."""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch.nn.functional import normalize

from graphkd.data.fingerprint import canonical, data_fingerprint, order_fingerprint
from graphkd.data.store.embed import usual_shard
from graphkd.data.store.format import IMPORTED, MANIFEST, Array, Manifest, check_dtype, check_shards, row_bytes
from graphkd.data.store.read import EmbeddingStore
from graphkd.data.store.vectors import Vectors
from graphkd.data.store.write import Share, StoreWriter, one_store_writer
from graphkd.errors import DataError, OptionError, StoreError
from graphkd.features import Features
from graphkd.files import local_path, remove
from graphkd.text import open_regular
from graphkd.typing import Tensor


@dataclass(frozen=True)
class _Names:
    """Names of vectors; of the images behind them no size is known."""

    ids: Sequence[str]
    sizes: Sequence[int]  # 0 for each: not known


def _named(vectors: Vectors) -> _Names:
    return _Names(vectors.ids, [0] * len(vectors.ids))


def import_vectors(
    vectors: Vectors, path: str | Path, *, dtype: str | None = None, logit_scale: float = 100.0
) -> EmbeddingStore:
    r"""A store of another program's vectors, which stands in for the teacher that made them.

    Class scores are taken as they come; where there are only proxies T, they are CLIP's:

    .. math:: z_i = s\, u(x_i)\, u(T)^\top, \quad \text{proxy\_logits} = s\, u(T)\, u(T)^\top

    with u the scaling to unit length. An interrupted import goes on at the same call; one that fails leaves nothing.

    Paper: Radford et al., "Learning Transferable Visual Models From Natural Language Supervision", ICML 2021, fig. 3.

    Args:
        vectors: as of :func:`graphkd.data.store.vectors.open_vectors`.
        path: folder of the store; made if it is absent.
        dtype: on disk; default that of the vectors. See :func:`graphkd.data.store.embed.embed`.
        logit_scale: s, > 0; CLIP's networks were trained up to 100.

    Raises: StoreError for vectors that are not finite (names listed), for other widths than the first has, and for a
        folder that holds something else; DataError for a damaged file; LockedError, FileError.
    Example: ``import_vectors(open_vectors("embeddings.npy", names="names.txt"), "features")``
    """
    if not 0 < logit_scale < float("inf"):
        raise OptionError(f"logit_scale is a finite number > 0, found {logit_scale}")
    folder, plan = local_path(path), _plan(vectors, dtype or vectors.dtype, logit_scale)
    with one_store_writer(folder, Share()):
        new = not (folder / MANIFEST).exists()
        writer = StoreWriter(folder, plan)
        try:
            _fill(writer, vectors, logit_scale)
            writer.finish()
        except (DataError, StoreError):
            if new:
                remove(folder)
            raise
    return EmbeddingStore(folder)


def _plan(vectors: Vectors, dtype: str, logit_scale: float) -> Manifest:
    """What the store is made of: files by name and digest, wherever they lie."""
    check_dtype(dtype)
    names = _named(vectors)
    longest = max(row_bytes(name, 0) for name in vectors.ids)
    files = canonical([[path.name, _digest(path)] for path in vectors.files])
    plan = Manifest(
        dtype=dtype,
        samples=len(vectors.ids),
        shard_size=usual_shard(len(vectors.ids), longest),
        embedding_dim=vectors.widths["embedding"],
        num_classes=vectors.num_classes,
        classes=None if vectors.classes is None else list(vectors.classes),
        data=data_fingerprint(names),
        order=order_fingerprint(names.ids),
        teacher={"kind": IMPORTED, "form": vectors.form, "files": files}
        | ({"logit_scale": str(logit_scale)} if "proxies" in vectors.shared else {}),
        transform=canonical({"name": IMPORTED}),
    )
    check_shards(plan, longest)
    return plan


def _digest(path: Path) -> str:
    with open_regular(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _fill(writer: StoreWriter, vectors: Vectors, logit_scale: float) -> None:
    """Write what is absent: shards, and what all vectors share."""
    plan, todo, names = writer.plan, {*writer.todo()}, _named(vectors)
    if not todo and not writer.needs_shared():
        return
    shared = {name: torch.tensor(each, dtype=torch.float32) for name, each in vectors.shared.items()}
    for number, portion in enumerate(_portions(vectors.blocks(), [len(plan.span(k)) for k in range(plan.count)])):
        rows, at = [], plan.span(number).start
        for block in portion if number in todo or writer.needs_shared() else ():
            features = _features(block, shared, logit_scale)
            writer.share(features)
            rows.append(writer.rows(features, vectors.ids[at : at + len(features)]))
            at += len(features)
        if number in todo:
            writer.shard(number, rows, names, [""] * len(plan.span(number)))


def _portions(blocks: Iterator[dict[str, Array]], sizes: Iterable[int]) -> Iterator[list[dict[str, Array]]]:
    """Blocks cut so that each portion has the rows of a shard."""
    left: dict[str, Array] = {}
    for size in sizes:
        portion = []
        while size:
            block = left or next(blocks)
            part = {name: each[:size] for name, each in block.items()}
            count = len(part["embedding"])
            left = {name: each[size:] for name, each in block.items()} if count < len(block["embedding"]) else {}
            portion += [part] if count else []
            size -= count
        yield portion


def _features(block: dict[str, Array], shared: dict[str, Tensor], scale: float) -> Features:
    """What a teacher would have said."""
    embedding, proxies = torch.tensor(block["embedding"]), shared.get("proxies")
    logits = torch.tensor(block["logits"]) if "logits" in block else None
    if proxies is None:
        return Features(embedding.float(), logits, None, shared.get("proxy_logits"))
    texts = normalize(proxies)
    if logits is None and embedding.shape[1] == proxies.shape[1]:  # else the writer refuses the width
        logits = scale * normalize(embedding.float()) @ texts.T
    return Features(embedding.float(), logits, proxies, shared.get("proxy_logits", scale * texts @ texts.T))
