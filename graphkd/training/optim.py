"""Optimiser, schedule and moving average, and one update, which the device itself may refuse."""

import logging
from collections.abc import Callable, Mapping
from copy import deepcopy
from importlib import import_module
from typing import Any

import torch
from torch import nn
from torch.distributed.tensor import DTensor
from torch.optim.lr_scheduler import LambdaLR

from graphkd.errors import CheckpointError
from graphkd.registry import unknown
from graphkd.training.checkpoint import check_weights, differing
from graphkd.training.config import TrainConfig
from graphkd.training.meter import Meter
from graphkd.training.parallel import as_placed, gather_into, shard, shard_student, start_alike, whole
from graphkd.typing import Bool, Float, Tensor

log = logging.getLogger("graphkd")


def make_optimizer(module: nn.Module, config: TrainConfig) -> torch.optim.Optimizer:
    """timm's optimiser of that name over all trainable parameters: the student's and the distillers'.

    Vectors, scalars and what any part lists in ``no_weight_decay()`` (a ViT's position embedding) are not decayed.

    Raises: UnknownNameError for an optimiser that timm does not have.
    """
    timm: Any = import_module("timm.optim")
    if config.optimizer not in timm.list_optimizers():
        raise unknown("optimizer", config.optimizer, timm.list_optimizers())
    skip = {
        f"{name}.{parameter}".lstrip(".")
        for name, part in module.named_modules()
        if hasattr(part, "no_weight_decay")
        for parameter in part.no_weight_decay()
    }
    groups = timm.param_groups_weight_decay(module, config.weight_decay, no_weight_decay_list=skip)
    kind = timm.get_optimizer_class(config.optimizer, bind_defaults=False)
    # Fused Adam refuses an update on the device; so does fused SGD, but its first refusal leaves garbage as momentum.
    options: dict[str, Any] = {"fused": True} if kind in (torch.optim.Adam, torch.optim.AdamW) else {}
    optimizer: torch.optim.Optimizer = timm.create_optimizer_v2(
        groups, opt=config.optimizer, lr=config.lr, weight_decay=config.weight_decay, **options
    )
    return optimizer


def allocate_moments(optimizer: torch.optim.Optimizer) -> None:
    """Give every parameter the state that its first update would; no parameter changes."""
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    for p in parameters:
        p.grad = torch.zeros_like(p)
    gated_step(optimizer, torch.zeros((), dtype=torch.bool, device=parameters[0].device))
    optimizer.zero_grad(set_to_none=True)


def make_schedule(optimizer: torch.optim.Optimizer, config: TrainConfig, updates: int) -> Any:
    r"""timm's cosine per update with linear warm-up; a pure function of the update's number t = 0, 1, ...

    .. math:: lr_t = lr \frac{t + 1}{W + 1} \; (t < W), \qquad
              lr_t = m + \tfrac12 (lr - m) \left(1 + \cos \pi \tfrac{t - W}{T - W}\right) \; (W \le t < T)

    Args:
        updates: T, of the whole run.
    """
    warmup = min(round(updates * config.warmup_epochs / config.epochs), updates - 1)
    return import_module("timm.scheduler").CosineLRScheduler(
        optimizer,
        t_initial=updates - warmup,
        lr_min=config.min_lr,
        warmup_t=warmup,
        warmup_lr_init=config.lr / (warmup + 1),  # never 0: the first update counts
        warmup_prefix=True,
        t_in_epochs=False,
    )


def torch_schedule(optimizer: torch.optim.Optimizer, config: TrainConfig, updates: int) -> LambdaLR:
    """:func:`make_schedule` as a scheduler of torch, for loops of others that step one after each update."""
    probe = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=config.lr)
    schedule = make_schedule(probe, config, updates)

    def factor(update: int) -> float:
        schedule.step_update(update)
        return float(probe.param_groups[0]["lr"]) / config.lr

    return LambdaLR(optimizer, factor)


def make_average(student: nn.Module, decay: float, sharded: bool = False) -> Any:
    """Moving average of the student's parameters and buffers, with timm's warm-up of the decay.

    timm's ModelEmaV3 and not torch's AveragedModel: that one asks the device for its count at every update, and
    averages no buffers by default, so that BatchNorm's statistics would be those of another network.

    Args:
        sharded: one tensor at a time, for sharded parameters and whole buffers do not go into one call.
    """
    return import_module("timm.utils").ModelEmaV3(student, decay=decay, use_warmup=True, foreach=not sharded)


