"""Checkpoints as safetensors and JSON: nothing is executed on loading, and a damaged one is noticed."""

import hashlib
import logging
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from graphkd.errors import CheckpointError
from graphkd.files import flush, local_path, remove, remove_leftovers, temporary_name, write_json, writing
from graphkd.text import open_regular, read_json
from graphkd.typing import Tensor

log = logging.getLogger("graphkd")

FORMAT = 3  # of 1 and 2 only the student can still be read: a run cannot go on from them
_TENSORS, _STATE, _MANIFEST = "tensors.safetensors", "state.json", "manifest.json"
_NEWEST = "newest.json"  # says which checkpoint was written last, so that its loss is noticed
_MOST = 3  # names of one kind that a message lists
_LARGEST = 1 << 26  # bytes of a state's JSON
_NAME = re.compile(r"update-([0-9]{8,})")


def pack(tree: Any, path: str = "") -> tuple[Any, dict[str, Tensor]]:
    """A nested state as JSON-ready data, and its tensors by their path in it: ``"optimizer/state/0/exp_avg"``."""
    if isinstance(tree, Tensor):
        return {"tensor": path}, {path: tree.detach().cpu().clone().contiguous()}  # a clone: tied weights share memory
    if not isinstance(tree, Mapping | list | tuple):
        return tree, {}
    items = tree.items() if isinstance(tree, Mapping) else enumerate(tree)
    packed: dict[str, Any] = {}
    tensors: dict[str, Tensor] = {}
    for key, value in items:
        packed[str(key)], found = pack(value, f"{path}/{key}" if path else str(key))
        assert not tensors.keys() & found.keys(), f"two tensors at {path}/{key}"
        tensors |= found
    return (packed if isinstance(tree, Mapping) else list(packed.values())), tensors


def unpack(packed: Any, tensors: dict[str, Tensor], path: str = "") -> Any:
    """The reverse of :func:`pack`; keys come back as text, tuples as lists.

    Args:
        tensors: each is taken out; what is left has no place in the state.

    Raises: ValueError where a place asks for the tensor of another.
    """
    if isinstance(packed, dict) and packed.keys() == {"tensor"}:
        if packed["tensor"] != path or path not in tensors:
            raise ValueError(f"{path!r} asks for the tensor {packed['tensor']!r}")
        return tensors.pop(path)
    if isinstance(packed, dict):
        return {key: unpack(value, tensors, f"{path}/{key}" if path else key) for key, value in packed.items()}
    if isinstance(packed, list):
        return [unpack(value, tensors, f"{path}/{place}") for place, value in enumerate(packed)]
    return packed


