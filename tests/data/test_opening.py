"""Images by name: what is trained on, what is scored on, and whose classes the labels count."""

import os
import tarfile

import pytest

from graphkd.data.datasets import SPLITS, TORCHVISION
from graphkd.data.opening import ImageData, hold_out
from graphkd.data.sources import source_subset
from graphkd.errors import DataError, OptionError, UnknownNameError
from graphkd.teachers.texts import imagenet_names
from tests.data import torchvision_trees


def labels(source):
    return {name: source.target(i) for i, name in enumerate(source.ids)}


@pytest.mark.parametrize("val", [("n01440764", "n01443537"), ("goldfish", "tench")])
@pytest.mark.parametrize("train", [("n01440764", "n01443537"), ("goldfish", "tench")])
def test_wordnet_ids_on_either_side_or_both(fill, train, val):
    root = fill(*(f"{part}/{name}/1.png" for part, names in (("train", train), ("val", val)) for name in names))
    whole, _, scored = ImageData(data=root).parts()
    assert list(scored.classes) == list(whole.classes)
    for name, label in labels(scored).items():
        folder = name.partition("/")[0]
        assert whole.classes[label] == imagenet_names().get(folder, folder)


def test_a_thousand_ids_on_both_sides_stay_a_thousand_classes(fill):
    root = fill(*(f"{part}/{wnid}/1.png" for part in ("train", "val") for wnid in imagenet_names()))
    whole, _, scored = ImageData(data=root).parts()
    assert whole.classes.ids == scored.classes.ids == tuple(imagenet_names())
    assert labels(scored) == labels(whole) == {f"{wnid}/1.png": i for i, wnid in enumerate(imagenet_names())}


def test_scored_images_may_lack_classes_which_is_said(fill):
    root = fill("train/cat/1.png", "train/dog/1.png", "train/owl/1.png", "val/owl/1.png")
    (root / "val" / "dog").mkdir()
    said = []
    scored = ImageData(data=root, say=said.append).parts().scored
    assert labels(scored) == {"owl/1.png": 2}
    assert said == [f"{root / 'val'} has no image of 2 of 3 classes: cat, dog"]


def test_labels_count_the_trained_classes_whatever_the_order_of_a_file(fill, tmp_path):
    root = fill("c0/1.png", "c1/1.png")
    (tmp_path / "names.txt").write_text("c1\tdog\nc0\tcat\nc2\towl\n")
    named = ImageData(data=root, classes=tmp_path / "names.txt", say=[].append)
    assert labels(named.open("test", ["cat", "dog"])) == {"c0/1.png": 0, "c1/1.png": 1}
    assert labels(named.open("test", {"c1": "dog", "c0": "cat"})) == {"c0/1.png": 1, "c1/1.png": 0}
    with pytest.raises(DataError, match="folders without a name: 'c1'"):
        named.open("test", ["cat", "owl"])


def test_labels_of_a_data_set_count_the_trained_classes(tmp_path, monkeypatch):
    data = ImageData(data="cifar10", root=torchvision_trees.make("cifar10", tmp_path, monkeypatch), say=[].append)
    source = data.open("test", ["bear", "crane", "aquarium fish"])
    assert [source.target(i) for i in range(4)] == [2, 0, 2, 0]
    assert list(source.classes) == ["bear", "crane", "aquarium fish"]


def test_a_bad_image_is_left_out_wherever_it_lies(fill):
    names = [
        f"{part}/{name}/{i}.png" for part in ("train", "val", "more") for name in ("cat", "dog") for i in range(60)
    ]
    root = fill(*names)
    said = []
    data = ImageData(data=root, on_error="skip", say=said.append)
    for part in ("train", "val", "more"):
        (root / part / "cat" / "7.png").write_text("no image")
    assert [len(each) for each in data.parts()] == [119, 119, 119]
    assert len(data.parts(val=root / "more").scored) == 119
    assert len(data.pixels()) == 119
    where = [root / part for part in ("train", "val", "train", "more", "train")]
    assert said == [f"left out an image of {each} that cannot be read: cat/7.png" for each in where]


def test_a_layout_is_for_the_scored_images_too(fill):
    root = fill("train/cat/1.png", "train/dog/1.png", "val/cat/1.png", "val/dog/1.png", "val/overview.png")
    with pytest.raises(DataError, match="holds loose images and folders of images"):
        ImageData(data=root).parts()
    assert len(ImageData(data=root, layout="classes").parts().scored) == 2


def test_shards_to_train_on_beside_folders_to_score_on(fill):
    root = fill("train/1.png", "val/cat/1.png", "val/dog/1.png")
    with tarfile.open(root / "train" / "a.tar", "w") as archive:
        archive.add(root / "train" / "1.png", "1.png")
        (root / "train" / "1.png").rename(root / "train" / "1.cls")
        (root / "train" / "1.cls").write_text("dog")
        archive.add(root / "train" / "1.cls", "1.cls")
    (root / "names.txt").write_text("dog\ncat\n")
    data = ImageData(data=root, layout="shards", classes=root / "names.txt", say=[].append)
    assert labels(data.parts().scored) == {"cat/1.png": 1, "dog/1.png": 0}


