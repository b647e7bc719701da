import pytest

from graphkd.errors import DataError, OptionError, UnknownNameError
from graphkd.teachers.templates import fill, resolve_classes, resolve_templates


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
