"""Checkpoints as safetensors and JSON: nothing is executed on loading, and a damaged one is noticed."""

import hashlib
import json
import logging
import os
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from graphkd.errors import CheckpointError
from graphkd.paths import local_path
from graphkd.registry import unknown
from graphkd.training.files import flush, write_json, written
from graphkd.training.tree import pack, unpack
from graphkd.typing import Tensor

log = logging.getLogger("graphkd")

_TENSORS, _STATE, _MANIFEST = "tensors.safetensors", "state.json", "manifest.json"
_NEWEST = "newest.json"  # says which checkpoint was written last, so that its loss is noticed
_NAME = re.compile(r"update-([0-9]{8,})")


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
        found = [_NAME.fullmatch(path.name) for path in self.folder.glob("update-*")]
        return sorted(int(match[1]) for match in found if match)

    def save(self, update: int, state: Mapping[str, Any], best: int | None = None) -> Path:
        """Write one checkpoint, whole or not at all, then remove what is neither among the newest nor the best.

        Raises: CheckpointError where the disk is full; the checkpoints before it stay.
        """
        temporary = self._temporary(update)
        with written(self.path(update), self._kept()):
            try:
                self._clean()
                self._write(temporary, state)
                self._remove(update)  # a damaged one of this update, passed over on resuming
                os.rename(temporary, self.path(update))
                flush(self.folder)
            except BaseException:
                shutil.rmtree(temporary, ignore_errors=True)
                raise
        write_json(self.folder / _NEWEST, {"update": update})
        for old in self.updates()[: -self.keep]:
            if old != best:
                self._remove(old)
        return self.path(update)

    def _write(self, folder: Path, state: Mapping[str, Any]) -> None:
        from safetensors.torch import save_file

        packed, tensors = pack(state)
        folder.mkdir(parents=True)
        save_file(tensors, folder / _TENSORS)
        (folder / _STATE).write_text(json.dumps(packed), encoding="utf-8")
        manifest = {name: _digest(folder / name) for name in (_TENSORS, _STATE)}
        (folder / _MANIFEST).write_text(json.dumps(manifest), encoding="utf-8")
        for name in (_TENSORS, _STATE, _MANIFEST):
            flush(folder / name)
        flush(folder)

    def _temporary(self, update: int) -> Path:
        return self.folder / f".update-{update:08d}.tmp"

    def _remove(self, update: int) -> None:
        """Under another name first: a kill in the middle leaves no checkpoint with half of its files."""
        doomed = self._temporary(update).with_suffix(".old.tmp")
        if self.path(update).exists():
            os.rename(self.path(update), doomed)
            shutil.rmtree(doomed)

    def _clean(self) -> None:
        for left in self.folder.glob(".update-*.tmp"):
            shutil.rmtree(left)

    def _kept(self) -> str:
        """What there is to go on from, as a sentence without its full stop."""
        updates = self.updates()
        return f"{self.path(updates[-1])} is intact" if updates else "There is no checkpoint before it"

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
        self._miss(updates)
        for update in reversed(updates):
            try:
                return update, self.load(update)
            except CheckpointError as error:
                log.warning("%s; going back to the checkpoint before it", error)
        if updates:
            raise CheckpointError(f"every checkpoint in {self.folder} is damaged: choose another run folder")
        return None

    def _miss(self, updates: list[int]) -> None:
        """Say that the one written last is gone; it was there, or nothing would name it."""
        try:
            last = int(json.loads((self.folder / _NEWEST).read_text(encoding="utf-8"))["update"])
        except (OSError, ValueError, KeyError, TypeError):
            return  # none was written yet, or the note itself is damaged
        if not updates:
            raise CheckpointError(
                f"{self.path(last)} was written last, and every checkpoint in {self.folder} is gone: "
                "put one back, or choose another run folder"
            )
        if updates[-1] < last:
            log.warning("%s was written last and is missing; going back to the checkpoint before it", self.path(last))


def student_weights(run: Path | str, which: str = "last") -> dict[str, Tensor]:
    """The student of a run, for ``student.load_state_dict``: its moving average where the run kept one.

    Args:
        run: the run folder.
        which: ``"last"`` or ``"best"`` (by the score on the labelled images that the run was given).

    Raises: CheckpointError if the run has no such checkpoint, UnknownNameError for another word.
    """
    if which not in ("last", "best"):
        raise unknown("checkpoint", which, ["best", "last"])
    checkpoints = Checkpoints(local_path(run) / "checkpoints")
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
