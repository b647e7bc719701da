"""What accelerate gives a run: processes, devices, precision and trackers."""

import atexit
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.fsdp import FSDPModule

from graphkd import distributed
from graphkd.errors import DistributedError, GraphKDError, OptionError
from graphkd.models.freezing import freeze
from graphkd.registry import unknown
from graphkd.step import Step
from graphkd.text import shown
from graphkd.training.config import TrainConfig
from graphkd.training.parallel import sync_batchnorm
from graphkd.typing import Bool, Tensor

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
            package = _PACKAGES.get(name, name)
            raise OptionError(
                f"the tracker {name!r} is not installed: run pip install {package}, or leave {name} out of trackers"
            )


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


def prepared(step: Step, config: TrainConfig) -> Any:
    """The same step, in chunks, with frozen layers and compiled, as the options say; changed in place.

    Raises: OptionError for a pattern of ``freeze`` that matches nothing.
    """
    if config.chunk is not None:
        step.chunk = config.chunk
    freeze(step.student, config.freeze)
    if config.compile:
        nn.Module.compile(step)  # in place: names in the state dict stay
    return step


def make_accelerator(config: TrainConfig, run: Path) -> Any:
    """An ``accelerate.Accelerator`` for these options; its trackers write below the run folder.

    Raises: OptionError for fp16 without a GPU, for a tracker that is not installed, and for a device that is not there
        or is asked for with several processes; DistributedError where each of
        several processes sees only itself.
    """
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState
    from accelerate.utils import InitProcessGroupKwargs, ProjectConfiguration

    if config.precision == "fp16" and not torch.cuda.is_available():
        raise OptionError("precision 'fp16' needs a GPU, and there is none: choose 'bf16' or 'no'")
    check_trackers(config.trackers)
    device = None if config.device == "auto" else device_of(config.device)
    # accelerate keeps the first precision of a process and refuses another; two runs of one script may differ in it
    AcceleratorState._reset_state()
    accelerator = Accelerator(
        mixed_precision=config.precision,
        log_with=list(config.trackers) or None,
        kwargs_handlers=[InitProcessGroupKwargs(timeout=timedelta(seconds=config.timeout))],
        project_config=ProjectConfiguration(project_dir=str(run), logging_dir=str(run / "tensorboard")),
    )
    if device is not None:
        _place(accelerator, device)
    return require_all(accelerator)


def processors() -> int:
    """Those that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def device_of(name: str) -> torch.device:
    """The device of that name; ``"auto"`` takes a GPU where there is one. Raises: OptionError where it is absent."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    device = torch.device(name)
    present = {"cpu": 1, "cuda": torch.cuda.device_count(), "mps": int(torch.backends.mps.is_available())}
    if (device.index or 0) >= present[device.type]:
        found = f"there is no device {name!r}: torch finds {present['cuda']} GPUs"
        raise OptionError(f"{found}: give device='auto', or see graphkd doctor")
    return device


def _place(accelerator: Any, device: torch.device) -> None:
    """Let a run of one process use a device that was asked for; accelerate forgets it with the accelerator.

    Raises: OptionError with several processes, each of which takes its own.
    """
    if accelerator.num_processes > 1:
        raise OptionError(f"each of several processes takes a device of its own: leave device={str(device)!r} out")
    accelerator.state.device = device
    if device.type == "cuda":
        torch.cuda.set_device(device)  # what Triton launches on


def require_all(accelerator: Any) -> Any:
    """The accelerator, if it sees all the processes that were started.

    Raises: DistributedError where each would train a student of its own, into one run folder.
    """
    started = max(int(os.environ.get("WORLD_SIZE", "1")), distributed.world_size())
    if started != accelerator.num_processes:
        raise DistributedError(
            f"{started} processes were started, and each sees only itself: "
            "set ACCELERATE_USE_CPU=true for several processes without GPUs"
        )
    return accelerator


@contextmanager
def ended_at_exit() -> Iterator[None]:
    """If what is inside succeeds, the process group ends with the process.

    After a failure peers may be gone, and ending the group could wait for them.
    """
    atexit.unregister(_end_group)
    yield
    atexit.register(_end_group)


