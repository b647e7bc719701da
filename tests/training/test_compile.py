"""``compile=True``: the losses are those of the uncompiled run, and nothing of it stays in the user's module."""

import json

import pytest
import torch

from tests.training import tiny


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
