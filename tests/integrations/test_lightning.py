"""Lightning's module and callback: what is logged, kept and refused."""

import pytest
import torch
from torch import nn

from graphkd import Step, TrainConfig
from graphkd.errors import DistributedError, GraphKDError
from tests.integrations.digits_job import BATCH
from tests.integrations.loops import lightning_trainer
from tests.training import tiny

pytest.importorskip("lightning", reason="pip install 'graphkd[integrations]'")
import lightning
from lightning.pytorch.callbacks import LambdaCallback

from graphkd.integrations.lightning import DistillationCallback, DistillationModule


@pytest.fixture
def fit(tmp_path):
    def run(module, loader, epochs=1, resume=None, **options):
        trainer = lightning_trainer(tmp_path, epochs, **options)
        trainer.fit(module, loader, ckpt_path=resume, weights_only=None if resume is None else False)
        return trainer

    return run


def step():
    torch.manual_seed(0)
    return Step(tiny.Student(), tiny.Mimic())


def test_losses_are_logged_by_name(fit):
    trainer = fit(DistillationModule(step(), tiny.teacher), tiny.views().loader(8))
    assert set(trainer.callback_metrics) == {"loss", "mimic/ce", "mimic/feature"}
    terms = trainer.callback_metrics
    assert terms["loss"] == pytest.approx(terms["mimic/ce"] + terms["mimic/feature"])


def test_schedules_of_distillers_count_updates(fit):
    step = Step(tiny.Student(), tiny.Counting())
    trainer = fit(DistillationModule(step, tiny.teacher), tiny.views().loader(8), epochs=2, accumulate_grad_batches=2)
    assert trainer.global_step == step.distillers[0].updates == 6


def test_a_checkpoint_has_student_and_distillers_and_no_teacher(fit, tmp_path):
    teacher = nn.Linear(1, 1)
    teacher.forward = tiny.teacher
    module = DistillationModule(step(), teacher)
    trainer = fit(module, tiny.views().loader(8))
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    kept = torch.load(tmp_path / "last.ckpt", weights_only=True)["state_dict"]
    assert {name.split(".")[1] for name in kept} == {"student", "distillers"}
    assert len(kept) == len(step().state_dict())
    assert len(list(module.parameters())) == len(list(step().parameters()))


def test_a_resumed_run_ends_with_the_same_weights(fit, tmp_path):
    def module():
        made = DistillationModule(step(), tiny.teacher, TrainConfig(lr=0.01))
        made.step.student.drop.p = 0  # Lightning keeps no random state
        return made

    def keep(trainer, pl_module):
        if trainer.current_epoch == 1:
            trainer.save_checkpoint(tmp_path / "second.ckpt")

    whole, again = module(), module()
    fit(whole, tiny.views().loader(8), epochs=3, callbacks=[LambdaCallback(on_train_epoch_end=keep)])
    fit(again, tiny.views().loader(8), epochs=3, resume=tmp_path / "second.ckpt")
    for name, value in whole.state_dict().items():
        torch.testing.assert_close(again.state_dict()[name], value, rtol=0, atol=0, msg=name)


def test_the_order_is_the_epochs(fit):
    seen = []
    keep = LambdaCallback(on_train_batch_start=lambda trainer, module, batch, i: seen.append(batch.index.tolist()))
    fit(DistillationModule(step(), tiny.teacher), tiny.views().loader(8), epochs=2, callbacks=[keep])
    loader = tiny.views().loader(8)
    expected = [batch.index.tolist() for batch in loader]
    loader.batch_sampler.set_epoch(1)
    assert seen == expected + [batch.index.tolist() for batch in loader]


def test_options_of_the_trainer_count(fit):
    module = DistillationModule(step(), tiny.teacher, TrainConfig(freeze=("body",), chunk=4, lr=0.5, min_lr=0.1))
    before = module.student.body[0].weight.clone()
    trainer = fit(module, tiny.views().loader(8), epochs=2)
    assert torch.equal(module.student.body[0].weight, before)
    assert module.step.chunk == 4
    assert trainer.optimizers[0].param_groups[0]["lr"] == pytest.approx(0.1)  # the cosine's end


def test_a_loader_that_gives_each_rank_the_same_samples_is_refused(fit, monkeypatch):
    module = DistillationModule(step(), tiny.teacher)
    with pytest.raises(
        DistributedError, match=r"this is rank 0 of 1, .* rank 1 of 2: make it by views.loader\(..., rank=0, world=1\)"
    ):
        fit(module, tiny.views().loader(8, rank=1, world=2))


class Own(lightning.LightningModule):
    """A module as people write them: supervised loss and distillation in one step."""

    def __init__(self, job):
        super().__init__()
        self.step = job.step()
        self.net = self.step.student
        self.job = [job]

    def training_step(self, batch, batch_idx):
        return self.step(batch.student, self.job[0].features(batch)).total

    def configure_optimizers(self):
        return torch.optim.AdamW(self.step.parameters(), lr=1e-3)


def test_the_callback_scores_and_exports_in_a_module_of_ones_own(fit, job, tmp_path):
    import timm

    callback = DistillationCallback("net", scored=job.scored, export=tmp_path / "out" / "net.safetensors")
    module = Own(job)
    trainer = fit(module, job.views.loader(BATCH), callbacks=[callback], limit_train_batches=2)
    assert callback.scores.images == 64
    assert trainer.callback_metrics["val/top1"] == pytest.approx(callback.scores.top1)
    assert module.net.training
    again = timm.create_model(
        "test_efficientnet", num_classes=10, checkpoint_path=str(tmp_path / "out" / "net.safetensors")
    )
    assert all(torch.equal(value, module.net.model.state_dict()[name]) for name, value in again.state_dict().items())


def test_the_callback_names_the_parts_where_there_is_no_student(fit, job):
    with pytest.raises(GraphKDError, match="Own has no student at 'student': give its path, one of step, net"):
        fit(Own(job), job.views.loader(BATCH), callbacks=[DistillationCallback()])
