"""The parts of training: options, optimiser and schedule, meter, run folder."""

import json

import numpy as np
import pytest
import torch
from torch import nn, tensor
from torch.testing import assert_close

from graphkd.errors import CheckpointError, NonFiniteError, OptionError
from graphkd.training.config import TrainConfig
from graphkd.training.meter import Display, Meter, check
from graphkd.training.optim import gated_step, make_average, make_optimizer, make_schedule, torch_schedule
from graphkd.training.run_folder import RunFolder, read_metrics
from graphkd.training.state import Progress

# config


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"epochs": 0}, "epochs must be >= 1, found 0"),
        ({"batch_size": 1}, "batch_size must be >= 2, found 1"),
        ({"lr": 0}, "lr must be > 0, found 0"),
        ({"lr": 0.1, "min_lr": 0.2}, "min_lr must be <= lr = 0.1, found 0.2"),
        ({"epochs": 5, "warmup_epochs": 5}, "warmup_epochs must be < epochs = 5, found 5"),
        ({"ema": 1.0}, r"ema must be in \(0, 1\), or None for no moving average, found 1.0"),
        ({"clip": 0.0}, "clip must be > 0, or None for no clipping, found 0.0"),
        ({"mixup": -1.0}, "mixup must be >= 0, found -1.0"),
        ({"epochs": 1.5}, "epochs must be a whole number, found 1.5"),
        ({"chunk": 2.0}, "chunk must be a whole number, found 2.0"),
        ({"log_every": None}, "log_every must be a whole number, found None"),
        ({"seed": True}, "seed must be a whole number, found True"),
        ({"lr": "0.1"}, "lr must be a number, found 0.1"),
        ({"weight_decay": None}, "weight_decay must be a number, found None"),
        ({"log_gradient_shares": -1}, "log_gradient_shares must be >= 0, found -1"),
        ({"precision": "bf61"}, "unknown precision 'bf61'; did you mean 'bf16'"),
    ],
)
def test_options_that_make_no_sense(changes, message):
    with pytest.raises(OptionError, match=message):
        TrainConfig(**changes)


def test_whole_numbers_of_other_libraries_become_pythons():
    config = TrainConfig(epochs=np.int64(3), chunk=np.int32(2))
    assert (type(config.epochs), type(config.chunk)) == (int, int)
    assert json.loads(json.dumps(config.to_dict()))["epochs"] == 3


def test_options_survive_json():
    config = TrainConfig(epochs=3, ema=0.9, trackers=())
    assert TrainConfig(**json.loads(json.dumps(config.to_dict()))) == config


def test_only_options_that_change_the_result_stop_a_resumed_run():
    first = TrainConfig().to_dict()
    TrainConfig.check_resume(first, TrainConfig(workers=4, log_every=1, log_gradient_shares=1).to_dict(), "run")
    with pytest.raises(CheckpointError, match="run was started with other options: epochs was 100, now 3"):
        TrainConfig.check_resume(first, TrainConfig(epochs=3).to_dict(), "run")


# optimiser


class WithException(nn.Module):
    def __init__(self):
        super().__init__()
        self.position, self.head = nn.Parameter(torch.ones(1, 4, 4)), nn.Linear(4, 2)

    def no_weight_decay(self):
        return {"position"}


def test_what_is_not_decayed():
    module = nn.ModuleDict({"student": WithException(), "project": nn.Linear(2, 2)})
    groups = make_optimizer(module, TrainConfig(weight_decay=0.1)).param_groups
    decayed = {id(p) for group in groups if group["weight_decay"] for p in group["params"]}
    assert decayed == {id(module["student"].head.weight), id(module["project"].weight)}
    assert sum(len(group["params"]) for group in groups) == len(list(module.parameters()))


def test_an_unknown_optimizer_gets_a_suggestion():
    with pytest.raises(OptionError, match="unknown optimizer 'adamww'; did you mean 'adamw"):
        make_optimizer(nn.Linear(1, 1), TrainConfig(optimizer="adamww"))


def test_schedule_by_hand():  # 10 updates, 2 of warm-up: thirds up to 0.3, then half a cosine over 8
    config = TrainConfig(epochs=10, warmup_epochs=2, lr=0.3, min_lr=0.1)
    optimizer = make_optimizer(nn.Linear(1, 1), config)
    schedule, rates = make_schedule(optimizer, config, updates=10), []
    for number in range(10):
        schedule.step_update(number)
        rates.append(optimizer.param_groups[0]["lr"])
    assert rates[:3] == pytest.approx([0.1, 0.2, 0.3])
    assert rates[6] == pytest.approx(0.2)  # half way
    assert rates[9] == pytest.approx(0.2 + 0.1 * torch.tensor(7 * torch.pi / 8).cos().item())


