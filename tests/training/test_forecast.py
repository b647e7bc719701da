"""What a run would cost: measured updates, nothing written."""

import pytest

from graphkd.errors import OptionError
from graphkd.training.forecast import Forecast, forecast
from tests.training.tiny import trainer


def test_a_few_updates_are_measured_and_nothing_is_written(tmp_path):
    made = trainer(tmp_path / "run", scored=True)
    found = forecast(made)
    assert list(tmp_path.iterdir()) == []
    assert found.updates == made.updates == 10  # 40 images in batches of 8, twice
    assert set(found.terms) == {"mimic/ce", "mimic/feature"}
    assert found.device == "cpu"
    assert found.parameters == sum(each.numel() for each in made.step.student.parameters())
    assert min(found.reading, found.teaching, found.learning, found.scoring) > 0
    assert found.memory > 1 << 20
    weights = sum(each.numel() for each in made.step.parameters())
    assert found.disk > 3 * 4 * 3 * weights  # three checkpoints of weights and two moments, in float32
    with pytest.raises(OptionError, match="made a forecast, and its student has moved: make another one"):
        made.fit()


def test_accumulated_batches_are_one_update(tmp_path):
    assert forecast(trainer(tmp_path / "run", accumulate=3)).updates == 4  # of 3 and 2 batches an epoch


def test_seconds_by_hand():
    parts = {"memory": None, "available": None, "disk": 0, "parameters": 1, "device": "cpu", "terms": ()}
    found = Forecast(updates=10, reading=1.0, teaching=2.0, learning=3.0, scoring=20.0, **parts)
    assert found.seconds() == 10 * 6 + 20
    assert found.seconds(teaching=False) == 10 * 4 + 20
    assert found.seconds(updates=5) == 5 * 6 + 10