def _end_group() -> None:
    if dist.is_initialized():
        # A thread of gloo needs the interpreter to let go of its last tensor. If the interpreter shuts down first, the
        # process aborts: one in thirty did under FSDP2.
        time.sleep(0.2)
        dist.destroy_process_group()


def asks_for_shards(config: TrainConfig, ranks: "Ranks") -> bool:
    """Whether there are processes to share the parameters among, and the options or ``accelerate launch`` say so.

    Of accelerate's FSDP options only ``--use_fsdp`` and ``--fsdp_version`` are read.

    Raises: OptionError for FSDP 1.
    """
    asked = os.environ.get("ACCELERATE_USE_FSDP", "false").lower() == "true"
    version = os.environ.get("FSDP_VERSION", "1")
    if asked and version != "2":
        raise OptionError(f"accelerate asks for FSDP {version}, and this is FSDP 2: launch with --fsdp_version 2")
    return ranks.world > 1 and (asked or config.shard)


def prepare_step(step: Any, config: TrainConfig, ranks: "Ranks") -> bool:
    """As the options say, BatchNorm over all ranks first; whether the step's parameters are to be sharded next.

    Raises: OptionError where the gradients of parameters that are sharded are asked for.
    """
    sharded = asks_for_shards(config, ranks)
    if config.log_gradient_shares and sharded:
        raise OptionError("log_gradient_shares needs whole parameters, and these are sharded: use DDP, or set it to 0")
    if ranks.world > 1 and config.sync_batchnorm and next(step.parameters()).is_cuda:
        sync_batchnorm(step)
    prepared(step, config)
    return sharded


class Ranks:
    """What the processes of a run know together.

    Args:
        accelerator: whose processes.
    """

    def __init__(self, accelerator: Any) -> None:
        self._accelerator = accelerator
        self.rank: int = accelerator.process_index
        self.world: int = accelerator.num_processes

    def sum(self, value: Tensor) -> Tensor:
        """Sum over all processes, on the device."""
        total: Tensor = self._accelerator.reduce(value, reduction="sum")
        return total

    def mean(self, value: Tensor) -> Tensor:
        """Mean over all processes, on the device."""
        return torch.div(self.sum(value), self.world)

    def everywhere(self, flag: Bool[Tensor, ""]) -> Bool[Tensor, ""]:
        """True where all processes say so, without asking the device."""
        return flag if self.world == 1 else torch.eq(self.sum(flag.float()), self.world)

    def rows(self, value: Tensor) -> Tensor:
        """Every process's tensor, one a row, on the host."""
        mine = value.unsqueeze(0).to(self._accelerator.device)
        everyone: Tensor = mine if self.world == 1 else self._accelerator.gather(mine)
        return everyone.cpu()

    def texts(self, text: str) -> list[str]:
        """Every process's text."""
        own = torch.frombuffer(bytearray(text.encode()) + b"\0", dtype=torch.uint8)
        padded = torch.nn.functional.pad(own, (0, self.most(len(own)) - len(own)))
        return [bytes(row.tolist()).rstrip(b"\0").decode() for row in self.rows(padded)]

    def first(self, act: Callable[[], object]) -> None:
        """Let the main process act; its error ends all of them.

        Raises: GraphKDError of the main process; DistributedError with its text in the others.
        """
        failed: GraphKDError | None = None
        if self.rank == 0:
            try:
                act()
            except GraphKDError as error:
                failed = error
        said = self.texts(str(failed or ""))[0]
        if failed is not None:
            raise failed
        if said:
            raise DistributedError(f"the main process ended the run: {said}")

    def most(self, number: int) -> int:
        """The largest of all processes' numbers."""
        return number if self.world == 1 else int(self.rows(torch.tensor(number)).max())


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


@contextmanager
def train_session(accelerator: Any, step: nn.Module, config: TrainConfig, run: Path, update: int) -> Iterator[Any]:
    """The step as accelerate wraps it, trackers on and kernels as asked for; undone at the end whatever happens."""
    wrapped = step if isinstance(step, FSDPModule) else accelerator.prepare_model(step)
    try:
        with deterministic(config.deterministic), tracking(accelerator, run, update, config.to_dict()):
            yield wrapped
    finally:
        # accelerate's autocast and torch's compiled call, around a module of the user's
        for left in ("forward", "_original_forward", "_compiled_call_impl"):
            vars(step).pop(left, None)
