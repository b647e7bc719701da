"""Where a run stands: everything that a resumed run needs to go on bit for bit."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch
from torch import nn

from graphkd.errors import CheckpointError
from graphkd.training.devices import Ranks
from graphkd.training.metrics import Scores
from graphkd.training.quality import AnyQuality


@dataclass(frozen=True)
class Result:
    """What a run ends with.

    Args:
        model: the trained student: its moving average where the run kept one.
        seconds: time spent on training, over all restarts and without scoring.
        updates: updates done.
        scores: of the *last* student; ``None`` without labelled images. No better one on the way is kept: choosing a
            student by the images it is reported on flatters it.
        run: the run folder.
        quality: of the last student beside its teacher; ``None`` without the teacher's answers.
    """

    model: nn.Module
    seconds: float
    updates: int
    scores: Scores | None
    run: Path
    quality: AnyQuality | None = None


@dataclass
class Progress:
    """Position and bookkeeping of a run.

    Args:
        update: updates done.
        epoch: epochs done.
        batch: batches of the current epoch done; a multiple of ``accumulate``, for no gradient is saved.
        seconds: time spent on training, without scoring and over all restarts.
        skipped: updates left out because a loss or gradient was not finite.
    """

    update: int = 0
    epoch: int = 0
    batch: int = 0
    seconds: float = 0.0
    skipped: int = 0

    @classmethod
    def of(cls, state: Mapping[str, Any], update: int, epochs: int, batches: int, accumulate: int) -> "Progress":
        """What a checkpoint tells of itself.

        Args:
            state: as ``asdict`` gave it.
            update: that its folder is named by.
            epochs, batches, accumulate: of the run; a checkpoint lies between two of its updates.

        Raises: CheckpointError for another position than that update's, and for numbers that cannot be.
        """
        if state.keys() != {each.name for each in fields(cls)}:
            raise CheckpointError(f"its progress holds {sorted(state)}")
        at = cls(**state)
        counts = [(at.epoch, epochs), (at.batch, batches), (at.skipped, at.update)]
        whole = all(type(count) is int and 0 <= count <= most for count, most in [(at.update, update), *counts])
        if not whole or type(at.seconds) is not float or not 0 <= at.seconds < math.inf:
            raise CheckpointError(f"its progress cannot be: {at}")
        between = at.batch % accumulate == 0 or at.batch == batches
        done = at.epoch * -(-batches // accumulate) + -(-at.batch // accumulate)
        if not between or not done == at.update == update:
            raise CheckpointError(f"its progress is not that of update {update}: {at}")
        return at


def random_states(device: torch.device, ranks: Ranks) -> dict[str, Any]:
    """State of the global generators, which dropout draws from: one row for each process."""
    states = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(device)
    rows = {kind: ranks.rows(state) for kind, state in states.items()}
    return {"processes": ranks.world, "device": device.type, **rows}


def check_random_states(states: Mapping[str, Any]) -> None:
    """Raises: CheckpointError unless these are states of the generators of all processes that the run had."""
    kinds = {"cpu", "cuda"} if states["device"] == "cuda" else {"cpu"}
    if states.keys() != {"processes", "device", *kinds}:
        raise CheckpointError(f"its random state holds {sorted(states)}")
    count = states["processes"]
    if type(count) is not int or type(states["device"]) is not str:
        raise CheckpointError(f"its random state is that of {count!r} processes on {states['device']!r}")
    for kind in kinds:
        if states[kind].dtype != torch.uint8 or states[kind].ndim != 2 or not 1 <= count == len(states[kind]):
            raise CheckpointError(f"its random state is not that of {count} processes")
    try:
        for row in states["cpu"]:
            torch.Generator().set_state(row.clone())
    except RuntimeError as error:
        raise CheckpointError(f"its random state is none: {error}") from error


def restore_random_state(states: Mapping[str, Any], device: torch.device, ranks: Ranks, seed: int) -> None:
    """The reverse of :func:`random_states`; a run that goes on with other processes starts from ``seed``."""
    if states["processes"] != ranks.world:
        torch.manual_seed(seed)
        return
    torch.set_rng_state(states["cpu"][ranks.rank].clone())
    if device.type == "cuda" and "cuda" in states:
        torch.cuda.set_rng_state(states["cuda"][ranks.rank].clone(), device)
