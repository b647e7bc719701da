"""Loading of open_clip's models: names, files, folders, repositories, and what cannot be loaded."""

import json
import logging
import shutil
from pathlib import Path

import pytest
import torch
from torch.testing import assert_close

from graphkd.errors import TeacherError, UnknownNameError
from graphkd.teachers.clip import CLIPTeacher
from tests.main_job import digits, teacher_checkpoint

__all__ = ["digits", "teacher_checkpoint"]


def quick(teacher):
    return any(type(module).__name__ == "QuickGELU" for module in teacher._model.modules())


@pytest.mark.parametrize("form", ["dictionary", "path", "text path", "open_clip_config.json"])
def test_configuration_and_checkpoint(make_teacher, config, checkpoint, classes, images, tmp_path, form):
    path = tmp_path / "model.json"
    preprocess = {"mean": [0.5] * 3, "std": [0.25] * 3, "resize_mode": "squash"}
    inner = form == "open_clip_config.json"
    path.write_text(json.dumps({"model_cfg": config, "preprocess_cfg": preprocess} if inner else config))
    model = {"dictionary": config, "text path": str(path)}.get(form, path)
    teacher = CLIPTeacher(model, pretrained=checkpoint, classes=classes, templates="photo")
    expected = make_teacher(templates="photo", preprocess=preprocess if inner else None)
    assert_close(teacher(images).logits, expected(images).logits)
    assert teacher.fingerprint() == expected.fingerprint()


@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.", "module._orig_mod.model."])
@pytest.mark.parametrize("key", ["state_dict", "model_ema"])
def test_torch_checkpoint(make_teacher, tiny_clip, config, classes, images, tmp_path, prefix, key):
    path = tmp_path / "model.pt"
    torch.save({key: {f"{prefix}{k}": v for k, v in tiny_clip().state_dict().items()}, "epoch": 3}, path)
    teacher = CLIPTeacher(config, pretrained=str(path), classes=classes, templates="photo")
    assert_close(teacher(images).logits, make_teacher(templates="photo")(images).logits)


@pytest.mark.parametrize(
    ("argument", "said", "expected"), [(None, True, True), (None, False, False), (True, False, True)]
)
def test_quick_gelu_of_a_file(config, checkpoint, classes, argument, said, expected):
    model = {**config, "quick_gelu": said}
    before = json.dumps(model)
    assert quick(CLIPTeacher(model, pretrained=checkpoint, classes=classes, quick_gelu=argument)) is expected
    assert json.dumps(model) == before


@pytest.fixture
def listed(monkeypatch, config, checkpoint):
    """open_clip knows a model "tiny" with two tags, whose weights are on disk."""
    import open_clip.factory
    import open_clip.pretrained

    base = {"mean": (0.5,) * 3, "std": (0.5,) * 3, "interpolation": "bilinear", "resize_mode": "squash"}
    tags = {
        "openai": {"file": str(checkpoint), "hf_hub": "org/tiny/", "url": "u", "quick_gelu": True, **base},
        "laion": {"url": "https://example.org/tiny.pt", **base, "mean": (0.4,) * 3},
    }
    monkeypatch.setitem(open_clip.factory._MODEL_CONFIGS, "tiny", config)
    monkeypatch.setitem(open_clip.pretrained._PRETRAINED, "tiny", tags)
    return tags


def test_a_tag_brings_its_activation_and_preprocessing(listed, classes):
    teacher = CLIPTeacher("tiny", pretrained="openai", classes=classes, templates="photo")
    assert quick(teacher)
    spec = {"size": [32, 32], "mean": [0.5] * 3, "std": [0.5] * 3, "interpolation": "bilinear", "resize_mode": "squash"}
    assert teacher.preprocess.spec == spec | {"pixels": "Pillow's"}
    assert not quick(CLIPTeacher("tiny", pretrained="openai", classes=classes, templates="photo", quick_gelu=False))


