"""NaN and infinity in a loss or gradient: the term is named, and the run stops, leaves updates out, or lowers the scale."""

import logging
import os
import signal

import pytest
import torch
from torch import nn

from graphkd.distillers.crg.distiller import CRGDistiller
from graphkd.errors import NonFiniteError, OptionError
from graphkd.features import Features
from graphkd.step import Step, labelled_cross_entropy
from graphkd.training.config import TrainConfig
from graphkd.training.failures import Interrupted
from graphkd.training.loop import Trainer
from graphkd.training.meter import Meter
from graphkd.training.optim import Updater
from graphkd.training.run_folder import read_metrics
from tests.training import tiny

pytestmark = pytest.mark.usefixtures("both_forms")


def test_skip_leaves_the_update_out_and_names_the_term(tmp_path, caplog):
    made = tiny.trainer(tmp_path, poison=3, nonfinite="skip", log_every=1)
    with caplog.at_level(logging.WARNING, "graphkd"):
        result = made.fit()
    assert result.updates == 10
    assert made.at.skipped == 1
    assert "by update 3, 1 were left out: NaN or infinite mimic/feature" in caplog.text
    lines = [line for line in read_metrics(tmp_path / "metrics.jsonl") if "loss" in line]
    assert [line["refused"] for line in lines] == [0, 0, 1] + [0] * 7
    assert lines[2]["mimic/ce"] > 0  # the other term is still reported


@pytest.mark.parametrize("options", [{"gamma": 1.0}, {"spectral_form": "projector"}, {"spectral_form": "spectrum"}])
def test_skip_holds_where_a_spectrum_is_decomposed(tmp_path, options):
    torch.manual_seed(0)
    calls = []

    def features(batch):
        calls.append(batch)
        generator = torch.Generator().manual_seed(len(calls))
        maps = torch.rand(len(batch), 8, 4, 4, generator=generator)
        if len(calls) == 3:
            maps[0, 0, 0, 0] = torch.nan
        return Features(embedding=maps.mean((2, 3)), maps={"body": maps})

    crg = CRGDistiller([(8, 8)], k=2, **options)
    step = Step(tiny.Student(), crg, task=labelled_cross_entropy)
    config = tiny.config(nonfinite="skip", log_every=1)
    made = Trainer(step, tiny.views(labels=True), features, config, tmp_path)
    assert made.fit().updates == 10
    assert made.at.skipped == 1
    assert all(parameter.isfinite().all() for parameter in step.parameters())


def test_skip_is_bounded(tmp_path):
    made = tiny.trainer(tmp_path, nonfinite="skip", max_skips=2, log_every=1, epochs=1)
    plain = made.features

    made.features = lambda batch: plain(batch).map_tensors(lambda x: x * float("inf"))
    with pytest.raises(NonFiniteError, match=r"mimic/ce.* 3 updates were left out by update 3, and max_skips is 2"):
        made.fit()


def test_skip_keeps_batchnorm_clean(tmp_path):
    made = tiny.trainer(tmp_path, nonfinite="skip", epochs=1, ema=0.9)
    norm, seen = made.step.student.body[1], []
    made.step.student.body[0].register_forward_hook(
        lambda module, args, out: seen.append(0) or (out * float("nan") if len(seen) == 2 else out)
    )
    made.fit()
    assert all(value.isfinite().all() for value in made.step.state_dict().values())
    assert norm.num_batches_tracked == 4
    assert all(value.isfinite().all() for value in made.model.state_dict().values())


def test_an_infinite_gradient_of_a_finite_loss_is_left_out(tmp_path):
    made = tiny.trainer(tmp_path, nonfinite="skip", epochs=1, log_every=1)
    seen = []
    made.step.student.head.weight.register_hook(lambda g: seen.append(0) or (g * float("inf") if len(seen) == 2 else g))
    made.fit()
    assert made.at.skipped == 1
    assert all(value.isfinite().all() for value in made.step.state_dict().values())


def test_what_was_left_out_is_remembered_over_a_restart(tmp_path):
    options = {"nonfinite": "skip", "log_every": 3, "checkpoint_every": 1}
    tiny.trainer(tmp_path / "whole", poison=3, **options).fit()
    made = tiny.trainer(tmp_path / "run", poison=3, **options)
    tiny.at_batch(made, 4, lambda: os.kill(os.getpid(), signal.SIGTERM))
    with pytest.raises(Interrupted):
        made.fit()
    tiny.trainer(tmp_path / "run", **options).fit(resume=True)
    tiny.same(*(tiny.end_of(tmp_path / name) for name in ("run", "whole")))
    assert tiny.end_of(tmp_path / "run")["progress"]["skipped"] == 1


def test_stop_can_be_resumed_with_skip(tmp_path):
    with pytest.raises(NonFiniteError, match="nonfinite='skip'"):
        tiny.trainer(tmp_path, poison=8, log_every=1).fit()
    assert tiny.trainer(tmp_path, poison=3, log_every=1, nonfinite="skip").fit(resume=True).updates == 10


def test_lower_scale_halves_it_for_a_broken_term_and_ends_where_no_scale_helps(tmp_path):
    with pytest.raises(OptionError, match=r"needs precision='fp16', found 'no': use 'skip'"):
        TrainConfig(nonfinite="lower_scale")
    config = tiny.config(nonfinite="skip")
    object.__setattr__(config, "nonfinite", "lower_scale")  # fp16 needs a GPU; its scaler does not
    model = nn.Linear(2, 1)
    updater = Updater(model, config, updates=10)
    updater.scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
    meter = Meter("cpu", tolerant=True)
    for term, scale in ((float("nan"), 2.0), (1.0, 2.0), (float("nan"), 1.0), (float("nan"), 0.5)):
        before = model.weight.clone()
        meter.add({"term": torch.tensor(term)})
        updater.backward(model(torch.ones(1, 2)).sum())  # finite gradients, whatever the term
        updater.update(0, meter, lambda flag: flag)
        assert updater.scaler.get_scale() == scale
        assert torch.equal(model.weight, before) == (term != 1.0)
    assert updater.collapsed()
