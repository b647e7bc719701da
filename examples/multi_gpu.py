"""Distil on several devices: nothing of the program changes, only its launch.

    python examples/multi_gpu.py                                # one process
    torchrun --nproc-per-node 2 examples/multi_gpu.py           # two: DDP
    torchrun --nproc-per-node 2 examples/multi_gpu.py --shard   # two: FSDP2, parameters sharded
    accelerate launch --multi_gpu --num_processes 2 examples/multi_gpu.py
    accelerate launch --num_processes 2 --use_fsdp --fsdp_version 2 examples/multi_gpu.py

Without GPUs each of them needs the variable ACCELERATE_USE_CPU=true (accelerate launch --cpu starts one process only).
The graph spans the batch of all processes, so every launch trains the same student up to rounding (the networks have
GroupNorm: BatchNorm spans the processes on GPUs only).

Real handwritten digits: a teacher learns one third with labels, the student another without, the last is scored on.
Measured: 15 s of one CPU core; teacher 95.5 %, student 85.5 %, by one process, by two under DDP and by two under FSDP2.
"""

import argparse
from pathlib import Path

import torch
from torch import nn

from graphkd import ClassifierTeacher, PRGDistiller, Step, Tap, TrainConfig, Trainer, Views
from graphkd.data.datasets import digits_source
from graphkd.data.sources import source_subset
from graphkd.data.transforms import RandomCropView, ResizeView
from graphkd.errors import GraphKDError
from graphkd.step import labelled_cross_entropy


def network(width: int) -> nn.Module:
    """A small classifier of digits."""
    return nn.Sequential(
        nn.Sequential(nn.Conv2d(3, width, 3, padding=1), nn.GroupNorm(4, width), nn.ReLU()),
        nn.Sequential(nn.Conv2d(width, 2 * width, 3, stride=2, padding=1), nn.GroupNorm(4, 2 * width), nn.ReLU()),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(8 * width, 10),
    )


def main() -> None:
    """Teacher, student, and their scores."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path("runs/multi_gpu"), help="run folder, seen by all processes")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--batch", type=int, default=64, help="images of one graph, over all processes")
    parser.add_argument("--shard", action="store_true", help="share the parameters among the processes")
    parser.add_argument("--resume", action="store_true", help="go on, with any number of processes")
    args = parser.parse_args()
    config = TrainConfig(
        epochs=args.epochs, batch_size=args.batch, lr=3e-3, shard=args.shard, progress=False, trackers=()
    )
    digits, augmented = digits_source(), RandomCropView(8, padding=1, flip=False)
    order = torch.randperm(len(digits), generator=torch.Generator().manual_seed(0)).tolist()
    taught, unlabelled, held_out = (source_subset(digits, order[part::3]) for part in range(3))
    scored = Views(held_out, student=ResizeView(8), labels=True)

    torch.manual_seed(0)
    labels = Views(taught, student=augmented, labels=True)
    step = Step(Tap(network(32)), task=labelled_cross_entropy)
    made = Trainer(step, labels, None, config, args.folder / "teacher", scored=scored).fit(resume=args.resume)
    teacher = ClassifierTeacher(made.model.model, classes=digits.classes, mean=[0.0] * 3, std=[1.0] * 3)

    torch.manual_seed(1)  # training leaves each process with random numbers of its own
    student = Tap(network(8))
    step = Step(student, PRGDistiller.between(student, teacher))
    views = Views(unlabelled, student=augmented)
    run, both = args.folder / "student", {"teacher": teacher, "scored": scored}
    trainer = Trainer(step, views, lambda batch: teacher(batch.teacher), config, run, **both)
    teacher.to(trainer.device)
    result = trainer.fit(resume=args.resume)
    if trainer.accelerator.is_main_process:
        print(f"{trainer.ranks.world} processes: teacher {made.scores.top1:.4f}, student {result.scores.top1:.4f}")


if __name__ == "__main__":
    try:
        main()
    except GraphKDError as error:
        raise SystemExit(f"{type(error).__name__}: {error}") from None
