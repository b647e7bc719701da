"""Hugging Face's Trainer, for a Step."""

import os
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel, Trainer, TrainingArguments

from graphkd.data.views import Batch, Views
from graphkd.errors import DataError
from graphkd.integrations.named_losses import Teaching, detached, losses_of, save_student
from graphkd.step import Step
from graphkd.training.config import TrainConfig
from graphkd.training.devices import prepared
from graphkd.training.metrics import evaluate
from graphkd.training.optim import make_optimizer, torch_schedule
from graphkd.typing import Tensor

STUDENT = "student"  # file or folder of the student in a checkpoint


class DistillationTrainer(Trainer):  # type: ignore[misc]
    """transformers' Trainer whose loss is a :class:`graphkd.Step`'s: named losses logged, scoring, the student saved.

    The teacher is a callable and in no checkpoint. A checkpoint holds student and distillers, as needed to resume, and
    the student alone: ``student.safetensors`` by the names of its own model, or for a model of transformers the folder
    ``student/``, which ``from_pretrained`` reads.

    Args:
        step: ``Step(student, *distillers)``.
        views: training images; their order and augmentation come from their seed.
        features: the teacher's features of a batch, ``lambda batch: teacher(batch.teacher)`` or
            ``lambda batch: store[batch.index]``; ``None`` for a task alone.
        args: transformers' options. ``per_device_train_batch_size`` times the processes is the graph's batch; the last
            batch is dropped.
        config: take optimiser and schedule of :class:`graphkd.Trainer` (``lr``, ``weight_decay``, ``optimizer``,
            ``warmup_epochs``, ``min_lr``), and ``chunk``, ``freeze`` and ``compile``; ``None`` takes all from ``args``.
            Clipping is by ``args.max_grad_norm`` in both cases, 1.0 by transformers' default.
        scored: labelled images, ``Views(..., labels=True)``, for ``evaluate`` and ``args.eval_strategy``.
        options: others of ``transformers.Trainer``, such as ``callbacks``.

    Raises: OptionError, DataError for images that make no batch.

    Example::

        args = TrainingArguments("out", per_device_train_batch_size=256, num_train_epochs=100, report_to="none")
        DistillationTrainer(Step(student, prg), views, lambda batch: teacher(batch.teacher), args).train()
    """

    control: Any  # transformers' own
    optimizer: Any
    lr_scheduler: Any

    def __init__(
        self,
        step: Step,
        views: Views,
        features: Teaching,
        args: TrainingArguments,
        *,
        config: TrainConfig | None = None,
        scored: Views | None = None,
        **options: Any,
    ) -> None:
        self.features, self.config = features, config
        self.sums: dict[str, Tensor] = {}
        self.batches, self._first = 0, True
        if config is not None:
            prepared(step, config)
        super().__init__(model=step, args=args, train_dataset=views, eval_dataset=scored, **options)

    @property
    def student(self) -> nn.Module:
        """What is trained for use."""
        unwrapped: Any = self.accelerator.unwrap_model(self.model)
        student: nn.Module = unwrapped.student
        return student

    def get_train_dataloader(self) -> Any:
        """The views' own loader; accelerate's would cut its batches a second time."""
        loader: Any = self._loader(self.train_dataset, self.args.train_batch_size)
        loader.set_epoch = loader.batch_sampler.set_epoch  # where transformers looks for it
        return loader

    def get_eval_dataloader(self, eval_dataset: Any = None) -> Any:
        """Labelled batches in their own order. Raises: DataError where there are none."""
        views = self.eval_dataset if eval_dataset is None else eval_dataset
        if not isinstance(views, Views):
            raise DataError("there is nothing to score on: give scored=Views(..., labels=True)")
        return self._loader(views, self.args.eval_batch_size, shuffle=False, drop_last=False)

    def _loader(self, views: Views, batch_size: int, **order: bool) -> Any:
        args = self.args
        share = {"rank": args.process_index, "world": args.world_size, "workers": args.dataloader_num_workers}
        return views.loader(batch_size * args.world_size, **order, **share)

    def _get_num_items_in_batch(self, batch_samples: Any, device: Any) -> None:
        """Not counted: a loss over a graph is no sum over its items."""

    def floating_point_ops(self, inputs: Batch) -> int:
        """Not counted."""
        return 0

    def _prepare_inputs(self, inputs: Batch) -> Batch:
        return inputs.to(self.args.device)

    def compute_loss(
        self, model: nn.Module, inputs: Batch, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """The sum of the step's losses; each is kept for the log."""
        losses = losses_of(model, inputs, self.features, self.args.device, first=self._first)
        self._first = self.accelerator.sync_gradients  # this batch is its update's last
        terms = detached(losses)
        del terms["loss"]  # transformers logs it
        self.sums = {name: self.sums[name] + value if name in self.sums else value for name, value in terms.items()}
        self.batches += 1
        return (losses.total, losses) if return_outputs else losses.total

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """transformers' log, with the mean of each loss since the last."""
        if "loss" in logs and self.batches:
            means = torch.stack(list(self.sums.values())) / self.batches
            logs |= dict(zip(self.sums, means.tolist(), strict=True))
            self.sums, self.batches = {}, 0
        super().log(logs, start_time)

    def evaluate(self, eval_dataset: Any = None, ignore_keys: Any = None, metric_key_prefix: str = "eval") -> Any:
        """Score the student: ``eval_top1`` and others, over the images of all processes."""
        loader = self.get_eval_dataloader(eval_dataset)
        found = evaluate(self.student, loader, self.args.device, lambda each: self.accelerator.reduce(each, "sum"))
        metrics = {f"{metric_key_prefix}_{name}": value for name, value in found.numbers().items()}
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def create_optimizer(self, model: Any = None) -> Any:
        """graphkd's where ``config`` was given, else transformers'."""
        if self.config is None:
            return super().create_optimizer(model)
        if self.optimizer is None:
            self.optimizer = make_optimizer(self.model if model is None else model, self.config)
        return self.optimizer

    def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> Any:
        """graphkd's where ``config`` was given, else transformers'."""
        if self.config is None:
            return super().create_scheduler(num_training_steps, optimizer)
        if self.lr_scheduler is None:
            self.lr_scheduler = torch_schedule(optimizer or self.optimizer, self.config, num_training_steps)
        return self.lr_scheduler

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        super()._save(output_dir, state_dict)
        if self.args.should_save:
            folder = Path(output_dir or os.fspath(self.args.output_dir))
            model = getattr(self.student, "model", self.student)
            if isinstance(model, PreTrainedModel):
                model.save_pretrained(folder / STUDENT)
            else:
                save_student(self.student, folder / f"{STUDENT}.safetensors")
