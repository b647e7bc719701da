import json

import numpy as np
import pytest
import torchvision
from PIL import Image

from graphkd.data.datasets import digits_source, torchvision_source
from graphkd.errors import DataError, UnknownNameError


def test_digits_are_real_and_whole():
    digits = digits_source()
    assert len(digits) == 1797
    assert digits.image(0).size == (8, 8)
    assert digits.image(0).mode == "RGB"
    assert digits.classes[digits.target(0)] == "zero"
    counts = np.bincount([digits.target(i) for i in range(len(digits))])
    assert counts.min() == 174
    assert np.asarray(digits.image(0)).max() == 239  # 15 of 16


def test_food101_from_its_own_files(tmp_path):
    base = tmp_path / "food-101"
    for number, name in enumerate(["apple_pie", "hot_dog"]):
        (base / "images" / name).mkdir(parents=True)
        Image.new("RGB", (5, 5), (number, 0, 0)).save(base / "images" / name / "7.jpg")
    (base / "meta").mkdir()
    (base / "meta" / "test.json").write_text(json.dumps({"apple_pie": ["apple_pie/7"], "hot_dog": ["hot_dog/7"]}))
    source = torchvision_source("food101", tmp_path, "test")
    assert source.ids == ["food-101/images/apple_pie/7.jpg", "food-101/images/hot_dog/7.jpg"]
    assert source.classes == ["apple pie", "hot dog"]
    assert [source.target(i) for i in range(2)] == [0, 1]
    assert source.image(1).size == (5, 5)


def test_caltech101_paths_are_built_from_its_lists(tmp_path):
    for name in ("BACKGROUND_Google", "wild_cat"):
        folder = tmp_path / "caltech101" / "101_ObjectCategories" / name
        folder.mkdir(parents=True)
        Image.new("RGB", (5, 5)).save(folder / "image_0001.jpg")
    (tmp_path / "caltech101" / "Annotations").mkdir()
    source = torchvision_source("caltech101", tmp_path, "all")
    assert source.ids == ["101_ObjectCategories/wild_cat/image_0001.jpg"]
    assert source.classes == ["wild cat"]
    assert source.image(0).size == (5, 5)


class FakeCifar:
    def __init__(self, root, train, download):
        self.data = np.full((2, 4, 4, 3), (1, 2, 3), np.uint8)
        self.targets, self.classes = [1, 0], ["aquarium_fish", "bear"]


class FakeStl:
    def __init__(self, root, split, download):
        self.data = np.full((2, 4, 4, 3), (1, 2, 3), np.uint8).transpose(0, 3, 1, 2)
        self.labels, self.classes = np.array([-1, 1]), ["airplane", "bird"]


@pytest.mark.parametrize(("name", "home", "fake"), [("cifar100", "CIFAR100", FakeCifar), ("stl10", "STL10", FakeStl)])
def test_sets_in_memory(monkeypatch, tmp_path, name, home, fake):
    monkeypatch.setattr(torchvision.datasets, home, fake)
    source = torchvision_source(name, tmp_path)
    assert source.image(1).getpixel((3, 3)) == (1, 2, 3)
    assert source.image(0).size == (4, 4)
    assert [source.target(i) for i in range(2)] == ([1, 0] if name == "cifar100" else [None, 1])
    assert "_" not in source.classes[0]


class FakeImageNet:
    def __init__(self, root, split):
        self.root = f"{root}"
        self.wnids = ["n01440764", "n01443537"]
        self.samples = [(f"{root}/{split}/{wnid}/a.png", label) for label, wnid in enumerate(self.wnids)]


def test_imagenet_gets_the_names_that_clip_reads(monkeypatch, tmp_path):
    for wnid in ("n01440764", "n01443537"):
        (tmp_path / "val" / wnid).mkdir(parents=True)
        Image.new("RGB", (5, 5)).save(tmp_path / "val" / wnid / "a.png")
    monkeypatch.setattr(torchvision.datasets, "ImageNet", FakeImageNet)
    source = torchvision_source("imagenet", tmp_path, "test")
    assert source.classes == ["tench", "goldfish"]
    assert source.ids[1] == "val/n01443537/a.png"
    assert source.target(1) == 1


@pytest.mark.parametrize("name", ["cifar10", "cifar100", "dtd", "flowers102", "food101", "oxford_pets", "stl10"])
def test_absent_sets_say_how_to_get_them(tmp_path, name):
    with pytest.raises(
        DataError, match=rf"{name} \(train\) is not complete in .*download=True where there is a network"
    ):
        torchvision_source(name, tmp_path)


def test_absent_imagenet_says_where_it_comes_from(tmp_path):
    with pytest.raises(DataError, match=r"archives from image-net\.org"):
        torchvision_source("imagenet", tmp_path)


def test_unknown_names_get_a_suggestion(tmp_path):
    with pytest.raises(
        UnknownNameError, match=r"unknown data set 'cifar-10'; did you mean 'cifar10'\? Known: caltech101"
    ):
        torchvision_source("cifar-10", tmp_path)
    with pytest.raises(UnknownNameError, match="unknown split of cifar10 'val'"):
        torchvision_source("cifar10", tmp_path, "val")
