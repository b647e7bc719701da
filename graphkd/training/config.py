"""What a run of training is made of, checked before anything starts."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from numbers import Integral, Real
from typing import Any, Final

from graphkd.errors import CheckpointError, OptionError
from graphkd.registry import unknown

_MOST = 12  # differences that a message lists
METHOD: Final = "combined"  # without parts: the sum that docs/evidence.md prefers
LONGER = "start a new run with its weights (graphkd.training.start.start_from)"
PRECISIONS = ("no", "bf16", "fp16")
DEVICES = ("auto", "cpu", "cuda", "mps")
POLICIES = ("stop", "skip", "lower_scale")
LOCAL = {"timeout", "workers", "progress", "trackers", "device"}  # of each process alone
_WATCHING = {"evaluate_every", "log_every", "log_gradient_shares", "checkpoint_every"}
_AT_LEAST = {
    **dict.fromkeys(("epochs", "accumulate", "evaluate_every", "log_every"), 1),
    **dict.fromkeys(("weight_decay", "warmup_epochs", "min_lr", "max_skips", "mixup", "cutmix"), 0),
    **dict.fromkeys(("log_gradient_shares", "checkpoint_every", "seed", "workers"), 0),
    "batch_size": 2,
}
_FREE = LOCAL | _WATCHING | {"nonfinite", "max_skips", "shard"}


@dataclass(frozen=True)
class TrainConfig:
    """Options of a run; together with the seed they determine its result.

    Args:
        epochs: passes over the data, >= 1.
        batch_size: images of one graph, over all devices, >= 2.
        lr: highest learning rate, > 0.
        weight_decay: for weights only; biases, norms, scalars and what a model excludes are not decayed.
        optimizer: a name of ``timm.optim.list_optimizers()``.
        warmup_epochs: epochs of linear warm-up, may be a fraction, < epochs.
        min_lr: learning rate at the end of the cosine.
        accumulate: forward passes per update, >= 1. Graphs do not grow by it: each pass aligns its own.
        chunk: most images of a process whose activations are held at once, by default all: a batch, and with it every
            graph, larger than memory; see :class:`graphkd.step.Step`. The teacher is asked in chunks too.
        clip: largest gradient norm; by default gradients are as they come.
        freeze: layers of the student that keep their weights and statistics, by patterns such as ``conv1`` and
            ``layer[12]``; see :func:`graphkd.models.freezing.freeze`.
        compile: let ``torch.compile`` make one program of student and losses; the first update then takes long.
        ema: decay of the student's moving average in (0, 1), by default none; it is warmed up, and is what is scored.
        precision: ``"no"`` (float32), ``"bf16"`` or ``"fp16"`` (GPU only). Losses and sums are float32 whatever it
            says; ``graphkd.backend("auto", precision="float32")`` makes 16-bit features float32 first as well.
        nonfinite: what follows an update whose loss or gradient is NaN or infinite. It is never made; then ``"stop"``
            names the term and ends the run, ``"skip"`` goes on, ``"lower_scale"`` (fp16) goes on with half the loss
            scale. An overflow of fp16 gradients alone always lowers the scale.
        max_skips: most updates that ``"skip"`` leaves out in all before the run stops, >= 0.
        mixup: alpha of the Beta distribution, 0 for none; see :class:`graphkd.data.mixing.Mixing`.
        cutmix: likewise, for boxes of one image in another.
        evaluate_every: epochs between two scorings; the last epoch is always scored.
        log_every: updates between two readings of the loss terms, each a wait for the device.
        log_gradient_shares: updates between two readings of each term's share of the gradient, 0 for none. A reading
            costs one more backward pass per term; see :func:`graphkd.training.gradient_shares.gradient_shares`.
        checkpoint_every: updates between two checkpoints inside an epoch, 0 for none; each epoch ends with one.
        device: ``"auto"`` takes a GPU where there is one; or ``"cpu"``, ``"cuda"``, ``"cuda:1"``, ``"mps"``. Of several
            processes each takes its own, and this stays ``"auto"``.
        seed: of mixing and dropout; the order of samples and their augmentation have the views' own.
        workers: processes that load images.
        sync_batchnorm: over several GPUs, BatchNorm of student and distillers normalises by the batch of all of them.
        shard: parameters, gradients and optimiser state are sharded among the processes (FSDP2) instead of repeated on
            each (DDP); ``accelerate launch --use_fsdp --fsdp_version 2`` asks for the same. Nothing to shard with one.
        timeout: seconds that a process waits for the others before it gives up, > 0.
        deterministic: only deterministic CUDA kernels; slower. A CPU run is deterministic anyway.
        progress: show a progress bar on a terminal.
        trackers: names of accelerate's trackers, such as ``"wandb"`` and ``"mlflow"``; ``"tensorboard"`` writes into
            the run folder.

    Raises: OptionError, UnknownNameError.

    Example: ``TrainConfig(epochs=30, batch_size=256, lr=1e-3, ema=0.999)``
    """

    epochs: int = 100
    batch_size: int = 256
    lr: float = 1e-3
    weight_decay: float = 0.05
    optimizer: str = "adamw"
    warmup_epochs: float = 0.0
    min_lr: float = 0.0
    accumulate: int = 1
    chunk: int | None = None
    clip: float | None = None
    freeze: tuple[str, ...] = ()
    compile: bool = False
    ema: float | None = None
    precision: str = "no"
    nonfinite: str = "stop"
    max_skips: int = 10
    mixup: float = 0.0
    cutmix: float = 0.0
    evaluate_every: int = 1
    log_every: int = 50
    log_gradient_shares: int = 0
    checkpoint_every: int = 0
    device: str = "auto"
    seed: int = 0
    workers: int = 0
    sync_batchnorm: bool = True
    shard: bool = False
    timeout: float = 600.0
    deterministic: bool = False
    progress: bool = True
    trackers: tuple[str, ...] = ("tensorboard",)

    def __post_init__(self) -> None:
        for name in ("trackers", "freeze"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        for field in fields(self):
            if field.type in (int, int | None, float, float | None):
                self._require_number(field.name, whole=field.type in (int, int | None))
        rules = [
            *((name, getattr(self, name) >= least, f">= {least}") for name, least in _AT_LEAST.items()),
            ("lr", self.lr > 0, "> 0"),
            ("min_lr", self.min_lr <= self.lr, f"<= lr = {self.lr}"),
            ("warmup_epochs", self.warmup_epochs < self.epochs, f"< epochs = {self.epochs}"),
            ("clip", self.clip is None or self.clip > 0, "> 0, or None for no clipping"),
            ("ema", self.ema is None or 0 < self.ema < 1, "in (0, 1), or None for no moving average"),
            ("chunk", self.chunk is None or self.chunk >= 1, ">= 1, or None for the whole batch"),
            ("timeout", self.timeout > 0, "> 0"),
        ]
        for name, holds, rule in rules:
            self._require(name, holds, rule)
        for name, known in (("precision", PRECISIONS), ("nonfinite", POLICIES)):
            if getattr(self, name) not in known:
                raise unknown(name, getattr(self, name), list(known))
        kind, _, number = self.device.partition(":")
        if kind not in DEVICES or (number and not number.isdigit()):
            raise unknown("device", self.device, [*DEVICES, "cuda:1"])
        if self.nonfinite == "lower_scale" and self.precision != "fp16":
            raise OptionError(f"nonfinite='lower_scale' needs precision='fp16', found {self.precision!r}: use 'skip'")
        if self.compile and self.log_gradient_shares:
            raise OptionError(
                "log_gradient_shares needs the gradient of each term, and a compiled step has one for all of them: "
                "set compile=False for the run that is to log them"
            )

    def _require_number(self, name: str, whole: bool) -> None:
        value, kind = getattr(self, name), Integral if whole else Real
        if value is None and type(self).__dataclass_fields__[name].type in (int | None, float | None):
            return
        right = isinstance(value, kind) and not isinstance(value, bool)
        self._require(name, right, "a whole number" if whole else "a number")
        if whole:
            object.__setattr__(self, name, int(value))

    def _require(self, name: str, holds: bool, rule: str) -> None:
        if not holds:
            raise OptionError(f"{name} must be {rule}, found {getattr(self, name)}")

    def to_dict(self) -> dict[str, Any]:
        """The options as JSON-ready data."""
        return asdict(self) | {"trackers": list(self.trackers), "freeze": list(self.freeze)}

    @staticmethod
    def check_resume(earlier: Mapping[str, Any], now: Mapping[str, Any], run: str) -> None:
        """Refuse to go on with options that would give another result than those the run was started with.

        Args:
            earlier, now: options by name, JSON-ready; names that only one of them has are not compared.
            run: what the message is about.

        Raises: CheckpointError that names each difference.
        """
        from graphkd.data.fingerprint import spoken
        from graphkd.training.checkpoint import differing  # with torch, which the command line reads options without

        names = [name for name in now if name in earlier and name not in _FREE]
        found = differing([{name: each[name] for name in names} for each in (earlier, now)])
        if found:
            changes = ", ".join(
                f"the {other} differ" if (other := spoken(name, was, value)) else f"{name} was {was}, now {value}"
                for name, (was, value) in [*found.items()][:_MOST]
            )
            remedy = ". Resume with the same ones, or choose another run folder"
            if "epochs" in found:  # a longer run has had another learning rate from its first update on
                remedy = f", for which its learning rate was planned: {LONGER}"
            raise CheckpointError(f"the run in {run} was started with other options: {changes}{remedy}")