def test_a_file_for_a_listed_model(listed, checkpoint, classes, caplog):
    with caplog.at_level(logging.WARNING, logger="graphkd"):
        teacher = CLIPTeacher("tiny", pretrained=checkpoint, classes=classes, templates="photo")
    assert "some weights of this model need quick_gelu=True and a file does not say so; using False" in caplog.text
    spec = teacher.preprocess.spec  # what all tags agree on, and open_clip's default where they do not
    assert (spec["std"], spec["resize_mode"], spec["mean"][0]) == ([0.5] * 3, "squash", 0.48145466)


@pytest.mark.parametrize(
    ("tag", "message"),
    [
        (
            "openai",
            r"not on this machine, and huggingface.co cannot be reached: download https://huggingface.co/org/tiny/",
        ),
        (
            "openai",
            r"/open_clip_model.safetensors where there is a network, put .* CLIPTeacher\('tiny', pretrained='/path/to/file', quick_gelu=True",
        ),
        ("laion", r"download https://example.org/tiny.pt where .*pretrained='/path/to/file'\)"),
    ],
)
def test_no_network(listed, monkeypatch, classes, tag, message):
    def fail(*args, **options):
        raise OSError("no route")

    monkeypatch.setattr("open_clip.download_pretrained", fail)
    monkeypatch.setattr("graphkd.models.hub.reachable", lambda: False)
    with pytest.raises(TeacherError, match=message):
        CLIPTeacher("tiny", pretrained=tag, classes=classes)


def test_timm_image_tower(config, tiny_clip, classes, tmp_path):
    config["vision_cfg"] = {"timm_model_name": "resnetv2_18", "timm_pool": "avg", "image_size": 32}
    path = tmp_path / "timm.pt"
    torch.save(tiny_clip(vision_cfg=config["vision_cfg"]).state_dict(), path)
    teacher = CLIPTeacher(config, pretrained=path, classes=classes, templates="photo")
    features = teacher(torch.rand(2, 3, 40, 60))
    assert (teacher.preprocess.size, features.embedding.shape) == ((32, 32), (2, 32))


def test_siglip_configuration(config, tiny_clip, classes, images, tmp_path):
    import open_clip

    changes = {"init_logit_bias": -10.0, "init_logit_scale": 2.3}
    changes["text_cfg"] = {**config["text_cfg"], "no_causal_mask": True, "pool_type": "last", "proj_bias": True}
    path = tmp_path / "siglip.pt"
    torch.save(tiny_clip(open_clip.CustomTextCLIP, **changes).state_dict(), path)
    teacher = CLIPTeacher({**config, **changes, "custom_text": True}, pretrained=path, classes=classes)
    assert teacher.logit_bias == -10.0
    assert teacher(images).logits.shape == (6, 5)


def broken(checkpoint):
    path = checkpoint.with_name("broken.safetensors")
    path.write_bytes(checkpoint.read_bytes()[:-100])
    return path