def test_an_empty_class_is_an_oversight_to_train_on_and_said_to_score_on(fill):
    root = fill("cat/1.png", "dog/1.png")
    (root / "owl").mkdir()
    with pytest.raises(DataError, match="class folder .*owl holds no image"):
        ImageData(data=root).open()
    said = []
    assert ImageData(data=root, say=said.append).open("test").classes == ["cat", "dog", "owl"]
    assert said == [f"{root} has no image of 1 of 3 classes: owl"]


def test_loose_images_to_train_on_beside_labelled_ones(fill, tmp_path):
    root = fill("train/a/1.png", "train/b/2.png", "val/cat/1.png", "val/dog/1.png")
    (tmp_path / "names.txt").write_text("dog\ncat\n")
    whole, _, scored = ImageData(data=root, layout="flat", classes=tmp_path / "names.txt").parts()
    assert whole.target(0) is None
    assert labels(scored) == {"cat/1.png": 1, "dog/1.png": 0}


@pytest.mark.parametrize("name", ["digits", *TORCHVISION])
def test_every_name_that_is_offered_opens_to_train_and_to_score_on(name, tmp_path, monkeypatch):
    if name != "digits":
        torchvision_trees.make(name, tmp_path, monkeypatch)
    data = ImageData(data=name, root=tmp_path)
    whole, train, scored = data.parts()
    assert len(whole) >= len(train) >= 1
    assert scored.target(0) is not None
    assert not set(train.ids) & set(scored.ids) or train is whole  # held out, or a split of its own
    assert list(data.open("test", whole.classes).classes) == list(whole.classes)


def test_unlabelled_images_of_a_data_set_are_a_split(tmp_path, monkeypatch):
    data = ImageData(data="stl10", root=torchvision_trees.make("stl10", tmp_path, monkeypatch), split="unlabeled")
    whole, _, scored = data.parts()
    assert {whole.target(i) for i in range(len(whole))} == {None}
    assert [scored.target(i) for i in range(len(scored))] == [0, 1, 0, 1]
    assert "unlabeled" in SPLITS["stl10"]


def test_a_share_is_held_out_where_nothing_else_is_there_to_score_on(fill):
    root = fill(*(f"{name}/{i}.png" for name in ("cat", "dog") for i in range(10)))
    whole, train, scored = ImageData(data=root).parts(held_out=0.25)
    assert (len(train), len(scored)) == (15, 5)
    assert sorted([*train.ids, *scored.ids]) == list(whole.ids)
    assert ImageData(data=root).parts(held_out=0).scored is None


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"data": "cifar1"}, UnknownNameError, "unknown folder or data set 'cifar1'; did you mean 'cifar10'"),
        ({"split": "val"}, OptionError, "split='val' is for data sets of torchvision, not for the folder"),
        (
            {"data": "caltech101", "split": "train"},
            UnknownNameError,
            "unknown split of caltech101 'train'.* Known: all",
        ),
    ],
)
def test_wrong_names_and_splits(fill, options, error, message):
    root = fill("cat/1.png", "dog/1.png")
    with pytest.raises(error, match=message):
        ImageData(**{"data": root, "root": root, **options}).open()


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["train/cat/1.png", "train/dog/1.png", "val/1.png"], "val holds loose images, and scoring needs their labels"),
        (
            ["train/cat/1.png", "train/dog/1.png", "val/cat/1.png", "val/dogs/1.png"],
            "folders without a name: 'dogs'. Did you mean: 'dog' is near 'dogs'",
        ),
        (["train/c0001/1.png", "train/c0002/1.png"], "look like codes"),
    ],
)
def test_what_cannot_be_scored_or_named_is_refused(fill, names, message):
    with pytest.raises(DataError, match=message):
        ImageData(data=fill(*names)).parts()


def test_pixels_need_no_names(fill):
    root = fill("c0001/1.png", "cat/1.png")
    os.rename(root / "cat", os.fsencode(root) + b"/caf\xe9")
    assert ImageData(data=root).pixels().ids == ["c0001/1.png", "caf\udce9/1.png"]


def test_what_is_held_out_without_labels_depends_on_names_and_seed_alone(fill):
    source = ImageData(data=fill(*(f"{i}.png" for i in range(40))), layout="flat").open()
    whole, train, held_out = hold_out(source, 0.25)
    assert (len(whole), len(train), len(held_out)) == (40, 30, 10)
    assert sorted([*train.ids, *held_out.ids]) == sorted(source.ids)
    turned = hold_out(source_subset(source, range(39, -1, -1)), 0.25)
    assert set(turned.scored.ids) == set(held_out.ids)
    assert set(hold_out(source, 0.25, seed=1).scored.ids) != set(held_out.ids)
    assert set(hold_out(source, 0.2).scored.ids) < set(held_out.ids)


def test_a_fifth_is_held_out_of_few_images_and_two_thousand_of_many(fill):
    source = ImageData(data=fill(*(f"{i}.png" for i in range(40))), layout="flat").open()
    assert len(hold_out(source).scored) == 8
    assert hold_out(source, 0).scored is None
    assert hold_out(source_subset(source, range(4))).scored is None
    source.ids = [str(i) for i in range(30_000)]
    source._targets = None
    assert len(hold_out(source).scored) == 2000
