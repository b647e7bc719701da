import os

import pytest
from PIL import Image

from graphkd.data.folders import FlatFolderSource, ImageFolderSource, open_folder, split_folder
from graphkd.errors import DataError, OptionError


@pytest.fixture
def fill(tmp_path):
    def make(*names):
        for shade, name in enumerate(names):
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (4, 4), (shade, 0, 0)).save(path)
        return tmp_path

    return make


def test_class_folders_give_sorted_ids_labels_and_names(fill):
    root = fill("polar_bear/2.PNG", "polar_bear/deep/1.png", "ant/x.jpg")
    (root / "ant" / "notes.txt").write_text("no image")
    (root / "ant" / "._x.jpg").write_text("a shadow that some systems leave")
    source = open_folder(root)
    assert isinstance(source, ImageFolderSource)
    assert source.ids == ["ant/x.jpg", "polar_bear/2.PNG", "polar_bear/deep/1.png"]
    assert [source.target(i) for i in range(3)] == [0, 1, 1]
    assert source.classes == ["ant", "polar bear"]
    assert source.sizes == [(root / name).stat().st_size for name in source.ids]
    assert source.image(1).getpixel((0, 0)) == (0, 0, 0)


def test_given_names_set_the_labels(fill):
    source = open_folder(fill("ant/1.png", "bee/1.png"), ["bee", "ant"])
    assert source.classes == ["bee", "ant"]
    assert [source.target(i) for i in range(2)] == [1, 0]


def test_flat_folder_has_no_labels_and_keeps_classes_nobody_can_see(fill):
    source = open_folder(fill("b.png", "a.png"), {"c0": "cat", "c1": "dog"})
    assert isinstance(source, FlatFolderSource)
    assert source.ids == ["a.png", "b.png"]
    assert source.target(0) is None
    assert source.classes == ["cat", "dog"]
    assert FlatFolderSource(source.root).classes is None


def test_flat_layout_reads_deep_folders(fill):
    assert open_folder(fill("p1/b.png", "p2/q/a.png"), ["cat"], layout="flat").ids == ["p1/b.png", "p2/q/a.png"]


def test_missing_empty_and_imageless_folders(tmp_path):
    with pytest.raises(DataError, match=r"expected a folder of images at .*absent, found nothing"):
        open_folder(tmp_path / "absent")
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="found a file"):
        open_folder(tmp_path / "file")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="empty holds no image"):
        open_folder(tmp_path / "empty")
    with pytest.raises(DataError, match="holds no image: expected files that end in"):
        open_folder(tmp_path)
    with pytest.raises(DataError, match="holds no class folder"):
        ImageFolderSource(tmp_path / "empty")


def test_class_without_an_image_is_named(fill):
    root = fill("ant/1.png", "bee/1.png")
    (root / "wasp").mkdir()
    with pytest.raises(DataError, match=r"class folder .*wasp holds no image"):
        open_folder(root)


def test_empty_class_beside_a_single_full_one_is_named(fill):
    root = fill("ant/1.png")
    (root / "bee").mkdir()
    with pytest.raises(DataError, match=r"class folder .*bee holds no image"):
        open_folder(root)


@pytest.mark.parametrize("empty", [False, True])
def test_a_named_class_may_be_absent_or_empty(fill, empty):
    root = fill("cat/1.png")
    if empty:
        (root / "owl").mkdir()
    source = open_folder(root, ["ant", "cat", "owl"])
    assert source.classes == ["ant", "cat", "owl"]
    assert [source.target(i) for i in range(len(source))] == [1]


def test_named_classes_that_are_all_empty_hold_no_image(tmp_path):
    (tmp_path / "owl").mkdir()
    with pytest.raises(DataError, match="holds no image"):
        open_folder(tmp_path, ["cat", "owl"])


def test_classes_carry_their_folders_to_the_next_source(fill):
    root = fill("train/n04355933/1.png", "train/n04356056/1.png", "val/n04356056/1.png")
    train = open_folder(root / "train")
    assert train.classes == ["sunglasses", "sunglasses"]
    assert open_folder(root / "val", train.classes).target(0) == 1