def written(checkpoint, text):
    path = checkpoint.with_name("model.json")
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("model", "pretrained", "message"),
    [
        (lambda c, w: "ViT-B-33", "openai", r"'ViT-B-33'; did you mean 'ViT-B-32'\? Known: .*ViT-L-14"),
        (
            lambda c, w: "ViT-B/32",
            "opnai",
            r"pretrained tag of ViT-B-32 'opnai'; did you mean 'openai'\? Known: openai",
        ),
        (lambda c, w: c, None, "the given configuration has no weights yet: .* the path of a checkpoint"),
        (lambda c, w: "RN101", None, r"'RN101' has no weights yet: give pretrained= a tag \(openai, yfcc15m\)"),
        (lambda c, w: "RN101", "a/none.pt", r"there is no file 'a/none.pt': .* or a tag of RN101 \(openai, yfcc15m\)"),
        (lambda c, w: c, "openai", "there is no file 'openai': give pretrained= the path of a checkpoint$"),
        (lambda c, w: c, Path, "is a folder: give the checkpoint file in it"),
        (lambda c, w: w.with_name("none.json"), "x", r"cannot read the model configuration \S+none.json"),
        (lambda c, w: written(w, "[1]"), "x", "expected a JSON object in .*, found list"),
        (
            lambda c, w: {"embed_dim": 3},
            "x",
            r"vision_cfg, text_cfg is missing from the dictionary \(found: embed_dim\)",
        ),
        (
            lambda c, w: {**c, "vision_cfg": {**c["vision_cfg"], "layer": 3}},
            lambda w: w,
            "open_clip cannot build the given configuration: TypeError: .*'layer'",
        ),
        (
            lambda c, w: {**c, "embed_dim": 48},
            lambda w: w,
            "tiny.safetensors does not fit the given config.*size mismatch",
        ),
        (lambda c, w: c, broken, r"broken.safetensors is no checkpoint of plain tensors \(SafetensorError\)"),
    ],
)
def test_what_cannot_be_loaded(config, checkpoint, classes, model, pretrained, message):
    if callable(pretrained):
        pretrained = checkpoint.parent if pretrained is Path else pretrained(checkpoint)
    with pytest.raises((TeacherError, UnknownNameError), match=message):
        CLIPTeacher(model(config, checkpoint), pretrained=pretrained, classes=classes)


def test_a_script_is_refused(config, classes, tmp_path):
    script = tmp_path / "script.pt"
    torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), script)
    with (
        pytest.warns(UserWarning, match="TorchScript"),
        pytest.raises(TeacherError, match="is a TorchScript archive, which would be executed: give a safetensors file"),
    ):
        CLIPTeacher(config, pretrained=script, classes=classes)


def test_an_unavailable_tokenizer(config, checkpoint, classes, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    config["text_cfg"]["hf_tokenizer_name"] = str(tmp_path / "no_tokenizer")
    with pytest.raises(TeacherError, match=r"the tokenizer '\S+no_tokenizer' is not available.*or give tokenizer="):
        CLIPTeacher(config, pretrained=checkpoint, classes=classes)


@pytest.fixture
def local(tmp_path, teacher_checkpoint):
    shutil.copy(teacher_checkpoint.with_name("config.json"), tmp_path / "open_clip_config.json")
    shutil.copy(teacher_checkpoint, tmp_path / "open_clip_model.safetensors")
    return tmp_path


@pytest.mark.parametrize("name", ["local-dir:{}", "hf-hub:org/model"])
def test_a_folder_or_a_repository(local, teacher_checkpoint, monkeypatch, name):
    monkeypatch.setattr("open_clip.pretrained.hf_hub_download", lambda repo_id, filename, **_: str(local / filename))
    teacher = CLIPTeacher(name.format(local), classes=["one", "two"], templates="photo")
    config = teacher_checkpoint.with_name("config.json")
    plain = CLIPTeacher(config, pretrained=teacher_checkpoint, classes=["one", "two"], templates="photo")
    images = torch.rand(2, 3, 32, 32)
    assert torch.equal(teacher(images).logits, plain(images).logits)
    assert teacher.fingerprint() == plain.fingerprint()


@pytest.mark.parametrize(
    ("model", "pretrained", "message"),
    [
        ("local-dir:{}", None, r"needs open_clip_config.json and .* in one folder, found open_clip_config.json"),
        ("local-dir:{}", "openai", "brings its own weights: leave pretrained= out"),
        (
            "hf-hub:nobody/{}",
            None,
            r"are not on this machine, and huggingface.co cannot be reached: .* give local-dir:folder",
        ),
    ],
)
def test_what_is_missing_is_named(local, monkeypatch, model, pretrained, message):
    (local / "open_clip_model.safetensors").unlink()
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(TeacherError, match=message):
        CLIPTeacher(model.format(local), pretrained=pretrained, classes=["one"])