def leaves(tree: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Everything in a nested state that holds nothing else, with its path: ``("optimizer/state/0/exp_avg", ...)``."""
    if isinstance(tree, Mapping | list | tuple) and tree:
        items = tree.items() if isinstance(tree, Mapping) else enumerate(tree)
        for key, value in items:
            yield from leaves(value, f"{path}/{key}" if path else str(key))
    else:
        yield path, tree


def differing(trees: Iterable[Any]) -> dict[str, list[str]]:
    """Where nested states differ: the path, and what each of them says there."""
    flat = [dict(leaves(tree)) for tree in trees]
    names = dict.fromkeys(name for each in flat for name in each)
    said = {name: [str(each.get(name, "absent")) for each in flat] for name in names}
    return {name: values for name, values in said.items() if len(set(values)) > 1}


def check_weights(expected: Any, found: Any, where: str) -> None:
    """Refuse weights, or an optimiser's moments, of another model.

    Args:
        expected, found: nested states; only names, shapes and types are compared.
        where: what the message is about.

    Raises: CheckpointError that names the first missing, unexpected and mismatched values.
    """
    ours, theirs = ({name: _form(value) for name, value in leaves(tree)} for tree in (expected, found))
    differ = {name: (theirs[name], ours[name]) for name in sorted(ours.keys() & theirs) if theirs[name] != ours[name]}
    problems = {
        "missing": sorted(ours.keys() - theirs),
        "unexpected": sorted(theirs.keys() - ours),
        "of another shape": [f"{name} {a[1]} instead of {b[1]}" for name, (a, b) in differ.items() if a[0] == b[0]],
        "of another type": [f"{name} {a[0]} instead of {b[0]}" for name, (a, b) in differ.items() if a[0] != b[0]],
    }
    parts = [
        f"{len(names)} {kind} ({', '.join(names[:_MOST])}{', ...' * (len(names) > _MOST)})"
        for kind, names in problems.items()
        if names
    ]
    if parts:
        raise CheckpointError(
            f"{where} belongs to another model: {'; '.join(parts)}. "
            "Build the student and the distillers with the options of that run"
        )


def _form(value: Any) -> tuple[str, tuple[int, ...]]:
    """Type and shape of a tensor or of a plain value."""
    return (str(value.dtype), tuple(value.shape)) if isinstance(value, Tensor) else (type(value).__name__, ())


def _digest(path: Path) -> str:
    with open_regular(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class Checkpoints:
    """Checkpoints of one run, ``update-00000120/`` and so on: the last ones.

    One process writes them at a time, see :func:`graphkd.files.one_writer`; whoever reads needs no leave.

    Args:
        folder: where they lie; made when the first is saved.
        keep: how many of the newest stay.

    Example::

        checkpoints = Checkpoints(Path("run/checkpoints"))
        checkpoints.save(120, {"step": step.state_dict(), "epoch": 3})
        update, state = checkpoints.newest()
    """

    def __init__(self, folder: Path, keep: int = 2) -> None:
        self.folder, self.keep = folder, keep

    def path(self, update: int) -> Path:
        """Where the checkpoint after that many updates lies."""
        return self.folder / f"update-{update:08d}"

    def updates(self) -> list[int]:
        """Updates with a checkpoint, oldest first; a copy under another update's name is none."""
        return [update for update, inside in self._found().items() if update == inside]

    def _found(self) -> dict[int, int]:
        """The update in each folder's name and the one that its manifest tells, which a damaged one does not."""
        matches = [_NAME.fullmatch(path.name) for path in self.folder.glob("update-*")]
        named = sorted(int(match[1]) for match in matches if match)
        return {update: _told(self.path(update) / _MANIFEST, update) for update in named}

    def save(self, update: int, state: Mapping[str, Any]) -> Path:
        """Write one checkpoint, whole or not at all, then remove what is not among the newest.

        Raises: FileError where the disk is full; the checkpoints before it stay.
        """
        path = self.path(update)
        temporary = temporary_name(path)
        with writing(path, self._kept(), "go on with fit(resume=True)"):
            try:
                remove_leftovers(self.folder, "update-*", _NEWEST)
                self._write(temporary, update, state)
                self._remove(update)  # a damaged one of this update, passed over on resuming
                os.rename(temporary, path)
                flush(self.folder)
            except BaseException:
                remove(temporary)
                raise
        write_json(self.folder / _NEWEST, {"update": update})
        for old in self.updates()[: -self.keep]:
            self._remove(old)
        return path

    def _write(self, folder: Path, update: int, state: Mapping[str, Any]) -> None:
        from safetensors.torch import save_file

        packed, tensors = pack(state)
        self.folder.mkdir(parents=True, exist_ok=True)
        folder.mkdir()  # new, and nobody else's
        save_file(tensors, folder / _TENSORS)
        flush(folder / _TENSORS)
        write_json(folder / _STATE, packed)
        digests = {name: _digest(folder / name) for name in (_TENSORS, _STATE)}
        write_json(folder / _MANIFEST, {"format": FORMAT, "update": update, **digests})

    def _remove(self, update: int) -> None:
        """Under another name first: a kill in the middle leaves no checkpoint with half of its files."""
        path = self.path(update)
        if path.exists() or path.is_symlink():
            doomed = temporary_name(path)
            os.rename(path, doomed)
            remove(doomed)

    def _kept(self) -> str:
        """What there is to go on from, as a sentence without its full stop."""
        updates = self.updates()
        return f"{self.path(updates[-1])} is intact" if updates else "There is no checkpoint before it"

    def load(self, update: int) -> dict[str, Any]:
        """The state saved after that many updates, with its ``"format"``.

        Raises: CheckpointError if it is absent, damaged, of another update, or of a later format.
        """
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        path = self.path(update)
        try:
            manifest = read_json(path / _MANIFEST)
            written = manifest.get("format", 1)
            if type(written) is not int or not 1 <= written <= FORMAT:
                raise CheckpointError(f"{path} is of format {written!r}, at most {FORMAT} is read: update graphkd")
            inside = manifest["update"] if written > 1 else manifest.get("update", update)
            if type(inside) is not int or inside != update:
                raise CheckpointError(f"{path} holds update {inside!r}: it is a copy under another name")
            packed = read_json(path / _STATE, _LARGEST)
            for name in (_TENSORS, _STATE):
                if _digest(path / name) != manifest[name]:
                    raise CheckpointError(f"{path / name} is damaged: its SHA-256 is not the one written with it")
            tensors = load_file(path / _TENSORS)
            state = {"format": written, **unpack(packed, tensors)}
            if tensors:
                raise ValueError(f"there is no place for the tensor {min(tensors)!r}")
        except CheckpointError:
            raise
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError, SafetensorError) as error:
            raise CheckpointError(f"{path} is damaged: {error}") from error
        return state

    def newest(self, check: Callable[[int, dict[str, Any]], None] | None = None) -> tuple[int, dict[str, Any]] | None:
        """The newest checkpoint that can be used, or ``None`` where there is none at all; what is passed over is said.

        Args:
            check: raises CheckpointError for a state that a run cannot go on from, given its update.

        Raises: CheckpointError if there are checkpoints and none can be used.
        """
        updates, refused = self.updates(), list[str]()
        self._miss(updates)
        for update in reversed(updates):
            try:
                state = self.load(update)
                if check is not None:
                    check(update, state)
            except CheckpointError as error:
                refused.append(str(error))
                continue
            for reason in refused:
                log.warning("%s; going back to the checkpoint before it", reason)
            return update, state
        if refused:
            raise CheckpointError(
                f"no checkpoint in {self.folder} can be used, the newest because {refused[0]}. "
                "Put a good copy back, or choose another run folder"
            )
        return None

    def _miss(self, updates: list[int]) -> None:
        """Say what is a copy, and that the one written last is gone; it was there, or nothing would name it."""
        for update, inside in self._found().items():
            if update != inside:
                log.warning("%s holds update %d: a copy under another name is left aside", self.path(update), inside)
        last = _told(self.folder / _NEWEST, -1)
        if last >= 0 and not updates:
            raise CheckpointError(
                f"{self.path(last)} was written last, and every checkpoint in {self.folder} is gone: "
                "put one back, or choose another run folder"
            )
        if updates and updates[-1] < last:
            log.warning("%s was written last and is missing; going back to the checkpoint before it", self.path(last))


