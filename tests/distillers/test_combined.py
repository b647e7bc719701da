from types import SimpleNamespace

import pytest
import torch
from torch.testing import assert_close

from graphkd.distillers.combined import CombinedDistiller, auto_parts
from graphkd.distillers.dkd import DKDDistiller
from graphkd.distillers.factory import create_distiller
from graphkd.distillers.kd import KDDistiller
from graphkd.distillers.rkd import RKDDistiller
from graphkd.errors import OptionError
from graphkd.features import Features
from tests.distiller_laws import beside, networks


def test_weighted_sum_under_the_names_of_the_parts():
    student, teacher = networks(9)
    combined = CombinedDistiller({"soft": KDDistiller(), "pairs": RKDDistiller()}, weights={"pairs": 0.5})
    losses = combined(student, teacher)
    assert set(losses) == {"soft/kl", "pairs/distance", "pairs/angle"}
    expected = KDDistiller()(student, teacher).total + 0.5 * RKDDistiller()(student, teacher).total
    assert_close(losses.total, expected)


def test_by_name_with_options():
    student, teacher = networks(9)
    parts = {"dkd": {"beta": 2.0}, "rkd": {"angle_weight": 0.0}}
    combined = create_distiller("combined", student, teacher, parts=parts, weights={"rkd": 3.0})
    assert combined.active_inputs == {"target"}
    losses = combined(student, teacher, **beside(9))
    expected = DKDDistiller(beta=2.0)(student, teacher, **beside(9)).total
    assert_close(losses.total, expected + 3 * RKDDistiller(angle_weight=0.0)(student, teacher).total)


def test_a_part_of_weight_zero_is_left_out():
    parts = {"kd": KDDistiller(), "rkd": RKDDistiller()}
    assert list(CombinedDistiller(parts, weights={"rkd": 0.0}).parts) == ["kd"]


def test_without_parts_it_is_the_sum_that_the_evidence_prefers():
    student, teacher = networks(9, torch.float32)
    losses = create_distiller("combined", student, teacher)(student, teacher)
    assert set(losses) == {"kd/kl", "mimic/ce", "mimic/feature"}
    backbone, seen = Features(student.embedding), Features(teacher.embedding)
    assert set(create_distiller("combined", backbone, seen)(backbone, seen)) == {"mimic/feature"}


def test_no_parts_at_all_are_an_error():
    with pytest.raises(OptionError, match="needs a part of weight > 0"):
        create_distiller("combined", *networks(9), parts={})


@pytest.mark.parametrize(("by_text", "temperature"), [(True, 8.0), (False, 1.0)])
def test_the_temperature_is_the_teachers(by_text, temperature):
    student, _ = networks(9)
    assert auto_parts(student, SimpleNamespace(by_text=by_text))["kd"] == {"weight": 1.0, "temperature": temperature}