def tiny_imagenet(fill, *lines):
    """Its own tree of three ids, the last of which is not in ImageNet-1k."""
    ids = ("n01443537", "n04356056", "n99999999")
    root = fill(
        *(f"train/{wnid}/images/{wnid}_0.JPEG" for wnid in ids), *(f"val/images/val_{i}.JPEG" for i in range(3))
    )
    for wnid in ids:
        (root / "train" / wnid / f"{wnid}_boxes.txt").write_text(f"{wnid}_0.JPEG\t0\t0\t62\t62\n")
    (root / "words.txt").write_text(
        "n01443537\tgoldfish, Carassius auratus\nn99999999\ta stone, a rock\nn00001740\tentity\n"
    )
    lines = lines or [f"val_{i}.JPEG\t{wnid}\t0\t32\t44\t62" for i, wnid in enumerate(reversed(ids))]
    (root / "val" / "val_annotations.txt").write_text("\n".join(lines) + "\n")
    return root


def test_tiny_imagenet_keeps_labels_in_a_file_and_words_beside_them(fill):
    root = tiny_imagenet(fill)
    train = open_folder(root / "train")
    assert train.classes == ["goldfish", "sunglasses", "a stone"]
    for val in (open_folder(root / "val"), open_folder(root / "val", train.classes)):
        assert val.ids == [f"images/val_{i}.JPEG" for i in range(3)]
        assert [val.target(i) for i in range(3)] == [2, 1, 0]
        assert val.classes == train.classes


def test_tiny_imagenets_file_is_checked(fill):
    with pytest.raises(DataError, match=r"val_annotations\.txt line 2: expected 'file<TAB>WordNet id'"):
        open_folder(tiny_imagenet(fill, "val_0.JPEG\tn01443537", "val_1.JPEG n01443537") / "val")
    with pytest.raises(DataError, match=r"images/val_1\.JPEG has no line in val_annotations\.txt"):
        open_folder(tiny_imagenet(fill, "val_0.JPEG\tn01443537") / "val")


@pytest.mark.parametrize(
    ("names", "train", "test"),
    [
        (["train/ant/1.png", "val/ant/1.png"], "train", "val"),
        (["Training/ant/1.png", "test/1.png", "extra/1.png"], "Training", "test"),
        (["train/1.png"], "train", ""),
        (["train/ant/1.png", "devkit/readme.png"], "train", ""),
        (["train/1.png", "car/1.png", "bus/1.png"], "", ""),  # locomotives
        (["ant/1.png", "bee/1.png"], "", ""),
    ],
)
def test_a_folder_of_splits_and_a_class_called_train(fill, names, train, test):
    root = fill(*names)
    assert split_folder(root, ["train", "training"]) == root / train
    assert split_folder(root, ["val", "test"]) == root / test


def test_names_that_do_not_match_the_folders(fill):
    with pytest.raises(DataError, match="Names without a folder: 'bees'; folders without a name: 'bee'"):
        open_folder(fill("ant/1.png", "bee/1.png"), ["ant", "bees"])


def test_loose_images_beside_folders_need_a_choice(fill):
    root = fill("loose.png", "ant/1.png", "bee/1.png")
    with pytest.raises(DataError, match=r"loose images and folders of images \(ant, bee\): pass layout='flat'"):
        open_folder(root)
    assert len(open_folder(root, layout="flat")) == 3
    assert len(open_folder(root, layout="classes")) == 2


def test_splits_are_not_classes(fill):
    with pytest.raises(DataError, match=r"splits, not classes: pass one of them, such as .*train"):
        open_folder(fill("train/ant/1.png", "val/ant/1.png"))


def test_a_single_folder_is_no_set_of_classes(fill):
    with pytest.raises(DataError, match="single folder of images, 'images'"):
        open_folder(fill("images/1.png"))


def test_unknown_layout():
    with pytest.raises(OptionError, match="found 'tree'"):
        open_folder(".", layout="tree")


def test_links_are_followed_and_a_circle_is_named(fill):
    root = fill("ant/1.png", "bee/1.png")
    os.symlink(root / "ant", root / "cat")
    assert open_folder(root).ids == ["ant/1.png", "bee/1.png", "cat/1.png"]
    os.symlink(root, root / "bee" / "up")
    with pytest.raises(DataError, match="links to a folder above itself"):
        open_folder(root)


def test_a_broken_link_is_named(fill):
    root = fill("ant.png")
    os.symlink(root / "nowhere.png", root / "bee.png")
    with pytest.raises(DataError, match=r"bee\.png.*a broken link"):
        open_folder(root)
