"""Optimiser, learning rate and moving average from timm, and an update that the device itself may refuse."""

from importlib import import_module
from typing import Any

import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR

from graphkd.registry import unknown
from graphkd.training.config import TrainConfig
from graphkd.typing import Bool, Tensor


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
        rate: float = probe.param_groups[0]["lr"]
        return rate / config.lr

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
