"""The training loop: what it learns, writes, refuses and compiles."""

import json

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from graphkd.errors import DataError, NonFiniteError, OptionError
from graphkd.step import Step
from graphkd.training.checkpoint import Checkpoints, student_weights
from graphkd.training.loop import Trainer
from graphkd.training.metrics import evaluate
from tests.training import tiny
from tests.training.tiny import Counting, Student, config, lines, teacher, trainer, views


def test_the_student_learns_and_the_run_folder_holds_everything(tmp_path):
    made = trainer(tmp_path, scored=True, epochs=12, lr=0.03)
    before, mimic = evaluate(made.step.student, made.scored).top1, made.step.distillers[0]
    projector = mimic.project.weight.clone()
    result = made.fit()
    assert not torch.equal(projector, mimic.project.weight)
    assert set(mimic.targets) == {None}  # no label is handed out
    assert result.scores.top1 > max(before, 0.9)
    assert result.updates == 12 * 5
    assert json.loads((tmp_path / "config.json").read_text())["lr"] == 0.03
    assert "torch" in json.loads((tmp_path / "environment.json").read_text())["versions"]
    logged = lines(tmp_path)
    losses = [line for line in logged if "loss" in line]
    assert losses[0].keys() == {"update", "epoch", "loss", "mimic/ce", "mimic/feature", "gradient", "lr"}
    assert losses[-1]["loss"] == pytest.approx(losses[-1]["mimic/ce"] + losses[-1]["mimic/feature"])
    assert losses[-1]["loss"] < losses[0]["loss"]
    assert [line["epoch"] for line in logged if "top1" in line] == list(range(1, 13))


def test_a_task_alone_needs_no_teacher(tmp_path):
    torch.manual_seed(0)
    step = Step(Student(), task=nn.functional.cross_entropy)
    options = config(epochs=12, lr=0.03)
    result = Trainer(step, views(labels=True), None, options, tmp_path, scored=views(12, labels=True)).fit()
    assert result.scores.top1 > 0.9
    with pytest.raises(OptionError, match="labels of unmixed images"):
        Trainer(step, views(labels=True), None, config(mixup=0.2), tmp_path)


def test_accumulation_averages_the_batches_of_an_update_even_when_an_epoch_ends_early(tmp_path):
    made = trainer(tmp_path, epochs=1, accumulate=3, log_every=1)  # 5 batches: 3 and 2
    twin = trainer(tmp_path, epochs=1)
    twin.step.student.drop.p = made.step.student.drop.p = 0.0
    batches = list(twin.loader)[:3]
    sum(twin.step(b.student, teacher(b)).total / 3 for b in batches).backward()
    norm = nn.utils.get_total_norm([p.grad for p in twin.step.parameters()])
    assert made.fit().updates == 2
    assert lines(tmp_path)[0]["gradient"] == pytest.approx(float(norm), rel=1e-5)


def test_chunks_give_the_run_of_the_whole_batch_and_the_teacher_is_asked_in_chunks(tmp_path):
    asked, ends = [], []
    for chunk in (None, 3):
        made = trainer(tmp_path / str(chunk), epochs=1, chunk=chunk, mixup=0.4)
        made.step.student.drop.p = 0.0
        made.step.student.body[1] = nn.Identity()
        plain = made.features
        made.features = lambda batch, plain=plain: asked.append(len(batch)) or plain(batch)
        made.fit()
        ends.append(made.step.state_dict())
    assert asked == [8] * 5 + [2, 3, 3] * 5
    assert_close(*ends)


@pytest.mark.parametrize("chunk", [None, 3])
def test_schedules_of_distillers_count_updates(tmp_path, chunk):
    step = Step(Student(), Counting())
    options = config(accumulate=2, chunk=chunk)  # 5 batches make 3 updates
    assert Trainer(step, views(), teacher, options, tmp_path).fit().updates == step.distillers[0].updates == 6


def test_mixing_passes_the_mixture_to_the_distiller(tmp_path):
    made = trainer(tmp_path, epochs=1, mixup=0.4, cutmix=1.0)
    made.fit()
    assert all(((m.share >= 0) & (m.share <= 1)).all() for m in made.step.distillers[0].mixtures)


def test_the_moving_average_is_what_is_scored_and_saved(tmp_path):
    made = trainer(tmp_path, ema=0.9, scored=True)
    result = made.fit()
    assert result.model is made.updater.average.module
    assert not torch.equal(result.model.head.weight, made.step.student.head.weight)
    assert torch.equal(student_weights(tmp_path)["head.weight"], result.model.head.weight)


@pytest.mark.parametrize("scored", [False, True])
def test_fit_leaves_the_step_in_training_mode_and_unwrapped(tmp_path, scored):
    made = trainer(tmp_path, epochs=1, precision="bf16", scored=scored)
    made.fit()
    assert all(part.training for part in made.step.modules())
    assert not vars(made.step).keys() & {"forward", "_original_forward"}  # no autocast left around the user's module


