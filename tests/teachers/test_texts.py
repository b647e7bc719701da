"""Templates and class names, and the cache of their embeddings."""

import json
import logging

import pytest
import torch
from safetensors import safe_open
from torch.testing import assert_close

from graphkd.errors import DataError, OptionError, UnknownNameError
from graphkd.teachers.texts import fill, resolve_classes, resolve_templates


@pytest.mark.parametrize(("name", "count"), [("imagenet", 80), ("cifar", 18), ("photo", 1)])
def test_named_sets(name, count):
    templates = resolve_templates(name)
    assert len(set(templates)) == count
    assert all(template.count("{}") == 1 for template in templates)


def test_cifar_templates_are_the_published_ones():
    templates = resolve_templates("cifar")
    assert templates[:3] == ("a photo of a {}.", "a blurry photo of a {}.", "a black and white photo of a {}.")
    assert "a low contrast photo of the {}." in templates
    assert templates[-1] == "a photo of the big {}."


def test_own_templates():
    assert resolve_templates("a sketch of a {}.") == ("a sketch of a {}.",)
    assert resolve_templates(["{}", "one {}"]) == ("{}", "one {}")


def test_class_names_may_hold_braces():
    assert fill("a {} here", ["x{}y", "{0}"]) == ["a x{}y here", "a {0} here"]


@pytest.mark.parametrize(
    ("templates", "message"),
    [
        (["a photo"], r"'a photo' must contain \{\} exactly once"),
        ("{} and {}", r"'\{\} and \{\}' must contain \{\} exactly once"),
        ([3], r"prompt template 3 must contain"),
        ([], "at least one prompt template, found none"),
    ],
)
def test_bad_templates(templates, message):
    with pytest.raises(OptionError, match=message):
        resolve_templates(templates)


def test_unknown_set():
    with pytest.raises(UnknownNameError, match=r"'imagnet'; did you mean 'imagenet'\? Known: cifar, imagenet, photo"):
        resolve_templates("imagnet")


def test_classes_are_names_in_order_and_may_share_one():
    assert resolve_classes(["crane", "cat", "crane"]) == ("crane", "cat", "crane")
    assert resolve_classes({"n1": "crane", "n0": "cat", "n2": "crane"}) == ("crane", "cat", "crane")


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        ("cat", r"found the text 'cat': write classes=\['cat', ...\]"),
        ([], "at least one class name, found none"),
        (["cat", " "], "class name 1 is ' '"),
        (["cat", 7], "class name 1 is 7"),
    ],
)
def test_bad_classes(classes, message):
    with pytest.raises(DataError, match=message):
        resolve_classes(classes)


TEMPLATES = ["a photo of a {}.", "a drawing of the {}.", "{}", "many {}"]


@pytest.fixture
def cached(make_teacher, tiny_clip, tmp_path):
    """Makes a teacher with a cache; beside it, a list of the batches that its text tower is given."""

    def made(model=None, **options):
        model, batches = model or tiny_clip(), []
        encode = model.encode_text
        model.encode_text = lambda tokens: batches.append(len(tokens)) or encode(tokens)
        return make_teacher(model, **{"cache_dir": tmp_path, "templates": TEMPLATES, **options}), batches

    return made


def test_second_construction_never_runs_the_text_tower(cached, images):
    (first, asked), (second, asked_again) = cached(), cached()
    assert (len(asked), len(asked_again)) == (4, 0)
    assert_close(second(images).logits, first(images).logits, rtol=0, atol=0)


def test_an_interrupted_run_keeps_its_finished_templates(cached, tiny_clip, tmp_path):
    model, calls = tiny_clip(), []
    encode = model.encode_text

    def interrupted(tokens):
        calls.append(len(tokens))
        if len(calls) == 3:
            raise KeyboardInterrupt
        return encode(tokens)

    model.encode_text = interrupted
    with pytest.raises(KeyboardInterrupt):
        cached(model)
    assert len(list(tmp_path.glob("*/*.safetensors"))) == 2
    assert not list(tmp_path.glob("*/*.tmp"))

    (resumed, asked), (unbroken, asked_unbroken) = cached(), cached(cache_dir=None)
    assert (len(asked), len(asked_unbroken)) == (2, 4)
    assert resumed.fingerprint() == unbroken.fingerprint()
    assert_close(resumed._texts, unbroken._texts, rtol=0, atol=0)


@pytest.mark.parametrize("damage", ["truncated", "one bit", "empty"])
def test_a_damaged_file_is_made_again(cached, tmp_path, caplog, damage):
    good, _ = cached()
    path = sorted(tmp_path.glob("*/*.safetensors"))[1]
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes({"truncated": content[:-40], "one bit": content, "empty": b""}[damage])
    with caplog.at_level(logging.WARNING, logger="graphkd"):
        again, asked = cached()
    assert len(asked) == 1
    assert len(caplog.messages) == 1
    assert "is damaged" in caplog.text
    assert str(path) in caplog.text
    assert_close(again._texts, good._texts, rtol=0, atol=0)
    assert cached()[1] == []


def test_a_file_says_what_it_belongs_to(cached, classes, tmp_path):
    teacher, _ = cached(templates=TEMPLATES[:1])
    with safe_open(next(tmp_path.glob("*/*.safetensors")), framework="pt") as file:
        said = file.metadata()
    assert (said["template"], json.loads(said["classes"])) == (TEMPLATES[0], classes)
    assert json.loads(said["facts"])["structure"] == teacher.fingerprint()["structure"]


def test_template_sets_share_their_templates(cached):
    cached(templates=TEMPLATES[:2])
    assert len(cached()[1]) == 2


def test_another_teacher_classes_or_precision_share_nothing(cached, tiny_clip, classes, tmp_path):
    cached()
    other = tiny_clip()
    with torch.no_grad():
        other.text_projection += 1
    changed = (
        cached(other),
        cached(tiny_clip(quick_gelu=True)),
        cached(classes=classes[::-1]),
        cached(precision="bf16"),
    )
    assert [len(asked) for _, asked in changed] == [4] * 4
    assert len(list(tmp_path.iterdir())) == 5


def test_a_changed_image_tower_keeps_the_cache(cached, tiny_clip):
    cached()
    other = tiny_clip()
    with torch.no_grad():
        other.visual.proj += 1
    assert cached(other)[1] == []
