"""Each term's share of the gradient: by hand, in a run, and that a run does not notice."""

import math
from types import SimpleNamespace

import pytest
import torch
from torch import tensor
from torch.testing import assert_close

from graphkd.errors import OptionError
from graphkd.step import Step
from graphkd.training.config import TrainConfig
from graphkd.training.devices import prepare_step
from graphkd.training.gradient_shares import gradient_shares
from graphkd.training.loop import Trainer
from tests.training.tiny import (
    HARD,
    Counting,
    Mimic,
    Student,
    config,
    end_of,
    lines,
    same,
    teacher,
    trainer,
    views,
)


def parameter(*values):
    return torch.nn.Parameter(tensor(values))


def test_shares_by_hand():
    x, own = parameter(1.0, 2.0), parameter(7.0)  # gradients at x: (3, 4) of norm 5, and (0, 15)
    losses = {"a": (tensor([3.0, 4.0]) * x).sum() + 100 * own.sum(), "b": 15 * x[1]}
    assert gradient_shares(losses, [x, own]) == pytest.approx({"a": 0.25, "b": 0.75})


def test_a_term_that_reaches_nothing_has_no_share():
    x, frozen = parameter(1.0), parameter(1.0).requires_grad_(False)
    losses = {"a": x.sum(), "constant": tensor(3.0), "other": parameter(2.0).sum(), "frozen": frozen.sum()}
    assert gradient_shares(losses, [x, frozen]) == {"a": 1, "constant": 0, "other": 0, "frozen": 0}


def test_where_no_term_pulls_there_are_no_shares():
    x = parameter(0.0)
    assert gradient_shares({"a": x.square().sum(), "b": 0 * x.sum()}, [x]) == {"a": 0, "b": 0}
    assert gradient_shares({"a": tensor(1.0)}, []) == {"a": 0}


def test_a_nan_goes_out():
    x = parameter(1.0)
    shares = gradient_shares({"a": x.sum(), "b": x.sum() * math.nan}, [x])
    assert all(map(math.isnan, shares.values()))


def test_terms_without_a_common_parameter_are_refused():
    x, y = parameter(1.0), parameter(1.0)
    with pytest.raises(OptionError, match="the terms a, b reach no parameter in common.* log_gradient_shares=0"):
        gradient_shares({"a": x.sum(), "b": y.sum()}, [x, y])


def test_the_losses_can_go_backward_afterwards():
    x = parameter(1.0, 2.0)
    loss = x.square().sum()
    gradient_shares({"a": loss}, [x])
    assert x.grad is None
    loss.backward()
    assert x.grad.tolist() == [2, 4]


def test_a_run_logs_the_shares_of_its_updates(tmp_path):
    made = trainer(tmp_path, epochs=1, log_gradient_shares=2, log_every=5)
    made.step.student.drop.p = 0.0
    twin = trainer(tmp_path / "twin", epochs=1)
    twin.step.student.drop.p = 0.0
    made.fit()
    logged = [line for line in lines(tmp_path) if "gradient_share/mimic/ce" in line]
    assert [line["update"] for line in logged] == [2, 4]
    assert all(
        line.keys() == {"update", "epoch", "gradient_share/mimic/ce", "gradient_share/mimic/feature"} for line in logged
    )
    first, second = list(twin.loader)[:2]
    twin.updater.backward(twin.step(first.student, teacher(first)).total)
    twin.updater.update(0, twin.meter, lambda flag: flag)
    losses = twin.step(second.student, teacher(second))
    gradients = [
        torch.autograd.grad(loss, [*twin.step.student.body.parameters()], retain_graph=True) for loss in losses.values()
    ]
    norms = torch.stack([torch.nn.utils.get_total_norm(each) for each in gradients])
    assert_close(tensor([*logged[0].values()][2:]), norms / norms.sum())


@pytest.mark.parametrize("changes", [{}, {"chunk": 3}, {"precision": "bf16"}])
def test_a_run_does_not_notice_that_it_is_asked(tmp_path, changes):
    for every in (0, 2):
        torch.manual_seed(0)
        step = Step(Student(), Mimic(), Counting())
        options = {**HARD, "workers": 0, "log_gradient_shares": every, **changes}
        del options["scored"]
        Trainer(step, views(), teacher, config(**options), tmp_path / str(every)).fit()
    plain, asked = (end_of(tmp_path / each) for each in ("0", "2"))
    assert asked["options"].pop("log_gradient_shares") == 2
    del plain["options"]["log_gradient_shares"]
    same(plain, asked)
    shares = [line for line in lines(tmp_path / "2") if "gradient_share/mimic/ce" in line]
    assert [line["update"] for line in shares] == [2, 4, 6, 8]
    assert [line for line in lines(tmp_path / "2") if line not in shares] == lines(tmp_path / "0")
    assert all(sum(list(line.values())[2:]) == pytest.approx(1) for line in shares)


def test_where_a_term_has_no_gradient_of_its_own_it_is_refused():
    with pytest.raises(OptionError, match="a compiled step has one for all of them: set compile=False"):
        TrainConfig(compile=True, log_gradient_shares=10)
    with pytest.raises(OptionError, match="needs whole parameters, and these are sharded: use DDP, or set it to 0"):
        prepare_step(Step(Student(), Mimic()), config(log_gradient_shares=10, shard=True), SimpleNamespace(world=2))
