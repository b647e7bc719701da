import torch
from torch.testing import assert_close

from graphkd import functional
from graphkd.distillers.nst import NSTDistiller
from graphkd.features import Features
from tests.distiller_laws import networks


def test_equals_the_function_for_different_channels():
    student, teacher = networks(9)
    found = NSTDistiller(maps={"layer1": "layer2"})(student, teacher).total
    assert_close(found, 50 * functional.nst(student.maps["layer1"], teacher.maps["layer2"]))


def test_order_of_channels_does_not_matter():
    maps = networks(3)[0].maps["layer2"]
    student, teacher = Features(maps={"a": maps.flip(1)}), Features(maps={"a": maps})
    assert_close(NSTDistiller()(student, teacher).total, torch.zeros((), dtype=torch.float64), atol=1e-10, rtol=0)
