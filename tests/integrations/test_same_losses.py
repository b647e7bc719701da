"""One job, five loops: the plain one, Trainer, the command line, Lightning and transformers give the same 50 losses."""

from pathlib import Path

import pytest
import torch

from graphkd import Trainer
from graphkd.training.optim import make_optimizer, make_schedule
from tests.integrations.digits_job import BATCH, EPOCHS, UPDATES, command, config
from tests.integrations.loops import arguments, lightning_trainer
from tests.training.tiny import lines


@pytest.fixture(scope="module")
def plain(job):
    """Losses of a loop of a dozen lines."""
    step, loader, options = job.step(), job.views.loader(BATCH), config()
    optimizer = make_optimizer(step, options)
    schedule = make_schedule(optimizer, options, EPOCHS * len(loader))
    torch.manual_seed(0)
    found = []
    for epoch in range(EPOCHS):
        loader.batch_sampler.set_epoch(epoch)
        for batch in loader:
            losses = step(batch.student, job.features(batch))
            losses.total.backward()
            schedule.step_update(len(found))
            optimizer.step()
            optimizer.zero_grad()
            found.append(losses.total.item())
    assert len(found) > UPDATES > len(loader)  # into the second epoch
    assert found[-1] < found[0]
    return found[:UPDATES]


def logged(run):
    return [each["loss"] for each in lines(Path(run)) if "loss" in each][:UPDATES]


def test_trainer(job, plain, tmp_path):
    Trainer(job.step(), job.views, job.features, config(), tmp_path).fit()
    assert logged(tmp_path) == pytest.approx(plain, abs=1e-5)


def test_command_line(plain, graphkd, teacher):
    graphkd(command(teacher))
    assert logged("one") == pytest.approx(plain, abs=1e-5)


def test_lightning(job, plain, tmp_path):
    pytest.importorskip("lightning", reason="pip install 'graphkd[integrations]'")
    from lightning.pytorch.callbacks import LambdaCallback

    from graphkd.integrations.lightning import DistillationModule

    found = []
    keep = LambdaCallback(on_train_batch_end=lambda *given: found.append(given[2]["loss"].item()))
    made = lightning_trainer(tmp_path, EPOCHS, callbacks=[keep])
    made.fit(DistillationModule(job.step(), job.features, config()), job.views.loader(BATCH))
    assert found[:UPDATES] == pytest.approx(plain, abs=1e-5)


def test_transformers(job, plain, tmp_path):
    pytest.importorskip("transformers", reason="pip install 'graphkd[integrations]'")
    from graphkd.integrations.transformers import DistillationTrainer

    args = arguments(tmp_path, per_device_train_batch_size=BATCH, num_train_epochs=EPOCHS)
    trainer = DistillationTrainer(job.step(), job.views, job.features, args, config=config())
    trainer.train()
    found = [each["loss"] for each in trainer.state.log_history if "loss" in each][:UPDATES]
    assert found == pytest.approx(plain, abs=1e-5)