def _told(path: Path, otherwise: int) -> int:
    """The update that a small JSON file tells; ``otherwise`` where the file is absent, damaged, or silent about it."""
    try:
        told = read_json(path)["update"]
    except (OSError, ValueError, LookupError, TypeError):
        return otherwise
    return told if type(told) is int else otherwise


def student_weights(run: Path | str) -> dict[str, Tensor]:
    """The student of a run, for ``student.load_state_dict``: its moving average where the run kept one.

    Args:
        run: the run folder.

    Raises: CheckpointError if the run has no checkpoint that holds one.
    """
    newest = Checkpoints(local_path(run) / "checkpoints").newest(_check_student)
    if newest is None:
        raise CheckpointError(f"{run} holds no checkpoint: is it the folder of a run?")
    return _student(newest[1])


def _student(state: Mapping[str, Any]) -> dict[str, Tensor]:
    prefix = "student."
    if state["ema"] is not None:
        return dict(state["ema"])
    return {name.removeprefix(prefix): w for name, w in state["step"].items() if name.startswith(prefix)}


def _check_student(update: int, state: Mapping[str, Any]) -> None:
    """Raises: CheckpointError unless the student can be taken out of a state."""
    try:
        if not all(isinstance(value, Tensor) for value in _student(state).values()):
            raise ValueError("its weights are no tensors")
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise CheckpointError(f"the checkpoint of update {update} holds no student: {error!r}") from error
