"""Lightning: a module that trains a Step, and a callback for modules of your own."""

from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import CombinedLoader
from torch import nn

from graphkd.data.views import Batch, Views
from graphkd.errors import GraphKDError
from graphkd.integrations.named_losses import Teaching, detached, losses_of, require_shares, save_student
from graphkd.losses import Losses
from graphkd.step import Step
from graphkd.training.config import TrainConfig
from graphkd.training.devices import prepared
from graphkd.training.metrics import Scores, evaluate
from graphkd.training.optim import make_optimizer, torch_schedule
from graphkd.typing import Tensor


class DistillationModule(LightningModule):  # type: ignore[misc]
    """A :class:`graphkd.Step` as Lightning's module: named losses in the log, student and distillers in checkpoints.

    The teacher is a callable and in no state dict. Optimiser and schedule are those of :class:`graphkd.Trainer` with
    the same options; epochs, precision, accumulation and clipping are Lightning's. For others override
    ``configure_optimizers``.

    Args:
        step: ``Step(student, *distillers)``.
        features: the teacher's features of a batch, ``lambda batch: teacher(batch.teacher)`` or
            ``lambda batch: store[batch.index]``; ``None`` for a task alone.
        config: ``lr``, ``weight_decay``, ``optimizer``, ``warmup_epochs``, ``min_lr``, ``chunk``, ``freeze`` and
            ``compile`` count; warm-up is the share ``warmup_epochs / epochs`` of Lightning's updates.

    Batches are those of ``Views(...).loader(...)``. On several ranks make it with ``rank=`` and ``world=`` and give
    Lightning's Trainer ``use_distributed_sampler=False``; anything else is refused.

    Example::

        module = DistillationModule(Step(student, prg), lambda batch: teacher(batch.teacher), TrainConfig(lr=1e-3))
        lightning.Trainer(max_epochs=100).fit(module, Views(source, student=view).loader(256))
    """

    def __init__(self, step: Step, features: Teaching, config: TrainConfig | None = None) -> None:
        super().__init__()
        self.config = config or TrainConfig()
        self.step: Any = prepared(step, self.config)
        self._features = (features,)  # in a tuple: a teacher that is a module would become a part of this one

    @property
    def student(self) -> nn.Module:
        """What is trained for use."""
        student: nn.Module = self.step.student
        return student

    def forward(self, images: Tensor) -> Any:
        """The student's Features."""
        return self.step.student(images)

    def transfer_batch_to_device(self, batch: Batch, device: torch.device, dataloader_idx: int) -> Batch:
        """A batch on its device."""
        return batch.to(device)

    def on_train_epoch_start(self) -> None:
        """The loader's order of this epoch, which Lightning sets for its own samplers only."""
        for loader in CombinedLoader(self.trainer.train_dataloader).flattened:  # one loader, or a collection of them
            require_shares(loader, self.trainer.global_rank, self.trainer.world_size)
            if hasattr(getattr(loader, "batch_sampler", None), "set_epoch"):
                loader.batch_sampler.set_epoch(self.current_epoch)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """The sum of the losses, each of which is logged."""
        first = batch_idx % self.trainer.accumulate_grad_batches == 0
        losses: Losses = losses_of(self.step, batch, self._features[0], self.device, first=first)
        self.log_dict(detached(losses), batch_size=len(batch))
        return losses.total

    def configure_optimizers(self) -> Any:
        """The Trainer's optimiser and, per update, its schedule."""
        optimizer = make_optimizer(self.step, self.config)
        schedule = torch_schedule(optimizer, self.config, int(self.trainer.estimated_stepping_batches))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


class DistillationCallback(Callback):  # type: ignore[misc]
    """Scores a student after each epoch and exports it at the end, in any module, whose own step adds the losses.

    Args:
        student: path of the student in the module, such as ``"net"``; default the module's ``student``.
        scored: ``Views(..., labels=True).loader(...)`` to score on: ``val/top1`` and others are logged.
        export: file for the student's weights (safetensors).

    Attributes: scores, of the latest epoch.
    Raises: GraphKDError where the module has no such student.

    Example: ``lightning.Trainer(callbacks=[DistillationCallback("net", scored=loader, export="net.safetensors")])``
    """

    def __init__(self, student: str = "student", scored: Any = None, export: Path | str | None = None) -> None:
        self.path, self.export = student, export
        self.scored = scored.loader(64, shuffle=False, drop_last=False) if isinstance(scored, Views) else scored
        self.scores: Scores | None = None

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Look whether the student is there."""
        self._student(pl_module)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Score."""
        if self.scored is not None:
            self.scores = evaluate(self._student(pl_module), self.scored, pl_module.device)
            numbers = {f"val/{name}": value for name, value in self.scores.numbers().items()}
            pl_module.log_dict(numbers, on_epoch=True, rank_zero_only=True, batch_size=self.scores.images)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Export."""
        if self.export is not None and trainer.is_global_zero:
            save_student(self._student(pl_module), self.export)

    def _student(self, module: LightningModule) -> Any:
        found: Any = module
        for part in self.path.split("."):
            found = getattr(found, part, None)
        if not isinstance(found, nn.Module):
            children = ", ".join(name for name, _ in module.named_children())
            raise GraphKDError(
                f"{type(module).__name__} has no student at {self.path!r}: give its path, one of {children}"
            )
        return found
