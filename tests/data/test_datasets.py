import numpy as np
import pytest

from graphkd.data.datasets import SPLITS, TORCHVISION, digits_source, torchvision_source
from graphkd.errors import DataError, UnknownNameError
from tests.data import torchvision_trees


def test_digits_are_real_and_whole():
    digits = digits_source()
    assert len(digits) == 1797
    assert digits.image(0).size == (8, 8)
    assert digits.image(0).mode == "RGB"
    assert digits.classes[digits.target(0)] == "zero"
    counts = np.bincount([digits.target(i) for i in range(len(digits))])
    assert counts.min() == 174
    assert np.asarray(digits.image(0)).max() == 239  # 15 of 16


@pytest.mark.parametrize("name", TORCHVISION)
def test_every_split_of_every_set_opens_from_its_own_files(name, tmp_path, monkeypatch):
    root = torchvision_trees.make(name, tmp_path, monkeypatch)
    for split in SPLITS[name]:
        source = torchvision_source(name, root, split)
        labels = {source.target(i) for i in range(len(source))}
        assert labels == ({None} if split == "unlabeled" else {0, 1})
        assert not any("_" in each for each in source.classes)
        assert source.image(len(source) - 1).getpixel((0, 0)) == pytest.approx(torchvision_trees.COLOUR, abs=2)
    first = torchvision_source(name, root)
    assert first.ids == torchvision_source(name, root, SPLITS[name][0]).ids
    assert SPLITS[name][0] in ("train", "all")


def test_a_set_keeps_its_own_names_as_ids(tmp_path, monkeypatch):
    food = torchvision_source("food101", torchvision_trees.make("food101", tmp_path, monkeypatch), "test")
    assert food.ids == ["food-101/images/apple_pie/test.jpg", "food-101/images/hot_dog/test.jpg"]
    assert (food.classes, food.classes.ids) == (["apple pie", "hot dog"], ("apple_pie", "hot_dog"))
    imagenet = torchvision_source("imagenet", torchvision_trees.make("imagenet", tmp_path, monkeypatch), "test")
    assert (imagenet.classes, imagenet.classes.ids) == (["tench", "goldfish"], ("n01440764", "n01443537"))
    assert imagenet.ids == ["val/n01440764/a.JPEG", "val/n01443537/a.JPEG"]


REMEDY = "is not complete in .*: give download=True where there is a network, or copy the folder"
WRONG = [
    *((name, "train", rf"{name} \(train\) {REMEDY}") for name in TORCHVISION if name not in ("caltech101", "imagenet")),
    ("imagenet", "train", r"archives from image-net\.org"),
    ("cifar-10", None, r"unknown data set 'cifar-10'; did you mean 'cifar10'\? Known: caltech101"),
    ("cifar10", "val", "unknown split of cifar10 'val'"),
]


@pytest.mark.parametrize(("name", "split", "message"), WRONG)
def test_absent_sets_say_how_to_get_them_and_unknown_ones_what_is_near(tmp_path, name, split, message):
    with pytest.raises(UnknownNameError if "unknown" in message else DataError, match=message):
        torchvision_source(name, tmp_path, split)
