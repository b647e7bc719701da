"""open_clip's models that lie in one folder or repository."""

import shutil

import pytest
import torch

from graphkd import CLIPTeacher
from graphkd.errors import TeacherError
from tests.main_job import digits, teacher_checkpoint

__all__ = ["digits", "teacher_checkpoint"]


@pytest.fixture
def local(tmp_path, teacher_checkpoint):
    shutil.copy(teacher_checkpoint.with_name("config.json"), tmp_path / "open_clip_config.json")
    shutil.copy(teacher_checkpoint, tmp_path / "open_clip_model.safetensors")
    return tmp_path


def same(teacher, teacher_checkpoint):
    config = teacher_checkpoint.with_name("config.json")
    plain = CLIPTeacher(config, pretrained=teacher_checkpoint, classes=["one", "two"], templates="photo")
    images = torch.rand(2, 3, 32, 32)
    assert torch.equal(teacher(images).logits, plain(images).logits)
    assert teacher.fingerprint() == plain.fingerprint()


def test_a_folder(local, teacher_checkpoint):
    same(CLIPTeacher(f"local-dir:{local}", classes=["one", "two"], templates="photo"), teacher_checkpoint)


def test_a_repository(local, teacher_checkpoint, monkeypatch):
    asked = []

    def download(repository, name):
        asked.append((repository, name))
        return str(local / name)

    monkeypatch.setattr("huggingface_hub.hf_hub_download", download)
    same(CLIPTeacher("hf-hub:org/model", classes=["one", "two"], templates="photo"), teacher_checkpoint)
    assert asked == [("org/model", "open_clip_config.json"), ("org/model", "open_clip_model.safetensors")]


def test_what_is_missing_is_named(local, monkeypatch):
    (local / "open_clip_model.safetensors").unlink()
    with pytest.raises(
        TeacherError, match=r"needs open_clip_config.json and .* in one folder, found open_clip_config.json"
    ):
        CLIPTeacher(f"local-dir:{local}", classes=["one"])
    with pytest.raises(TeacherError, match="brings its own weights: leave pretrained= out"):
        CLIPTeacher(f"local-dir:{local}", pretrained="openai", classes=["one"])
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(
        TeacherError, match=r"is not on this machine and could not be downloaded: .* give local-dir:folder"
    ):
        CLIPTeacher("hf-hub:nobody/nothing", classes=["one"])
