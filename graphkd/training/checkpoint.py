"""Checkpoints as safetensors and JSON: nothing is executed on loading, and a damaged one is noticed."""

import hashlib
import json
import logging
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from graphkd.errors import CheckpointError
from graphkd.registry import unknown
from graphkd.typing import Tensor

log = logging.getLogger("graphkd")

_TENSORS, _STATE, _MANIFEST = "tensors.safetensors", "state.json", "manifest.json"


def pack(tree: Any, path: str = "") -> tuple[Any, dict[str, Tensor]]:
    """A nested state as JSON-ready data, and its tensors by their path in it: ``"optimizer/state/0/exp_avg"``."""
    if isinstance(tree, Tensor):
        return {"tensor": path}, {path: tree.detach().cpu().clone().contiguous()}  # a clone: tied weights share memory
    items: Any
    if isinstance(tree, Mapping):
        items = [(str(key), value) for key, value in tree.items()]
    elif isinstance(tree, list | tuple):
        items = [(str(position), value) for position, value in enumerate(tree)]
    else:
        return tree, {}
    packed: dict[str, Any] = {}
    tensors: dict[str, Tensor] = {}
    for key, value in items:
        packed[key], found = pack(value, f"{path}/{key}" if path else key)
        assert not tensors.keys() & found.keys(), f"two tensors at {path}/{key}"
        tensors |= found
    return (packed if isinstance(tree, Mapping) else list(packed.values())), tensors


def unpack(packed: Any, tensors: Mapping[str, Tensor]) -> Any:
    """The reverse of :func:`pack`; keys come back as text, tuples as lists."""
    if isinstance(packed, list):
        return [unpack(value, tensors) for value in packed]
    if not isinstance(packed, dict):
        return packed
    if packed.keys() == {"tensor"}:
        return tensors[packed["tensor"]]
    return {key: unpack(value, tensors) for key, value in packed.items()}


def check_weights(expected: Mapping[str, Tensor], found: Mapping[str, Any], where: str) -> None:
    """Refuse weights of another model.

    Raises: CheckpointError that names the first missing, unexpected and mismatched tensors.
    """
    both = expected.keys() & found.keys()
    problems = {
        "missing": sorted(expected.keys() - found.keys()),
        "unexpected": sorted(found.keys() - expected.keys()),
        "of another shape": [
            f"{name} {tuple(found[name].shape)} instead of {tuple(expected[name].shape)}"
            for name in sorted(both)
            if isinstance(expected[name], Tensor) and expected[name].shape != found[name].shape
        ],
    }
    parts = [f"{len(names)} {kind} ({_first(names)})" for kind, names in problems.items() if names]
    if parts:
        raise CheckpointError(
            f"{where} belongs to another model: tensors {'; '.join(parts)}. "
            "Build the student and the distillers with the options of that run, or choose another run folder"
        )


def _first(names: list[str], most: int = 3) -> str:
    return ", ".join(names[:most]) + (", ..." if len(names) > most else "")


def write_file(path: Path, write: Callable[[Path], Any]) -> None:
    """Write to a temporary name, flush to the disk, rename: the file is there whole or not at all."""
    temporary = path.with_name(f".{path.name}.tmp")
    write(temporary)
    _flush(temporary)
    os.replace(temporary, path)
    _flush(path.parent)


def write_json(path: Path, data: Any) -> None:
    """JSON to a file, whole or not at all."""
    text = json.dumps(data, indent=1, ensure_ascii=False) + "\n"
    write_file(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def _flush(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class Checkpoints:
    """Checkpoints of one run, ``update-00000120/`` and so on: the last ones, and the best where there is one.

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
        """Updates with a checkpoint, oldest first."""
        names = [path.name.removeprefix("update-") for path in self.folder.glob("update-*")]
        return sorted(int(name) for name in names if name.isascii() and name.isdigit())

    def save(self, update: int, state: Mapping[str, Any], best: int | None = None) -> Path:
        """Write one checkpoint, whole or not at all, then remove what is neither among the newest nor the best."""
        from safetensors.torch import save_file

        packed, tensors = pack(state)
        final, temporary = self.path(update), self.folder / f".update-{update:08d}.tmp"
        self._clean()
        temporary.mkdir(parents=True)
        save_file(tensors, temporary / _TENSORS)
        (temporary / _STATE).write_text(json.dumps(packed), encoding="utf-8")
        manifest = {name: _digest(temporary / name) for name in (_TENSORS, _STATE)}
        (temporary / _MANIFEST).write_text(json.dumps(manifest), encoding="utf-8")
        for name in (_TENSORS, _STATE, _MANIFEST):
            _flush(temporary / name)
        _flush(temporary)
        if final.exists():  # a damaged one of this update, passed over on resuming
            shutil.rmtree(final)
        os.rename(temporary, final)
        _flush(self.folder)
        for old in self.updates()[: -self.keep]:
            if old != best:
                shutil.rmtree(self.path(old))
        return final

    def _clean(self) -> None:
        for left in self.folder.glob(".update-*.tmp"):
            shutil.rmtree(left)

    def load(self, update: int) -> dict[str, Any]:
        """The state saved after that many updates.

        Raises: CheckpointError if it is absent or damaged.
        """
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        path = self.path(update)
        try:
            manifest = json.loads((path / _MANIFEST).read_text(encoding="utf-8"))
            for name in (_TENSORS, _STATE):
                if _digest(path / name) != manifest[name]:
                    raise CheckpointError(f"{path / name} is damaged: its SHA-256 is not the one written with it")
            packed = json.loads((path / _STATE).read_text(encoding="utf-8"))
            state: dict[str, Any] = unpack(packed, load_file(path / _TENSORS))
        except (OSError, ValueError, KeyError, TypeError, RecursionError, SafetensorError) as error:
            if isinstance(error, CheckpointError):
                raise
            raise CheckpointError(f"{path} is damaged: {error}") from error
        return state

    def newest(self) -> tuple[int, dict[str, Any]] | None:
        """The newest undamaged checkpoint, or ``None`` where there is none at all; each damaged one is reported.

        Raises: CheckpointError if there are checkpoints and all are damaged.
        """
        updates = self.updates()
        for update in reversed(updates):
            try:
                return update, self.load(update)
            except CheckpointError as error:
                log.warning("%s; going back to the checkpoint before it", error)
        if updates:
            raise CheckpointError(f"every checkpoint in {self.folder} is damaged: choose another run folder")
        return None


def student_weights(run: Path | str, which: str = "last") -> dict[str, Tensor]:
    """The student of a run, for ``student.load_state_dict``: its moving average where the run kept one.

    Args:
        run: the run folder.
        which: ``"last"`` or ``"best"`` (by the score on the labelled images that the run was given).

    Raises: CheckpointError if the run has no such checkpoint, UnknownNameError for another word.
    """
    if which not in ("last", "best"):
        raise unknown("checkpoint", which, ["best", "last"])
    checkpoints = Checkpoints(Path(run) / "checkpoints")
    newest = checkpoints.newest()
    if newest is None:
        raise CheckpointError(f"{run} holds no checkpoint: is it the folder of a run?")
    state = newest[1]
    if which == "best":
        best = state["progress"]["best_update"]
        if best is None:
            raise CheckpointError(
                f"{run} has no best checkpoint: it was never scored on labelled images; ask for 'last'"
            )
        state = checkpoints.load(best)
    if state["ema"] is not None:
        average: dict[str, Tensor] = state["ema"]
        return average
    prefix = "student."
    return {name.removeprefix(prefix): w for name, w in state["step"].items() if name.startswith(prefix)}