@pytest.mark.parametrize("name", ["adam", "adamw", "sgd", "momentum", "lamb", "lion", "rmsprop", "nadamw"])
def test_an_update_is_made_or_refused(name):
    torch.manual_seed(0)
    model, twin = nn.Linear(4, 3), nn.Linear(4, 3)
    twin.load_state_dict(model.state_dict())
    config = TrainConfig(optimizer=name, lr=0.1, weight_decay=0.1)
    gated, plain = make_optimizer(model, config), make_optimizer(twin, config)
    before = model.weight.clone()
    for p in model.parameters():
        p.grad = torch.full_like(p, torch.nan)
    gated_step(gated, tensor(False))
    assert torch.equal(model.weight, before)
    assert all(s.isfinite().all() for state in gated.state.values() for s in state.values() if torch.is_tensor(s))
    gated = make_optimizer(model, config)  # from here on both start alike
    for a, b in zip(model.parameters(), twin.parameters(), strict=True):
        a.grad = torch.randn_like(a)
        b.grad = a.grad.clone()
    gated_step(gated, tensor(True))
    plain.step()
    assert not torch.equal(model.weight, before)
    assert_close(model.weight, twin.weight, rtol=0, atol=0)


@pytest.mark.parametrize("name", ["adamw", "sgd", "lamb"])
def test_training_goes_on_after_a_refused_first_update(name):
    model = nn.Linear(4, 3)
    optimizer = make_optimizer(model, TrainConfig(optimizer=name))
    for finite in (False, True, True):
        for p in model.parameters():
            p.grad = torch.full_like(p, 1.0 if finite else torch.inf)
        before = model.weight.clone()
        gated_step(optimizer, tensor(finite))
        assert model.weight.isfinite().all()
        assert torch.equal(before, model.weight) != finite
        assert (model.weight - before).abs().max() < 0.1  # no garbage as momentum


def test_the_average_holds_batchnorm_statistics_too():
    model = nn.BatchNorm1d(2)
    average = make_average(model, 0.5)
    average.update(model, step=1)
    model.running_mean.fill_(4.0)
    average.update(model, step=50)
    assert 0 < average.module.running_mean[0] < 4


# meter


def test_meter_means_over_window_and_epoch():
    meter = Meter("cpu")
    for value in (1.0, 3.0):
        meter.add({"a": tensor(value)})
    assert meter.peek(lambda values: values) == {"a": 2.0}
    assert meter.read(lambda values: values) == {"a": 2.0}
    meter.add({"a": tensor(8.0)})
    restored = Meter("cpu")
    restored.restore(json_like(meter.state(lambda values: values)))
    assert restored.read(lambda values: values) == {"a": 8.0}
    assert restored.read_epoch() == {"a": 4.0}
    assert meter.read(lambda values: values) == {"a": 8.0}


def json_like(state):
    return state | json.loads(json.dumps({k: state[k] for k in ("names", "counts")}))


def test_one_bad_term_closes_the_gate_until_the_next_update():
    meter = Meter("cpu")
    meter.add({"a": tensor(1.0), "b": tensor(torch.inf)})
    meter.add({"a": tensor(1.0), "b": tensor(1.0)})
    assert not meter.ok
    meter.start()
    assert meter.ok


NAN = float("nan")


@pytest.mark.parametrize(
    ("means", "collapsed", "saved", "message"),
    [
        ({"prg/edge": NAN, "gradient": NAN}, False, "run/x", r"^prg/edge became NaN.* update 9\..*is run/x\."),
        ({"gradient": NAN}, False, None, r"^gradient became NaN.*no checkpoint was due yet"),
        ({"gradient": 0.0}, True, None, r"^gradient became"),
    ],
)
def test_the_broken_term_is_named_and_the_gradient_only_if_no_term_is(means, collapsed, saved, message):
    how = TrainConfig(), collapsed, Progress(update=9), saved
    with pytest.raises(NonFiniteError, match=message):
        check(Meter("cpu"), {"prg/ce": 1.0, **means}, *how)


# run folder


def test_metrics_after_an_update_are_forgotten_and_a_cut_line_too(tmp_path):
    run = RunFolder(tmp_path / "run")
    run.open({"lr": 0.1}, 0)
    for update in (2, 4, 4, 6):
        run.add({"update": update, "epoch": update / 2})
    run.metrics.write_text(run.metrics.read_text() + '{"upda')
    assert len(read_metrics(run.metrics)) == 4
    run.open({"lr": 0.1}, 4)
    assert [line["update"] for line in read_metrics(run.metrics)] == [2, 4, 4]
    run.open({"lr": 0.1}, 0)
    assert read_metrics(run.metrics) == []


def test_a_schedule_of_torch_gives_the_same_rates():
    options = TrainConfig(epochs=5, warmup_epochs=1, min_lr=1e-3, lr=0.1)
    rates = []
    for make in (make_schedule, torch_schedule):
        optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.1)
        schedule, found = make(optimizer, options, 20), []
        for update in range(20):
            if make is make_schedule:
                schedule.step_update(update)
            found.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            if make is torch_schedule:
                schedule.step()
        rates.append(found)
    assert rates[0] == pytest.approx(rates[1], rel=1e-12)


def test_the_seconds_of_an_epochs_line_are_of_the_whole_run(capsys):
    at = Progress(epoch=3, seconds=236.4)
    Display(TrainConfig(epochs=5), 1, at, hidden=False).epoch(at, {"kl": 0.5}, None)
    assert capsys.readouterr().out.strip() == "epoch 3/5  kl 0.5000  236 s in all"
