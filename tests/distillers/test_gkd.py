import pytest
import torch
from torch.testing import assert_close

from graphkd import functional
from graphkd.distillers.gkd import GKDDistiller
from graphkd.errors import MissingFeatureError, OptionError, UnknownNameError
from tests.distiller_laws import beside, networks


@pytest.mark.parametrize(("power", "neighbors"), [(1, None), (3, None), (2, 3), (1, 100)])
def test_equals_the_function_in_the_mean_of_the_maps(power, neighbors):
    student, teacher = networks(9)
    parts = [
        functional.gkd(student.maps[name], teacher.maps[name], power=power, neighbors=neighbors)
        for name in ("layer1", "layer2")
    ]
    found = GKDDistiller(power=power, neighbors=neighbors)(student, teacher).total
    assert_close(found, 25 * sum(parts) / 2)


def test_edges_within_and_between_classes_add_up():
    student, teacher = networks(9)
    losses = {
        among: GKDDistiller(among=among)(student, teacher, **beside(9)).total for among in ("all", "same", "other")
    }
    assert_close(losses["same"] + losses["other"], losses["all"])
    assert 0 < losses["same"] < losses["all"]


def test_bad_input_is_named():
    student, teacher = networks(4)
    with pytest.raises(OptionError, match="whole numbers >= 1, found 0 and None"):
        GKDDistiller(power=0)
    with pytest.raises(UnknownNameError, match="unknown set of edges 'sames'; did you mean 'same'"):
        GKDDistiller(among="sames")
    with pytest.raises(MissingFeatureError, match="among='same' needs target"):
        GKDDistiller(among="same")(student, teacher)


def test_degrees_below_zero_stay_finite():
    student, teacher = networks(2)
    opposite = torch.cat([student.maps["layer1"][:1], -student.maps["layer1"][:1]]).requires_grad_()
    maps = type(student)(maps={"layer1": opposite})
    GKDDistiller(maps={"layer1": "layer1"})(maps, teacher).total.backward()
    assert opposite.grad.isfinite().all()
