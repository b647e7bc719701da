import json
import logging

import pytest
import torch
from torch.testing import assert_close

TEMPLATES = ["a photo of a {}.", "a drawing of the {}.", "{}", "many {}"]


def test_second_construction_never_runs_the_text_tower(make_teacher, images, tmp_path):
    first = make_teacher(cache_dir=tmp_path, templates=TEMPLATES)
    second = make_teacher(cache_dir=tmp_path, templates=TEMPLATES)
    assert (first.text_forwards, second.text_forwards) == (4, 0)
    assert_close(second(images).logits, first(images).logits, rtol=0, atol=0)


def test_an_interrupted_run_keeps_its_finished_templates(make_teacher, tiny_clip, tmp_path):
    model, calls = tiny_clip(), []
    encode = model.encode_text

    def interrupted(tokens):
        calls.append(len(tokens))
        if len(calls) == 3:
            raise KeyboardInterrupt
        return encode(tokens)

    model.encode_text = interrupted
    with pytest.raises(KeyboardInterrupt):
        make_teacher(model, cache_dir=tmp_path, templates=TEMPLATES)
    assert len(list(tmp_path.glob("*/*.safetensors"))) == 2
    assert not list(tmp_path.glob("*/*.tmp"))

    resumed = make_teacher(cache_dir=tmp_path, templates=TEMPLATES)
    unbroken = make_teacher(templates=TEMPLATES)
    assert (resumed.text_forwards, unbroken.text_forwards) == (2, 4)
    assert resumed.fingerprint() == unbroken.fingerprint()
    assert_close(resumed._texts, unbroken._texts, rtol=0, atol=0)


@pytest.mark.parametrize("damage", ["truncated", "one bit", "empty"])
def test_a_damaged_file_is_made_again(make_teacher, tmp_path, caplog, damage):
    good = make_teacher(cache_dir=tmp_path, templates=TEMPLATES)
    path = sorted(tmp_path.glob("*/*.safetensors"))[1]
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes({"truncated": content[:-40], "one bit": content, "empty": b""}[damage])
    with caplog.at_level(logging.WARNING, logger="graphkd"):
        again = make_teacher(cache_dir=tmp_path, templates=TEMPLATES)
    assert again.text_forwards == 1
    assert [record for record in caplog.messages if "is damaged" in record and str(path) in record] == caplog.messages
    assert len(caplog.messages) == 1
    assert_close(again._texts, good._texts, rtol=0, atol=0)
    assert make_teacher(cache_dir=tmp_path, templates=TEMPLATES).text_forwards == 0


def test_a_damaged_manifest_is_written_again(make_teacher, classes, tmp_path, caplog):
    make_teacher(cache_dir=tmp_path, templates=TEMPLATES)
    manifest = next(tmp_path.glob("*/manifest.json"))
    manifest.write_text("{")
    assert make_teacher(cache_dir=tmp_path, templates=TEMPLATES).text_forwards == 0
    assert "manifest.json is damaged" in caplog.text
    assert json.loads(manifest.read_text())["classes"] == classes


def test_template_sets_share_their_templates(make_teacher, tmp_path):
    make_teacher(cache_dir=tmp_path, templates=TEMPLATES[:2])
    assert make_teacher(cache_dir=tmp_path, templates=TEMPLATES).text_forwards == 2
    manifest = json.loads(next(tmp_path.glob("*/manifest.json")).read_text())
    assert sorted(manifest["files"].values()) == sorted(TEMPLATES)


def test_another_teacher_classes_or_precision_share_nothing(make_teacher, tiny_clip, classes, tmp_path):
    make_teacher(cache_dir=tmp_path)
    other = tiny_clip()
    with torch.no_grad():
        other.text_projection += 1
    assert make_teacher(other, cache_dir=tmp_path).text_forwards == 3
    assert make_teacher(tiny_clip(quick_gelu=True), cache_dir=tmp_path).text_forwards == 3
    assert make_teacher(cache_dir=tmp_path, classes=classes[::-1]).text_forwards == 3
    assert make_teacher(cache_dir=tmp_path, precision="bf16").text_forwards == 3
    assert len(list(tmp_path.iterdir())) == 5


def test_a_changed_image_tower_keeps_the_cache(make_teacher, tiny_clip, tmp_path):
    make_teacher(cache_dir=tmp_path)
    other = tiny_clip()
    with torch.no_grad():
        other.visual.proj += 1
    assert make_teacher(other, cache_dir=tmp_path).text_forwards == 0