@torch.no_grad()
def gated_step(optimizer: torch.optim.Optimizer, finite: Bool[Tensor, ""]) -> None:
    """One update, or none where ``finite`` is false; the host never learns which.

    A refused update leaves every parameter as it is and every optimiser state finite.
    """
    gated: Any = optimizer
    if getattr(gated, "_step_supports_amp_scaling", False):  # the contract of torch's fused optimisers with GradScaler
        gated.grad_scale, gated.found_inf = None, (~finite).float()
        gated.step()
        del gated.grad_scale, gated.found_inf
        return
    parameters = [p for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
    before = [p.clone() for p in parameters]
    for p in parameters:
        p.grad = torch.where(finite, p.grad, 0)
    optimizer.step()
    for p, old in zip(parameters, before, strict=True):
        p.copy_(torch.where(finite, p, old))


class Updater:
    """Optimiser, schedule, loss scale and moving average of one run, moved on together.

    Args:
        step: all that has a gradient; ``step.student`` is what is averaged. On its device already.
        config: the options.
        updates: of the whole run.
        sharded: whether parameters are to be sharded among the processes.
    """

    def __init__(self, step: Any, config: TrainConfig, updates: int, sharded: bool = False) -> None:
        self.step, self.clip = step, config.clip
        device = next(step.parameters()).device
        if sharded:
            start_alike(step)
        self.average = None if config.ema is None else make_average(step.student, config.ema, sharded)
        self._copy: nn.Module | None = deepcopy(step.student) if sharded else None
        if sharded:
            shard(step, device)
            if self.average is not None:
                shard_student(self.average.module, device)
        self.optimizer = make_optimizer(step, config)
        self.schedule = make_schedule(self.optimizer, config, updates)
        self.policy = config.nonfinite
        self._held = self._buffers()
        self.scaler = torch.amp.GradScaler(device.type, enabled=config.precision == "fp16")
        self._untouched: list[int] = []  # parameters without moments in the checkpoint that the run goes on from

    def model(self) -> nn.Module:
        """The student that is scored: the moving average where there is one, gathered where it is sharded."""
        module: nn.Module = self.step.student if self.average is None else self.average.module
        return module if self._copy is None else gather_into(self._copy, module)

    @property
    def lr(self) -> float:
        """Learning rate of the latest update."""
        return float(self.optimizer.param_groups[0]["lr"])

    def backward(self, loss: Float[Tensor, ""]) -> None:
        """Add the gradient of a loss."""
        torch.autograd.backward(self.scaler.scale(loss))

    def update(self, number: int, meter: Meter, everywhere: Callable[[Tensor], Tensor]) -> None:
        """Make update ``number`` (from 0), unless a term since ``meter.start`` or the gradient is not finite.

        Args:
            everywhere: whether a flag holds on all processes.
        """
        self._tell_touched()
        whole = everywhere(meter.ok)
        if self.policy == "lower_scale":
            self._spoil(whole)
        self.scaler.unscale_(self.optimizer)
        norm = self._norm()
        fits = norm.isfinite()
        finite = whole & fits
        if self.scaler.is_enabled():  # an overflow of fp16 is no error: the update is left out and the scale halved
            meter.add({"skipped": (~finite).float()}, gate=False)
            norm = torch.where(fits, norm, 0)
        if self.policy != "stop":
            refused = ~(whole if self.scaler.is_enabled() else finite)
            meter.add({"refused": refused.float()}, gate=False)
        meter.add({"gradient": norm}, gate=False)
        self.schedule.step_update(number)
        gated_step(self.optimizer, finite)
        self._keep_buffers(finite)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        meter.start()
        if self.average is not None:
            self.average.update(self.step.student, step=number + 1)

    def _tell_touched(self) -> None:
        """Once after a resume: whether a gradient had ever reached a parameter, only the checkpoint knows."""
        parameters = self._parameters()
        late = {id(parameters[number]) for number in self._untouched if parameters[number].grad is not None}
        if late:
            names = [name for name, p in self.step.named_parameters() if id(p) in late]
            log.warning(
                "by its checkpoint no gradient had reached %s, and now one does: all is well if a term or layer joins "
                "in late; if not, the checkpoint was edited and their moments are lost: put a good copy back",
                ", ".join(names),
            )
        self._untouched = []

    def _parameters(self) -> list[nn.Parameter]:
        """By their numbers in the optimiser's state."""
        return [p for group in self.optimizer.param_groups for p in group["params"]]

    def _spoil(self, whole: Bool[Tensor, ""]) -> None:
        """Let a broken term count as an overflow: its gradient may be finite, and the scaler looks at nothing else."""
        gradients = [p.grad for p in self._parameters() if p.grad is not None]
        least = min(gradients, key=torch.Tensor.numel)
        least.copy_(torch.where(whole, least, torch.inf))

    def _buffers(self) -> list[Tensor]:
        """What a forward pass with a NaN would spoil for good (BatchNorm's statistics), where the run is to go on."""
        return [] if self.policy == "stop" else [each.clone() for each in self.step.buffers()]

    @torch.no_grad()
    def _keep_buffers(self, finite: Bool[Tensor, ""]) -> None:
        if self.policy != "stop":
            for buffer, before in zip(self.step.buffers(), self._held, strict=True):
                buffer.copy_(torch.where(finite, buffer, before))
            self._held = self._buffers()

    def _norm(self) -> Float[Tensor, ""]:
        parameters = self._parameters()
        if self.clip is not None:
            norm = nn.utils.clip_grad_norm_(parameters, self.clip)
        else:
            norm = nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
        return norm.full_tensor() if isinstance(norm, DTensor) else norm

    def collapsed(self) -> bool:
        """Whether fp16 gradients overflow even unscaled, which halving the scale does not cure."""
        return self.scaler.is_enabled() and self.scaler.get_scale() < 1

    def state(self) -> dict[str, Any]:
        """All of it, for a checkpoint: whole tensors on every process, whether they are sharded or not.

        The schedule is a function of the update's number and has no state.
        """
        state: dict[str, Any] = whole(self._state())
        return state

    def _state(self) -> dict[str, Any]:
        moments: dict[str, Any] = self.optimizer.state_dict()
        moments["untouched"] = [number for number, _ in enumerate(self._parameters()) if number not in moments["state"]]
        average = None if self.average is None else self.average.module.state_dict()
        return {
            "step": self.step.state_dict(), "ema": average, "optimizer": moments, "scaler": self.scaler.state_dict(),
        }  # fmt: skip

    def check(self, state: Mapping[str, Any]) -> None:
        """Raises: CheckpointError unless this is the state of such a student, optimiser and average, and all of it."""
        allocate_moments(self.optimizer)
        own = self._state()
        for name in ("step", "ema", "scaler"):
            check_weights(own[name], state[name], f"its {name}")
        moments, untouched = own["optimizer"], state["optimizer"]["untouched"]
        if type(untouched) is not list:
            raise CheckpointError(f"its optimizer tells of {untouched!r} in place of parameters without a gradient")
        for number in untouched:
            del moments["state"][number]
        moments["untouched"] = untouched
        check_weights(moments, state["optimizer"], "its optimizer")
        fixed = (self.optimizer.defaults.keys() | {"params"}) - {"lr"}  # which the schedule sets
        now, then = (
            [{name: group[name] for name in fixed} for group in each["param_groups"]]
            for each in (moments, state["optimizer"])
        )
        if found := differing([now, then]):
            raise CheckpointError(f"its optimizer has other options: {', '.join(found)}")

    def restore(self, state: Mapping[str, Any]) -> None:
        """The reverse of :meth:`state`, of one that :meth:`check` found to fit."""
        _restore_module(self.step, state["step"])
        if self.average is not None:
            _restore_module(self.average.module, state["ema"])
        _restore_optimizer(self.optimizer, state["optimizer"])
        self._untouched = state["optimizer"]["untouched"]
        self.scaler.load_state_dict(state["scaler"])
        self._held = self._buffers()


def _restore_module(module: nn.Module, weights: Mapping[str, Any]) -> None:
    """Load weights that fit."""
    own = module.state_dict()
    module.load_state_dict({name: as_placed(value, own[name]) for name, value in weights.items()})


def _restore_optimizer(optimizer: torch.optim.Optimizer, state: Mapping[str, Any]) -> None:
    """Load what :meth:`torch.optim.Optimizer.state_dict` gave; JSON made the parameters' numbers text."""
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    moments = {
        int(number): {name: as_placed(value, parameters[int(number)]) for name, value in values.items()}
        for number, values in state["state"].items()
    }
    optimizer.load_state_dict({"state": moments, "param_groups": state["param_groups"]})
