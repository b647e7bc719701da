"""A CLIP by name or by file, found and checked without open_clip."""

import pytest

from graphkd.errors import TeacherError, UnknownNameError
from graphkd.teachers.clip import CLIPTeacher
from graphkd.teachers.clip_files import clip_files, require_clip
from tests.main_job import digits, teacher_checkpoint

__all__ = ["digits", "teacher_checkpoint"]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("a/config.json", "a/model.safetensors", "two/config.json", "two/x.pt", "two/y.pt", "alone/model.pt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("{}")
    return tmp_path


def test_configuration_and_weights_find_each_other(folder):
    config, weights = clip_files("a/config.json")
    assert (str(config), weights) == ("a/config.json", "a/model.safetensors")
    assert clip_files("a/model.safetensors") == (config, "a/model.safetensors")
    assert clip_files("a/config.json", "b.pt") == ("a/config.json", "b.pt")
    assert clip_files("two/config.json") == ("two/config.json", None)  # which one, nobody knows
    assert clip_files("ViT-B-32", "openai") == ("ViT-B-32", "openai")


@pytest.mark.parametrize(
    ("asked", "error", "message"),
    [
        (("a",), TeacherError, "a is a folder, and no run folder"),
        (("alone/model.pt",), TeacherError, "there is no open_clip_config.json or config.json beside it"),
        (("two/config.json",), TeacherError, "two/config.json has no weights yet"),
        (("a/config.json", "b.pt"), TeacherError, "there is no file 'b.pt'"),
        (("runs/photos-9",), TeacherError, "there is no file or folder 'runs/photos-9': give the path"),
        (("weights.safetensors",), TeacherError, "there is no file or folder 'weights.safetensors'"),
        (("ViT-B/23", "openai"), UnknownNameError, "unknown open_clip model 'ViT-B-23'; did you mean 'ViT-B-32'"),
        (("ViT-B-32",), TeacherError, r"'ViT-B-32' has no weights yet: give pretrained= a tag \(openai, "),
        (("ViT-B-32", "opnai"), UnknownNameError, "unknown pretrained tag of ViT-B-32 'opnai'; did you mean 'openai'"),
        (("ViT-B-32", "a"), TeacherError, "pretrained='a' is a folder: give the checkpoint file in it"),
    ],
)
def test_what_is_not_there_is_refused(folder, asked, error, message):
    with pytest.raises(error, match=message):
        require_clip(*[*asked, None][:2])


@pytest.mark.parametrize("asked", [("ViT-B/32", "openai"), ("ViT-B-32", "laion2b-e16"), ("a/config.json", None)])
def test_what_is_there_passes(folder, asked):
    require_clip(*asked)


def test_a_teacher_finds_the_weights_beside_its_configuration(teacher_checkpoint):
    config = teacher_checkpoint.with_name("config.json")
    found = CLIPTeacher(config, classes=["one", "two"], templates="photo").fingerprint()
    same = CLIPTeacher(config, pretrained=teacher_checkpoint, classes=["one", "two"], templates="photo")
    assert found == same.fingerprint()
