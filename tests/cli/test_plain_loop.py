"""``graphkd distill`` trains as a loop that one writes by hand does: the first 50 losses are the same."""

import json
from pathlib import Path

import pytest
import torch

from graphkd import CLIPTeacher, PRGDistiller, TrainConfig, Views, create_student, open_folder
from graphkd.data.sources import source_subset
from graphkd.data.transforms import CenterView, RandomCropView
from graphkd.training.optim import make_optimizer, make_schedule

BATCH, EPOCHS, UPDATES = 8, 9, 50


def losses_by_hand(root, checkpoint):
    """Student, teacher, PRG and a loop of eight lines."""
    whole = open_folder(root)
    order = torch.randperm(len(whole), generator=torch.Generator().manual_seed(0)).tolist()
    train = source_subset(whole, sorted(order[len(whole) // 5 :]))
    config = checkpoint.with_name("config.json")
    teacher = CLIPTeacher(config, pretrained=checkpoint, classes=whole.classes, templates="photo")
    torch.manual_seed(0)
    student = create_student("test_efficientnet", len(whole.classes))
    prg = PRGDistiller.between(student, teacher, rho=0.7)
    both = torch.nn.ModuleList([student, prg])
    options = TrainConfig(epochs=EPOCHS, batch_size=BATCH, lr=3e-3, warmup_epochs=1)
    optimizer = make_optimizer(both, options)
    loader = Views(train, student=RandomCropView(32, flip=False), teacher=CenterView(32), seed=0).loader(BATCH)
    schedule = make_schedule(optimizer, options, EPOCHS * len(loader))
    torch.manual_seed(0)
    found = []
    for epoch in range(EPOCHS):
        loader.batch_sampler.set_epoch(epoch)
        for batch in loader:
            losses = prg(student(batch.student), teacher(batch.teacher))
            losses.total.backward()
            schedule.step_update(len(found))
            optimizer.step()
            optimizer.zero_grad()
            found.append(losses.total.item())
    return found[:UPDATES]


def test_the_losses_are_those_of_a_loop_written_by_hand(graphkd, class_folders, teacher_checkpoint, teacher):
    line = f"distill --data images {teacher} --set rho=0.7 --student test_efficientnet --size 32 --no-flip --lr 3e-3"
    line += f" --batch-size {BATCH} --epochs {EPOCHS} --warmup-epochs 1 --log-every 1 --trackers '' --run one --quiet"
    assert graphkd(line).code == 0
    lines = [json.loads(each) for each in Path("one/metrics.jsonl").read_text().splitlines()]
    found = [each["loss"] for each in lines if "loss" in each][:UPDATES]
    assert len(found) == UPDATES
    assert found == pytest.approx(losses_by_hand(class_folders, teacher_checkpoint), abs=1e-5)
