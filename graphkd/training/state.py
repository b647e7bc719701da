"""Where a run stands: everything that a resumed run needs to go on bit for bit."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from graphkd.training.checkpoint import check_weights
from graphkd.training.devices import Ranks
from graphkd.training.metrics import Scores
from graphkd.training.parallel import as_placed


@dataclass(frozen=True)
class Result:
    """What a run ends with.

    Args:
        model: the trained student: its moving average where the run kept one.
        seconds: time spent on training, over all restarts and without scoring.
        updates: updates done.
        scores: of the *last* student, the headline; ``None`` without labelled images.
        best_score: best top-1 on the way. Choosing a student by the images it is reported on flatters it, so this
            is for information.
        run: the run folder.
    """

    model: nn.Module
    seconds: float
    updates: int
    scores: Scores | None
    best_score: float | None
    run: Path


@dataclass
class Progress:
    """Position and bookkeeping of a run.

    Args:
        update: updates done.
        epoch: epochs done.
        batch: batches of the current epoch done; a multiple of ``accumulate``, for no gradient is saved.
        seconds: time spent on training, without scoring and over all restarts.
        best_score: best top-1 on the labelled images so far.
        best_update: when it was reached.
        score: the latest top-1.
        skipped: updates left out because a loss or gradient was not finite.
    """

    update: int = 0
    epoch: int = 0
    batch: int = 0
    seconds: float = 0.0
    best_score: float | None = None
    best_update: int | None = None
    score: float | None = None
    skipped: int = 0


def random_states(device: torch.device, ranks: Ranks) -> dict[str, Any]:
    """State of the global generators, which dropout draws from: one row for each process."""
    states = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(device)
    return {kind: ranks.rows(state) for kind, state in states.items()}


def restore_random_state(states: Mapping[str, Any], device: torch.device, ranks: Ranks, seed: int) -> None:
    """The reverse of :func:`random_states`; a run that goes on with other processes starts from ``seed``."""
    if len(states["cpu"]) != ranks.world:
        torch.manual_seed(seed)
        return
    torch.set_rng_state(states["cpu"][ranks.rank].clone())
    if device.type == "cuda" and "cuda" in states:
        torch.cuda.set_rng_state(states["cuda"][ranks.rank].clone(), device)


def restore_module(module: nn.Module, weights: Mapping[str, Any], where: str) -> None:
    """Load weights, refusing those of another model. Raises: CheckpointError."""
    own = module.state_dict()
    check_weights(own, weights, where)
    module.load_state_dict({name: as_placed(value, own[name]) for name, value in weights.items()})


def restore_optimizer(optimizer: torch.optim.Optimizer, state: Mapping[str, Any]) -> None:
    """Load what :meth:`torch.optim.Optimizer.state_dict` gave; JSON made the parameters' numbers text."""
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    moments = {
        int(number): {name: as_placed(value, parameters[int(number)]) for name, value in values.items()}
        for number, values in state["state"].items()
    }
    optimizer.load_state_dict({"state": moments, "param_groups": state["param_groups"]})
