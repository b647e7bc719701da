"""Class names that a text tower can read, and the ids that tell classes apart: folders, or WordNet ids."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import TypeAlias

from graphkd.errors import DataError
from graphkd.files import local_path
from graphkd.models.installed import imagenet_names
from graphkd.text import look_alikes, read_text

ClassNames: TypeAlias = Sequence[str] | Mapping[str, str]
"""Names in the order of the labels, or a mapping from id (such as the folder) to name in that order."""

WORDNET_ID = re.compile(r"n\d{8}")
_CODE = re.compile(r"n\d{8}|\d+|(?=.*\d)[0-9a-f]{6,}|[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
_MAYBE_CODE = re.compile(r"[a-z]{1,5}[ _]?\d+", re.IGNORECASE)
_NOT_UTF8 = re.compile("[\ud800-\udfff]")  # how Python keeps the bytes of a file name that it cannot decode
_USE_A_FILE = "pass class names from a file with one line 'folder<TAB>name' for each folder (--classes names.txt)"
_HINTS = 5  # unknown folders for which the nearest name is looked up: each costs a pass over all names


class Classes(list[str]):
    """Class names in the order of the labels, and the id of each class.

    It is the list of its names, and goes wherever such a list goes. Two classes may share a name (ImageNet has two
    kinds of sunglasses) if their ids differ.

    Args:
        names: names, or a mapping from id to name.

    Attributes:
        ids: one a label, such as its folder; ``None`` where only the names are known.

    Example: ``Classes({"n04355933": "sunglasses", "n04356056": "sunglasses"}).ids``
    """

    def __init__(self, names: ClassNames) -> None:
        super().__init__(names.values() if isinstance(names, Mapping) else names)
        self.ids: tuple[str, ...] | None = tuple(names) if isinstance(names, Mapping) else getattr(names, "ids", None)

    def to_json(self) -> list[str] | dict[str, str]:
        """What ``Classes(...)`` takes again: a mapping from id to name, or the names alone."""
        return list(self) if self.ids is None else dict(zip(self.ids, self, strict=True))

    @property
    def distinct(self) -> list[str]:
        """The names, each followed by its id where several classes share it."""
        count, ids = Counter(self), self.ids or [f"class {label}" for label in range(len(self))]
        return [f"{name} ({key})" if count[name] > 1 else name for name, key in zip(self, ids, strict=True)]

    def labels(self, folders: Iterable[str], called: Mapping[str, str] | None = None) -> dict[str, int]:
        """The label of each folder, see :meth:`fitting`.

        Args:
            folders: each another class.
            called: folder -> name, where the folder itself is neither an id nor a name.

        Raises: DataError for a folder that fits no class, or several; for two folders of one class; for classes of one
            name without ids.
        """
        _refuse_repeated(self.ids or self, "class names without ids")
        fits = self.fitting(folders, called)
        strangers = [folder for folder, labels in fits.items() if not labels]
        if strangers:
            self._refuse(strangers, set().union(*fits.values()))
        for folder, labels in fits.items():
            if len(labels) > 1:
                ids = [(self.ids or self)[label] for label in sorted(labels)]
                raise DataError(f"the folder {folder!r} fits several classes: name it as one of {_some(ids)}")
        found = {folder: min(labels) for folder, labels in fits.items()}
        count = Counter(found.values())
        same = [folder for folder, label in found.items() if count[label] > 1]
        if same:
            raise DataError(f"several folders fit one class: {_some(same)}: put the images of a class into one folder")
        return found

    def fitting(self, texts: Iterable[str], called: Mapping[str, str] | None = None) -> dict[str, set[int]]:
        """The labels of the classes that each text may mean: the one of that id, else those of that name.

        Case, underscores and hyphens of names do not count. A WordNet id also means the name that ImageNet gives it.
        """
        texts = list(texts)
        exact: dict[str, set[int]] = {}
        alike: dict[str, set[int]] = {}
        for label, (key, name) in enumerate(zip(self.ids or self, self, strict=True)):
            exact.setdefault(key, set()).add(label)
            alike.setdefault(_key(key), set()).add(label)
            alike.setdefault(_key(name), set()).add(label)
        rest = [text for text in texts if text not in exact]
        known = {**(imagenet_names() if any(map(WORDNET_ID.fullmatch, rest)) else {}), **(called or {})}
        for text in rest:
            exact[text] = alike.get(_key(text)) or alike.get(_key(known.get(text, text)), set())
        return {text: exact[text] for text in texts}

    def _refuse(self, strangers: list[str], found: set[int]) -> None:
        """Raise for folders that fit no class."""
        rest = [name for label, name in enumerate(self.ids or self) if label not in found]
        words = [folder for folder in strangers if not WORDNET_ID.fullmatch(folder)][:_HINTS]
        near = {folder: get_close_matches(folder, rest, n=1) for folder in words}
        hints = [f"{names[0]!r} is near {folder!r}" for folder, names in near.items() if names]
        raise DataError(
            f"class names and class folders differ. Names without a folder: {_some(rest)}; "
            f"folders without a name: {_some(strangers)}{look_alikes(rest, strangers)}."
            + (f" Did you mean: {'; '.join(hints)}?" if hints else "")
            + " Each line is the name of one folder, or 'folder<TAB>name'."
        )


def read_class_names(path: str | Path) -> list[str] | dict[str, str]:
    """A file of class names: one a line in the order of the labels, or ``folder<TAB>name`` on every line.

    Raises: DataError for a missing file, other text than UTF-8, a blank line, mixed forms, a repeated folder, and a
        repeated name where no folder tells the classes apart.

    Example: a file of two lines, ``cat`` and ``polar bear``, gives ``["cat", "polar bear"]``
    """
    rows = read_rows(path)
    bad = [number for number, row in enumerate(rows, 1) if not all(row) or len(row) != len(rows[0])]
    if not rows or bad or len(rows[0]) > 2:
        found = "line {}: {!r}".format(bad[0], "\t".join(rows[bad[0] - 1])[:80]) if bad else "no such line"
        raise DataError(f"{path}: expected one class name a line, or 'folder<TAB>name' on every line; found {found}")
    _refuse_repeated([row[0] for row in rows], str(path))
    return [name for (name,) in rows] if len(rows[0]) == 1 else dict(rows)


def read_rows(path: str | Path) -> list[list[str]]:
    """The lines of a table whose columns are separated by tabs. Raises: DataError for other text than UTF-8."""
    try:
        lines = read_text(local_path(path)).splitlines()
    except (OSError, ValueError) as error:
        raise DataError(f"cannot read class names from {path}: expected a UTF-8 text file ({error})") from error
    return [[part.strip() for part in line.split("\t")] for line in lines]


def name_folders(
    folders: Sequence[str], names: ClassNames | None = None, called: Mapping[str, str] | None = None
) -> dict[str, str]:
    """The class name of each folder, in the order of the labels.

    Without names: ImageNet's for WordNet ids, else the folder's own with spaces for underscores and hyphens, sorted.
    With names: their order, and each folder must be one of these classes (see :meth:`Classes.labels`). A class without
    a folder keeps its label, and stands under its id.

    Args:
        folders: class folders.
        names: names in the order of the labels, or a mapping from folder to name.
        called: names of WordNet ids that ImageNet-1k does not have.

    Raises: DataError if folders look like codes and have no names, or are none of the classes that were named.

    Example: ``name_folders(["polar_bear", "cat"])`` is ``{"cat": "cat", "polar_bear": "polar bear"}``
    """
    if names is None:
        return _own_names(sorted(folders), called or {})
    classes = Classes(names)
    folder_of = {label: folder for folder, label in classes.labels(folders, called).items()}
    ids = classes.ids or classes
    return {folder_of.get(label, ids[label]): name for label, name in enumerate(classes)}


def prompt_name(folder: str) -> str:
    """A folder's name as one writes it in a sentence: ``polar_bear`` becomes ``polar bear``."""
    return " ".join(re.sub(r"[_-]", " ", folder).split())


def _own_names(folders: Sequence[str], called: Mapping[str, str]) -> dict[str, str]:
    if any(map(WORDNET_ID.fullmatch, folders)):
        known = {**called, **imagenet_names()}
        named = {folder: known[folder] for folder in folders if folder in known}
        strangers = [folder for folder in folders if WORDNET_ID.fullmatch(folder) and folder not in named]
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
    broken = [folder for folder in rest if _NOT_UTF8.search(folder)]
    if broken:
        raise DataError(f"class folders whose names are no UTF-8 text: {_some(broken)}: give them names in UTF-8")
    return {folder: named.get(folder) or prompt_name(folder) for folder in folders}


def _refuse_repeated(values: Iterable[str], where: str) -> None:
    repeated = [value for value, count in Counter(values).items() if count > 1]
    if repeated:
        raise DataError(f"{where}: classes need different names, found more than once: {_some(repeated)}")


def _key(name: str) -> str:
    return prompt_name(name).casefold()


def _some(values: Sequence[str], most: int = 8) -> str:
    listed = ", ".join(repr(value) for value in values[:most])
    return (listed or "none") + (f" and {len(values) - most} more" if len(values) > most else "")
