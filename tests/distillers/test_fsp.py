import pytest
import torch
from torch.testing import assert_close

from graphkd import functional
from graphkd.distillers.fsp import FSPDistiller
from graphkd.errors import ShapeError
from graphkd.features import Features
from tests.distiller_laws import networks


def test_equals_the_function():
    student, teacher = networks(9)
    student = Features(maps={"a": student.maps["layer1"], "b": student.maps["layer2"]})
    teacher = Features(maps={"a": teacher.maps["layer1"], "b": teacher.maps["layer2"][:, :, :2, :2]})
    expected = 50 * functional.fsp(list(student.maps.values()), list(teacher.maps.values()))
    assert_close(FSPDistiller()(student, teacher).total, expected)


def test_bad_input_is_named():
    student, teacher = networks(4)
    with pytest.raises(ShapeError, match="two maps or more, found 1"):
        FSPDistiller(maps={"layer1": "layer1"})(student, teacher)
    wide = Features(maps={"layer1": torch.zeros(4, 6, 4, 4), "layer2": torch.zeros(4, 20, 2, 2)})
    with pytest.raises(ShapeError, match="found 6 of the student and 10 of the teacher.*NST"):
        FSPDistiller()(wide, teacher)