def test_two_runs_of_one_process_may_differ_in_precision(tmp_path):
    exact, rounded = trainer(tmp_path / "a", epochs=1), trainer(tmp_path / "b", epochs=1, precision="bf16")
    assert exact.fit().updates == rounded.fit().updates
    with pytest.raises(OptionError, match="'fp16' needs a GPU") if not torch.cuda.is_available() else pytest.warns():
        trainer(tmp_path / "c", precision="fp16")


def test_a_deterministic_run_gives_the_setting_back(tmp_path):
    assert trainer(tmp_path, epochs=1, deterministic=True).fit().updates == 5
    assert not torch.are_deterministic_algorithms_enabled()


def test_tensorboard_files_are_written(tmp_path):
    trainer(tmp_path, epochs=1, trackers=("tensorboard",)).fit()
    assert list((tmp_path / "tensorboard").rglob("events*"))


def test_progress_tells_every_term_per_epoch(tmp_path, capsys):
    trainer(tmp_path, progress=True, scored=True).fit()
    said = capsys.readouterr().out
    assert "epoch 2/2  mimic/ce" in said
    assert "mimic/feature" in said
    assert "top-1" in said


def test_too_few_images_for_a_batch(tmp_path):
    with pytest.raises(DataError, match="40 samples make no batch of 64"):
        trainer(tmp_path, batch_size=64)


@pytest.mark.parametrize("optimizer", ["adamw", "sgd", "lamb"])
def test_a_loss_of_nan_changes_no_parameter_and_stops_with_the_term_named(tmp_path, optimizer):
    made = trainer(tmp_path, poison=8, checkpoint_every=2, log_every=4, optimizer=optimizer)
    with pytest.raises(NonFiniteError, match=r"mimic/feature became NaN.*by update 8.*update-00000006"):
        made.fit()
    again = trainer(tmp_path, optimizer=optimizer, checkpoint_every=2, log_every=4)  # no poison: from the last good one
    assert again.fit(resume=True).updates == 10


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_a_refused_update_leaves_the_parameters(tmp_path, optimizer):
    made = trainer(tmp_path, poison=1, log_every=1, optimizer=optimizer)
    before = [p.clone() for p in made.step.parameters()]
    with pytest.raises(NonFiniteError):
        made.fit()
    assert all(map(torch.equal, before, made.step.parameters()))
    assert not Checkpoints(tmp_path / "checkpoints").updates()


def test_no_step_waits_for_the_device(tmp_path, monkeypatch):
    made = trainer(tmp_path, epochs=1, log_every=5, ema=0.9, clip=1.0, accumulate=2)
    inside, asked = [False], []

    def watch(owner, name):
        plain = getattr(owner, name)

        def watched(*args, **options):
            inside[0] = True
            try:
                return plain(*args, **options)
            finally:
                inside[0] = False

        monkeypatch.setattr(owner, name, watched)

    def spy(name):
        plain = getattr(torch.Tensor, name)

        def spied(tensor, *args):
            if inside[0]:
                asked.append(name)
            return plain(tensor, *args)

        monkeypatch.setattr(torch.Tensor, name, spied)

    watch(made, "backward")
    watch(made.updater, "update")
    for name in ("item", "tolist", "cpu", "numpy", "nonzero", "__bool__", "__float__", "__int__", "__index__"):
        spy(name)
    made.fit()
    assert asked == []
    inside[0] = True  # the spies do work
    assert bool(torch.ones(1))
    inside[0] = False
    assert asked == ["__bool__"]


@pytest.mark.slow
def test_a_compiled_run_has_the_same_losses(tmp_path):
    found = {}
    for compiled in (False, True):
        trainer = tiny.trainer(tmp_path / str(compiled), compile=compiled, epochs=1, log_every=1)
        trainer.step.student.drop.p = 0.0  # the compiler draws other random numbers
        names = set(trainer.step.state_dict())
        trainer.fit()
        lines = (tmp_path / str(compiled) / "metrics.jsonl").read_text().splitlines()
        found[compiled] = [json.loads(line)["loss"] for line in lines]
        assert set(trainer.step.state_dict()) == names
        assert trainer.step._compiled_call_impl is None
    assert found[True] == pytest.approx(found[False], abs=1e-5)


def test_the_step_is_what_is_compiled(tmp_path, monkeypatch):
    seen = []

    def compiler(model, *given, **options):
        seen.append(model)
        return model

    monkeypatch.setattr(torch, "compile", compiler)
    trainer = tiny.trainer(tmp_path, compile=True, epochs=1)
    trainer.fit()
    assert [each.__self__ for each in seen] == [trainer.step]
