"""Tiny open_clip models with random weights: no network, no file."""

import copy

import pytest
import torch


@pytest.fixture
def config():
    """Configuration of a tiny two-tower model."""
    return {
        "embed_dim": 32,
        "vision_cfg": {"image_size": 32, "layers": 2, "width": 32, "patch_size": 8, "head_width": 16},
        "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1},
    }


@pytest.fixture
def classes():
    return ["cat", "dog", "traffic light", "aquarium fish", "maple tree"]


@pytest.fixture
def tiny_clip(config):
    """Makes a tiny open_clip model, the same every time; configuration values may be changed."""
    import open_clip

    def make(kind=open_clip.CLIP, **changes):
        torch.manual_seed(0)
        return kind(**copy.deepcopy({**config, **changes})).eval()

    return make


@pytest.fixture(scope="session")
def tokenizer():
    import open_clip

    return open_clip.SimpleTokenizer(context_length=16)


@pytest.fixture
def images():
    return torch.rand(6, 3, 32, 32, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def make_teacher(tiny_clip, tokenizer, classes):
    """CLIPTeacher of a tiny model; every option may be given."""
    from graphkd.teachers.clip import CLIPTeacher

    def make(model=None, **options):
        defaults = {"classes": classes, "templates": ["a photo of a {}.", "a drawing of the {}.", "{}"]}
        return CLIPTeacher(tiny_clip() if model is None else model, **{"tokenizer": tokenizer, **defaults, **options})

    return make


@pytest.fixture
def checkpoint(tiny_clip, tmp_path):
    """A safetensors checkpoint of the tiny model."""
    from safetensors.torch import save_file

    path = tmp_path / "tiny.safetensors"
    save_file(tiny_clip().state_dict(), path)
    return path
