"""Names that a text tower can read: from a file, from folders, or ImageNet's for WordNet ids."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypeAlias

from graphkd.errors import DataError

ClassNames: TypeAlias = Sequence[str] | Mapping[str, str]
"""Names in the order of the labels, or a mapping from folder to name in that order."""

_WNID = re.compile(r"n\d{8}")
_CODE = re.compile(r"n\d{8}|\d+|(?=.*\d)[0-9a-f]{6,}|[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
_MAYBE_CODE = re.compile(r"[a-z]{1,5}[ _]?\d+", re.IGNORECASE)
_USE_A_FILE = "pass class names from a file with one line 'folder<TAB>name' for each folder (--classes names.txt)"


def read_class_names(path: str | Path) -> list[str] | dict[str, str]:
    """A file of class names: one a line in the order of the labels, or ``folder<TAB>name`` on every line.

    Raises: DataError for a missing file, other text than UTF-8, a blank line, a repeated name, or mixed forms.

    Example: a file of two lines, ``cat`` and ``polar bear``, gives ``["cat", "polar bear"]``
    """
    try:
        lines = Path(path).read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot read class names from {path}: expected a UTF-8 text file ({error})") from error
    rows = [[part.strip() for part in line.split("\t")] for line in lines]
    bad = [number for number, row in enumerate(rows, 1) if not all(row) or len(row) != len(rows[0])]
    if not rows or bad or len(rows[0]) > 2:
        found = f"line {bad[0]}: {lines[bad[0] - 1]!r}" if bad else "no such line"
        raise DataError(f"{path}: expected one class name a line, or 'folder<TAB>name' on every line; found {found}")
    for column in zip(*rows, strict=True):
        _refuse_repeated(column, str(path))
    return [name for (name,) in rows] if len(rows[0]) == 1 else dict(rows)


def name_folders(folders: Sequence[str], names: ClassNames | None = None) -> dict[str, str]:
    """The class name of each folder, in the order of the labels.

    Without names: ImageNet's for WordNet ids, else the folder's own with spaces for underscores and hyphens, sorted.
    With names: their order, and each must be the name of one folder (case, underscores and hyphens do not count).

    Args:
        folders: class folders.
        names: names in the order of the labels, or a mapping from folder to name.

    Raises: DataError if folders look like codes and have no names, or where names and folders differ.

    Example: ``name_folders(["polar_bear", "cat"])`` is ``{"cat": "cat", "polar_bear": "polar bear"}``
    """
    if names is None:
        return _own_names(sorted(folders))
    if isinstance(names, Mapping):
        _compare(list(names), folders, list(folders))
        return dict(names)
    by_key = {_key(folder): folder for folder in folders}
    _refuse_repeated([_key(name) for name in names], "class names")
    _refuse_repeated([_key(folder) for folder in folders], "folders")
    _compare([_key(name) for name in names], list(by_key), list(folders), list(names))
    return {by_key[_key(name)]: name for name in names}


def prompt_name(folder: str) -> str:
    """A folder's name as one writes it in a sentence: ``polar_bear`` becomes ``polar bear``."""
    return " ".join(re.sub(r"[_-]", " ", folder).split())


def imagenet_names() -> dict[str, str]:
    """ImageNet-1k's WordNet ids, sorted, and the class names that OpenAI curated for CLIP."""
    from open_clip import IMAGENET_CLASSNAMES
    from timm.data.imagenet_info import ImageNetInfo

    info: Any = ImageNetInfo("imagenet-1k")
    return dict(zip(info.label_names(), IMAGENET_CLASSNAMES, strict=True))


def _own_names(folders: Sequence[str]) -> dict[str, str]:
    if any(map(_WNID.fullmatch, folders)):
        known = imagenet_names()
        named = {folder: known[folder] for folder in folders if folder in known}
        strangers = [folder for folder in folders if _WNID.fullmatch(folder) and folder not in named]
        if strangers:
            raise DataError(f"WordNet ids that are not in ImageNet-1k: {_some(strangers)}: {_USE_A_FILE}")
    else:
        named = {}
    rest = [folder for folder in folders if folder not in named]
    codes = [folder for folder in rest if _CODE.fullmatch(folder)]
    # one "B52" is a name, a folder full of such is a list of codes
    maybe = [folder for folder in rest if _MAYBE_CODE.fullmatch(folder)]
    if codes or 2 * len(maybe) > len(folders):
        raise DataError(
            f"class folders look like codes, not names a text tower can read: {_some(codes or maybe)}: {_USE_A_FILE}"
        )
    _refuse_repeated([_key(folder) for folder in rest], "folders")
    return {folder: named.get(folder) or prompt_name(folder) for folder in folders}


def _compare(keys: list[str], found: Sequence[str], folders: list[str], names: list[str] | None = None) -> None:
    """Raise unless both hold the same keys; ``names`` and ``folders`` are how the message writes them."""
    without_folder = [name for key, name in zip(keys, names or keys, strict=True) if key not in set(found)]
    without_name = [folder for key, folder in zip(found, folders, strict=True) if key not in set(keys)]
    if not (without_folder or without_name):
        return
    near = [get_close_matches(name, without_name, n=1) for name in without_folder]
    hints = [f"{name!r} is near {match[0]!r}" for name, match in zip(without_folder, near, strict=True) if match]
    raise DataError(
        f"class names and class folders differ. Names without a folder: {_some(without_folder)}; "
        f"folders without a name: {_some(without_name)}."
        + (f" Did you mean: {'; '.join(hints[:5])}?" if hints else "")
        + " Each line is the name of one folder, or 'folder<TAB>name'."
    )


def _refuse_repeated(values: Iterable[str], where: str) -> None:
    repeated = [value for value, count in Counter(values).items() if count > 1]
    if repeated:
        raise DataError(f"{where}: classes need different names, found more than once: {_some(repeated)}")


def _key(name: str) -> str:
    return prompt_name(name).casefold()


def _some(values: Sequence[str], most: int = 8) -> str:
    listed = ", ".join(repr(value) for value in values[:most])
    return (listed or "none") + (f" and {len(values) - most} more" if len(values) > most else "")
