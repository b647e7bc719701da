"""transformers' Trainer on a Step: what is logged, scored, saved and resumed."""

import json

import pytest
import torch

from graphkd import Step, TrainConfig, create_student
from graphkd.errors import DataError
from tests.integrations.digits_job import BATCH
from tests.integrations.loops import arguments
from tests.models.hf_models import small
from tests.training import tiny

pytest.importorskip("transformers", reason="pip install 'graphkd[integrations]'")
import transformers

from graphkd.integrations.transformers import DistillationTrainer

OPTIONS = {"per_device_train_batch_size": 8, "num_train_epochs": 2, "learning_rate": 0.01, "max_grad_norm": 1.0}


def made(folder, scored=False, config=None, width=8, **changes):
    torch.manual_seed(0)
    step = Step(tiny.Student(width), tiny.Mimic(width))
    labelled = tiny.views(12, labels=True, seed=4) if scored else None
    args = arguments(folder, **{**OPTIONS, **changes})
    return DistillationTrainer(step, tiny.views(), tiny.teacher, args, scored=labelled, config=config)


def test_losses_are_logged_by_name(tmp_path):
    trainer = made(tmp_path)
    trainer.train()
    lines = [line for line in trainer.state.log_history if "loss" in line]
    assert len(lines) == 10  # 40 images in batches of 8, twice
    for line in lines:
        assert line["loss"] == pytest.approx(line["mimic/ce"] + line["mimic/feature"], rel=1e-6)


def test_with_accumulation_the_log_has_means_and_schedules_count_updates(tmp_path):
    step = Step(tiny.Student(), tiny.Mimic(), tiny.Counting())
    args = arguments(tmp_path, **OPTIONS, gradient_accumulation_steps=2, logging_steps=2)
    trainer = DistillationTrainer(step, tiny.views(), tiny.teacher, args)
    trainer.train()
    for line in [line for line in trainer.state.log_history if "loss" in line]:
        assert {"mimic/ce", "mimic/feature"} <= set(line)
    assert trainer.state.global_step == step.distillers[1].updates == 6


def test_it_scores_the_student(tmp_path):
    trainer = made(tmp_path, scored=True, eval_strategy="epoch")
    trainer.train()
    lines = [line["eval_top1"] for line in trainer.state.log_history if "eval_top1" in line]
    assert len(lines) == 2
    assert trainer.evaluate()["eval_top1"] == lines[-1]
    with pytest.raises(DataError, match=r"give scored=Views\(..., labels=True\)"):
        made(tmp_path).evaluate()


def test_a_checkpoint_resumes_and_has_no_teacher(tmp_path):
    from safetensors.torch import load_file

    config = TrainConfig(lr=0.01)
    whole = made(tmp_path / "whole", config=config, save_strategy="steps", save_steps=3)
    whole.train()
    again = made(tmp_path / "again", config=config)
    again.train(resume_from_checkpoint=str(tmp_path / "whole" / "checkpoint-3"))
    for name, value in whole.model.state_dict().items():
        torch.testing.assert_close(again.model.state_dict()[name], value, rtol=0, atol=0, msg=name)
    kept = load_file(tmp_path / "whole" / "checkpoint-3" / "model.safetensors")
    assert {name.split(".")[0] for name in kept} == {"student", "distillers"}
    alone = load_file(tmp_path / "whole" / "checkpoint-3" / "student.safetensors")
    assert set(alone) == set(tiny.Student().state_dict())


def test_a_student_of_transformers_is_saved_as_transformers_reads_it(job, tmp_path):
    from graphkd import PRGDistiller
    from graphkd.data.sources import source_subset

    student = create_student(f"hf:{small('vit', tmp_path / 'vit')}", 10)
    views = type(job.views)(
        source_subset(job.views.source, range(2 * BATCH)), student=job.views.student, teacher=job.views.teacher
    )
    step = Step(student, PRGDistiller.between(student, job.teacher))
    args = arguments(tmp_path / "out", per_device_train_batch_size=BATCH, num_train_epochs=1)
    trainer = DistillationTrainer(step, views, job.features, args)
    trainer.train()
    trainer.save_model()
    again = transformers.AutoModelForImageClassification.from_pretrained(tmp_path / "out" / "student")
    assert json.loads((tmp_path / "out" / "student" / "config.json").read_text())["model_type"] == "vit"
    for name, value in student.model.state_dict().items():
        assert torch.equal(again.state_dict()[name], value), name
