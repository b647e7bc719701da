"""Templates and class names, and the cache of their embeddings."""

import logging

import pytest
import torch
from torch.testing import assert_close

from graphkd.errors import DataError, OptionError
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


def test_own_templates_and_class_names_with_braces():
    assert resolve_templates("a sketch of a {}.") == ("a sketch of a {}.",)
    assert fill("a {} here", ["x{}y", "{0}"]) == ["a x{}y here", "a {0} here"]


@pytest.mark.parametrize(
    ("templates", "message"),
    [
        (["a photo"], r"'a photo' must contain \{\} exactly once"),
        ("{} and {}", r"'\{\} and \{\}' must contain \{\} exactly once"),
        ([3], r"prompt template 3 must contain"),
        ([], "at least one prompt template, found none"),
        ("imagnet", r"'imagnet'; did you mean 'imagenet'\? Known: cifar, imagenet, photo"),
    ],
)
def test_bad_templates(templates, message):
    with pytest.raises(OptionError, match=message):
        resolve_templates(templates)


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


def changed(model, part):
    with torch.no_grad():
        part(model).add_(1)
    return model


@pytest.mark.parametrize(
    ("options", "asked"),
    [
        (lambda clip, classes: {"model": changed(clip(), lambda model: model.text_projection)}, 4),
        (lambda clip, classes: {"model": clip(quick_gelu=True)}, 4),
        (lambda clip, classes: {"classes": classes[::-1]}, 4),
        (lambda clip, classes: {"precision": "bf16"}, 4),
        (lambda clip, classes: {"model": changed(clip(), lambda model: model.visual.proj)}, 0),
        (lambda clip, classes: {"templates": [*TEMPLATES[1:], "some {}"]}, 1),
    ],
    ids=["text tower", "activation", "classes", "precision", "image tower", "templates"],
)
def test_texts_are_shared_where_all_that_makes_them_is_the_same(cached, tiny_clip, classes, options, asked):
    cached()
    assert len(cached(**options(tiny_clip, classes))[1]) == asked
