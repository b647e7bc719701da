"""accelerate's trackers: TensorBoard, Weights & Biases, MLflow and others, or one of your own."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from graphkd.errors import OptionError
from graphkd.registry import unknown
from graphkd.text import shown

_PACKAGES = {"comet_ml": "comet-ml"}  # where the package's name is not the tracker's


def known_trackers() -> tuple[list[str], list[str]]:
    """Names of all trackers that accelerate knows, and of those that are installed."""
    from accelerate.tracking import LOGGER_TYPE_TO_CLASS, get_available_trackers

    known, present = ([str(getattr(each, "value", each)) for each in found]
                      for found in (LOGGER_TYPE_TO_CLASS, get_available_trackers()))  # fmt: skip
    return known, present


def check_trackers(names: Sequence[str]) -> None:
    """Refuse a tracker before anything is computed.

    Raises: UnknownNameError for one that does not exist; OptionError for one that is not installed, with the command
        that installs it.
    """
    known, present = known_trackers()
    for name in names:
        if name not in known:
            raise unknown("tracker", name, known)
        if name not in present:
            raise OptionError(f"the tracker {name!r} is not installed: {remedy(name)}")


def remedy(name: str) -> str:
    """How to get a tracker, or go without."""
    return f"run pip install {_PACKAGES.get(name, name)}, or leave {name} out of trackers"


@contextmanager
def tracking(accelerator: Any, run: Path, update: int, options: Mapping[str, Any]) -> Iterator[None]:
    """Trackers on inside, told the options of the run.

    Args:
        accelerator: with its ``log_with``.
        run: the run folder, whose name the run has; what a tracker writes of its own goes there.
        update: where the run starts; TensorBoard forgets what an interrupted run drew after it.
        options: JSON-ready; TensorBoard is not told, for it would open a second run for them.
    """
    name = shown(run.name)
    own: dict[str, dict[str, Any]] = {
        "tensorboard": {"purge_step": update + 1},
        "wandb": {"dir": str(run), "name": name},
        "mlflow": {"logging_dir": str((run / "mlflow").resolve()), "run_name": name},
    }
    wanted = [str(getattr(kind, "value", kind)) for kind in accelerator.log_with]
    accelerator.init_trackers(name, init_kwargs={kind: own[kind] for kind in wanted if kind in own})
    try:
        for tracker in accelerator.trackers:
            if tracker.name != "tensorboard":
                tracker.store_init_configuration({key: _scalar(value) for key, value in options.items()})
        yield
    finally:
        for tracker in accelerator.trackers:  # not end_training(), which also ends the process group
            tracker.finish()


def _scalar(value: Any) -> Any:
    text = ",".join(map(str, value)) if isinstance(value, list) else value
    return shown(text) if isinstance(text, str) else text
