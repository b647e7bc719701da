"""What a store was made of, as short texts that can be compared key by key."""

import hashlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from graphkd.data.sources import ImageSource, Named
from graphkd.errors import DataError, StoreError

if TYPE_CHECKING:  # it loads torch, and a folder is read without
    from graphkd.data.transforms import Transform

_SAMPLED = 1024  # samples whose content is read
_DIGEST, _DIGEST_OR_NONE = re.compile(r"[0-9a-f]{64}"), re.compile(r"[0-9a-f]{64}|None|absent")
_MEANT = {  # what the digests of a fingerprint stand for
    "prompts": "prompts",
    "tokens": "tokens of the class names",
    "weights": "weights of the teacher",
    "structure": "layers of the teacher",
    "names": "names or sizes of the images",
    "order": "orders of the images",
    "content": "contents of the images",
    "classes": "class names",
    "labels": "labels",
}
_SHOWN = 60  # characters of a text that a message shows


def canonical(value: Any) -> str:
    """JSON with sorted keys and no spaces, in ASCII: equal values give equal text.

    Raises: StoreError for a value that JSON cannot hold.
    """
    try:
        return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    except (TypeError, ValueError) as error:
        raise StoreError(f"a fingerprint is made of JSON-ready data: {error}") from error


def digest(data: Any) -> str:
    """SHA-256 as hex: of bytes, of a contiguous array, or of a text's UTF-8."""
    return hashlib.sha256(data.encode() if isinstance(data, str) else data).hexdigest()


def data_fingerprint(source: Named) -> str:
    """Hash of the sorted (id, size): which samples there are, in whatever order, without reading one."""
    return digest(canonical(sorted(zip(source.ids, source.sizes, strict=True))))


def order_fingerprint(ids: Sequence[str]) -> str:
    """Hash of the ids as they stand: which position means which sample."""
    return digest(canonical(list(ids)))


def content_fingerprint(source: ImageSource) -> str:
    """Hash of the bytes of samples spread evenly over a source: of all of them, where it has no more than 1,024.

    It costs the reading of so many files. Where a share p of a larger source was replaced, it is missed with
    probability (1 - p)^1024: a hundredth with 3e-5.
    """
    count = min(len(source), _SAMPLED)
    return digest(canonical([_readable(source.content_hash, at * len(source) // count) for at in range(count)]))


def name_fingerprint(classes: Sequence[str] | None) -> str | None:
    """Hash of class names in the order of the labels, and of their ids where they have some; ``None`` without names."""
    return None if classes is None else digest(canonical([[*map(str, classes)], getattr(classes, "ids", None)]))


def label_fingerprint(source: ImageSource) -> str:
    """Hash of the labels of all samples."""
    labels = (_readable(source.target, at) for at in range(len(source)))
    return digest(canonical([None if label is None else int(label) for label in labels]))


def time_fingerprint(source: ImageSource | None) -> str | None:
    """Hash of the times at which a source's files were last written; ``None`` for one that knows of no files."""
    written = getattr(source, "written", None)
    return (
        None
        if source is None or written is None
        else digest(canonical([_readable(written, at) for at in range(len(source))]))
    )


def _readable(ask: Callable[[int], Any], index: int) -> Any:
    """What a source says of a sample; of one that cannot be read it is the training that tells."""
    try:
        return ask(index)
    except (OSError, DataError):
        return None


def transform_fingerprint(transform: "Transform") -> str:
    """The transform's specification as canonical JSON."""
    return canonical(transform.spec)


def class_terms(classes: Sequence[str] | None) -> dict[str, str]:
    """Class names as a comparable text."""
    return {} if classes is None else {"class names": canonical(list(classes))}


def differences(made: Mapping[str, str], asked: Mapping[str, str]) -> list[str]:
    """One sentence for each key on which a store and a run differ.

    Args:
        made: what the store was made with.
        asked: what this run asks for.

    Example: ``differences({"prompts": "a"}, {"prompts": "b"})`` is
    ``["the store was made with prompts 'a', this run asks 'b'"]``.
    """
    found = []
    for key in sorted({*made, *asked}):
        old, new = made.get(key), asked.get(key)
        if old != new:
            if other := spoken(key, old, new):
                found.append(f"the {other} differ from those of the store")
                continue
            start = _first_difference(old or "", new or "")
            found.append(f"the store was made with {key} {_shown(old, start)}, this run asks {_shown(new, start)}")
    return found


def spoken(key: str, *values: object) -> str:
    """What digests of that name stand for, in words; nothing for values that can be shown themselves.

    Example: ``spoken("teacher_fingerprint/prompts", digest("a"), digest("b"))`` is ``"prompts"``
    """
    texts = [str(value) for value in values]
    if not any(map(_DIGEST.fullmatch, texts)) or not all(map(_DIGEST_OR_NONE.fullmatch, texts)):
        return ""
    name = key.rpartition("/")[2]
    return _MEANT.get(name, f"{name} (by their digests)")


def _first_difference(a: str, b: str) -> int:
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))


def _shown(text: str | None, start: int) -> str:
    """A text for a message; of a long one, the part around its first difference."""
    if text is None:
        return "(none)"
    if len(text) <= _SHOWN:
        return repr(text)
    begin = max(0, min(start - _SHOWN // 3, len(text) - _SHOWN))
    return f"{'...' * (begin > 0)}{text[begin : begin + _SHOWN]!r}{'...' * (begin + _SHOWN < len(text))}"


def some(names: Sequence[str]) -> str:
    """A count and the first few names, for a message."""
    return f"{len(names)} ({', '.join(names[:3])}{', ...' if len(names) > 3 else ''})"
