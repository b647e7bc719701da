"""One rank of a short run, under torchrun: ``two_ranks.py lightning|transformers FILE`` writes its losses and weights."""

import json
import os
import sys
from pathlib import Path
from typing import Any

import torch
from torch import nn

from graphkd import Step, TrainConfig, create_distiller
from tests.integrations.loops import arguments, lightning_trainer
from tests.training import tiny

BATCH, EPOCHS = 8, 2


def made() -> Step:
    torch.manual_seed(0)
    student = tiny.Student()  # without BatchNorm and dropout, which see one rank only
    student.body[1], student.drop.p = nn.Identity(), 0.0
    return Step(student, create_distiller("rkd", None, None), create_distiller("kd", None, None))


def with_lightning(rank: int, world: int, folder: str) -> Any:
    from lightning.pytorch.callbacks import LambdaCallback

    from graphkd.integrations.lightning import DistillationModule

    losses: list[float] = []
    module = DistillationModule(made(), tiny.teacher, TrainConfig(lr=0.01))
    keep = LambdaCallback(on_train_batch_end=lambda *given: losses.append(given[2]["loss"].item()))
    ranks = {"devices": world, "strategy": "ddp" if world > 1 else "auto", "use_distributed_sampler": False}
    trainer = lightning_trainer(folder, EPOCHS, callbacks=[keep], **ranks)
    trainer.fit(module, tiny.views().loader(BATCH, rank=rank, world=world))
    return losses, module.step


def with_transformers(rank: int, world: int, folder: str) -> Any:
    from graphkd.integrations.transformers import DistillationTrainer

    args = arguments(folder, per_device_train_batch_size=BATCH // world, num_train_epochs=EPOCHS)
    scored = tiny.views(12, labels=True, seed=4)
    trainer = DistillationTrainer(made(), tiny.views(), tiny.teacher, args, config=TrainConfig(lr=0.01), scored=scored)
    trainer.train()
    losses = [each["loss"] for each in trainer.state.log_history if "loss" in each]
    return [*losses, trainer.evaluate()["eval_top1"]], trainer.accelerator.unwrap_model(trainer.model)


def main(framework: str, file: str) -> None:
    torch.set_num_threads(1)
    rank, world = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    losses, step = {"lightning": with_lightning, "transformers": with_transformers}[framework](rank, world, f"{file}.d")
    if rank == 0:
        weights = {name: value.flatten().tolist() for name, value in step.state_dict().items()}
        Path(file).write_text(json.dumps({"losses": losses, "weights": weights}))
    if torch.distributed.is_initialized():  # gloo's threads abort a process that ends before its peer
        torch.distributed.barrier()
        torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main(*sys.argv[1:])
