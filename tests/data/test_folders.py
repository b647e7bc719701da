import os

import pytest
from PIL import Image

from graphkd.data.folders import FlatFolderSource, ImageFolderSource, open_folder
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
    with pytest.raises(DataError, match="class folder .*wasp holds no image"):
        open_folder(root)


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
    with pytest.raises(DataError, match="splits, not classes: pass one of them, such as .*train"):
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
