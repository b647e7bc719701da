"""accelerate's part of a run: devices, precision and trackers."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from graphkd.errors import OptionError
from graphkd.training.config import TrainConfig


def make_accelerator(config: TrainConfig, run: Path) -> Any:
    """An ``accelerate.Accelerator`` for these options; its trackers write below the run folder.

    Raises: OptionError for fp16 without a GPU.
    """
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState
    from accelerate.utils import ProjectConfiguration

    if config.precision == "fp16" and not torch.cuda.is_available():
        raise OptionError("precision 'fp16' needs a GPU, and there is none: choose 'bf16' or 'no'")
    # accelerate keeps the first precision of a process and refuses another; two runs of one script may differ in it
    AcceleratorState._reset_state()
    return Accelerator(
        mixed_precision=config.precision,
        log_with=list(config.trackers) or None,
        project_config=ProjectConfiguration(project_dir=str(run), logging_dir=str(run / "tensorboard")),
    )


@contextmanager
def tracking(accelerator: Any, name: str, update: int) -> Iterator[None]:
    """Trackers on inside; TensorBoard forgets what an interrupted run drew after that update."""
    purge = {"tensorboard": {"purge_step": update + 1}}
    wanted = [getattr(kind, "value", kind) for kind in accelerator.log_with]
    accelerator.init_trackers(name, init_kwargs={kind: purge[kind] for kind in wanted if kind in purge})
    try:
        yield
    finally:
        for tracker in accelerator.trackers:  # not end_training(), which also ends the process group
            tracker.finish()


@contextmanager
def deterministic(wanted: bool) -> Iterator[None]:
    """Only deterministic kernels inside; one that has no such form raises and is named by torch."""
    if not wanted:
        yield
        return
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    before, benchmark = torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.benchmark
    torch.use_deterministic_algorithms(True)
    torch.backends.cudnn.benchmark = False
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)
        torch.backends.cudnn.benchmark = benchmark
