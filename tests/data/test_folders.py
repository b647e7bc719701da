import os
import shutil

import pytest

from graphkd.data.folders import FlatFolderSource, ImageFolderSource, open_folder, split_folder
from graphkd.data.sources import readable
from graphkd.data.store.embed import embed
from graphkd.data.store.read import EmbeddingStore
from graphkd.data.transforms import CenterView
from graphkd.data.views import Views
from graphkd.errors import DataError, OptionError
from tests.data.store.fakes import TinyTeacher


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


def test_classes_carry_their_folders_to_the_next_source(fill):
    root = fill("train/n04355933/1.png", "train/n04356056/1.png", "val/n04356056/1.png")
    train = open_folder(root / "train")
    assert train.classes == ["sunglasses", "sunglasses"]
    assert open_folder(root / "val", train.classes).target(0) == 1


def tiny_imagenet(fill):
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
    lines = [f"val_{i}.JPEG\t{wnid}\t0\t32\t44\t62" for i, wnid in enumerate(reversed(ids))]
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


def test_loose_images_beside_folders_need_a_choice(fill):
    root = fill("loose.png", "ant/1.png", "bee/1.png")
    with pytest.raises(DataError, match=r"loose images and folders of images \(ant, bee\): pass layout='flat'"):
        open_folder(root)
    assert len(open_folder(root, layout="flat")) == 3
    assert len(open_folder(root, layout="classes")) == 2


REFUSED = {
    "absent": (
        (),
        lambda root: open_folder(root / "absent"),
        r"expected a folder of images at .*absent, found nothing",
    ),
    "file": (["a.png"], lambda root: open_folder(root / "a.png"), "found a file"),
    "empty": ((), open_folder, "holds no image: expected files that end in"),
    "empty below": (["empty/"], lambda root: open_folder(root / "empty"), "empty holds no image"),
    "no class": (["empty/"], lambda root: ImageFolderSource(root / "empty"), "holds no class folder"),
    "class without image": (["ant/1.png", "bee/", "wasp/1.png"], open_folder, r"class folder .*bee holds no image"),
    "two classes, one empty": (["ant/1.png", "bee/"], open_folder, r"class folder .*bee holds no image"),
    "named ones all empty": (["owl/"], lambda root: open_folder(root, ["cat", "owl"]), "holds no image"),
    "other names": (
        ["ant/1.png", "bee/1.png"],
        lambda root: open_folder(root, ["ant", "bees"]),
        "Names without a folder: 'bees'; folders without a name: 'bee'",
    ),
    "splits": (
        ["train/ant/1.png", "val/ant/1.png"],
        open_folder,
        r"splits, not classes: pass one of them, such as .*train",
    ),
    "single folder": (["images/1.png"], open_folder, "single folder of images, 'images'"),
    "layout": ((), lambda root: open_folder(root, layout="tree"), "found 'tree'"),
    "link to the root": (["ant/1.png"], lambda root: linked(root, "cat"), "class folder .*cat holds no image"),
    "short line": (
        ["val/images/1.JPEG"],
        lambda root: annotated(root, "0.JPEG\tn01443537\n1.JPEG n01443537"),
        r"val_annotations\.txt line 2: expected 'file<TAB>WordNet id'",
    ),
    "missing line": (
        ["val/images/1.JPEG"],
        lambda root: annotated(root, "0.JPEG\tn01443537"),
        r"images/1\.JPEG has no line in val_annotations\.txt",
    ),
}


def linked(root, name):
    os.symlink(root, root / name)
    ImageFolderSource(root)


def annotated(root, text):
    (root / "val" / "val_annotations.txt").write_text(text)
    open_folder(root / "val")


@pytest.mark.parametrize(("names", "act", "message"), REFUSED.values(), ids=REFUSED)
def test_what_is_refused(fill, names, act, message):
    root = fill(*names)
    with pytest.raises((DataError, OptionError), match=message):
        act(root)


@pytest.mark.parametrize("names", [["cat/1.png"], ["cat/1.png", "owl/"]])
def test_a_named_class_may_be_absent_or_empty(fill, names):
    source = open_folder(fill(*names), ["ant", "cat", "owl"])
    assert source.classes == ["ant", "cat", "owl"]
    assert [source.target(i) for i in range(len(source))] == [1]


# links and other entries -------------------------------------------------------------------------------------------


def told(caplog):
    return [record.getMessage() for record in caplog.records]


def test_links_are_followed(fill, caplog):
    root = fill("ant/1.png", "bee/1.png", ".hidden/2.png", ".hidden/deep/3.png")
    os.symlink(root / ".hidden", root / "cat")
    os.symlink(root / "ant" / "1.png", root / "cat" / "ant.png")
    assert open_folder(root).ids == ["ant/1.png", "bee/1.png", "cat/2.png", "cat/ant.png", "cat/deep/3.png"]
    assert not told(caplog)


def test_folder_is_read_once_in_a_class_and_under_its_own_path(fill, caplog):
    root = fill("ant/z/1.png", "bee/1.png", "bee/y/2.png")
    os.symlink(root / "ant" / "z", root / "ant" / "a")
    os.symlink(root, root / "bee" / "up")
    os.symlink(".", root / "bee" / "self")
    source = open_folder(root)
    assert source.ids == ["ant/z/1.png", "bee/1.png", "bee/y/2.png"]
    assert [source.target(i) for i in range(3)] == [0, 1, 1]
    assert told(caplog) == [
        f"{root}: linked folders that lead to a folder read already, or above themselves, are left out: "
        "3 (ant/a, bee/self, bee/up)"
    ]


def test_folder_below_a_link_is_read_once_too(fill, caplog):
    root = fill("photos/1.png", ".all/deep/2.png", ".all/3.png")
    os.symlink(root / ".all" / "deep", root / "photos" / "a")
    os.symlink(root / ".all", root / "photos" / "b")
    assert open_folder(root, layout="flat").ids == ["photos/1.png", "photos/a/2.png", "photos/b/3.png"]
    assert "1 (photos/b/deep)" in told(caplog)[0]


def test_links_that_double_at_each_level_give_each_image_once(fill, caplog):
    root = fill(".20/1.png")
    for level in range(20):
        (root / f".{level}").mkdir()
        for name in "ab":
            os.symlink(root / f".{level + 1}", root / f".{level}" / name)
    os.symlink(root / ".0", root / "start")
    assert len(open_folder(root, layout="flat")) == 1
    assert "are left out: 20 (start/a/a/" in told(caplog)[0]


def test_folder_of_two_classes_counts_in_both_and_is_told(fill, caplog):
    root = fill("ant/1.png", "bee/1.png", "bee/deep/1.png")
    os.symlink(root / "bee" / "deep", root / "ant" / "more")
    source = open_folder(root)
    assert source.ids == ["ant/1.png", "ant/more/1.png", "bee/1.png", "bee/deep/1.png"]
    assert [source.target(i) for i in range(4)] == [0, 0, 1, 1]
    assert told(caplog) == [f"{root}: folders that belong to two classes count in both: 1 (ant/more = bee/deep)"]


def test_training_and_scored_images_may_be_one_folder(fill, caplog):
    root = fill("all/ant/1.png", "all/bee/1.png")
    for split in ("train", "val"):
        os.symlink(root / "all", root / split)
    assert open_folder(root / "train").ids == open_folder(root / "val").ids == ["ant/1.png", "bee/1.png"]
    assert not told(caplog)


def test_entry_that_is_no_file_is_a_bad_image(fill, caplog):
    root = fill(*(f"{i}.png" for i in range(4)))
    os.symlink("nowhere.png", root / "dangling.png")
    os.symlink("loop.png", root / "loop.png")
    os.mkfifo(root / "pipe.png")
    (root / "folder.png").mkdir()
    source = open_folder(root)
    assert len(source) == 7
    assert told(caplog) == [
        f"{root}: images that are no regular files, or lead nowhere, cannot be read: 3 (dangling.png, loop.png, pipe.png)"
    ]
    with pytest.raises(DataError, match=r"cannot read image .*dangling\.png.*No such file"):
        readable(source)
    left, skipped = readable(source, on_error="skip", max_share=0.5)
    assert left.ids == ["0.png", "1.png", "2.png", "3.png"]
    assert skipped == ["dangling.png", "loop.png", "pipe.png"]


def test_suffixes_that_are_read_and_those_that_are_counted(fill, caplog):
    root = fill("a.jfif", "b.JPE", "c.webp", "d.jp2", "e.pbm")
    for name in ("f.heic", "g.HEIC", "h.svg", "notes.txt", ".i.heic"):
        (root / name).write_text("x")
    assert open_folder(root).ids == ["a.jfif", "b.JPE", "c.webp", "d.jp2", "e.pbm"]
    assert told(caplog) == [
        f"{root}: images in formats that are not read are left out: 2 .heic, 1 .svg; convert them to .png"
    ]


def test_names_that_are_not_utf8(fill):
    root = fill("ant/1.png", "bee/1.png")
    shutil.copy(root / "ant" / "1.png", os.fsencode(root / "ant") + b"/caf\xe9.png")
    source = open_folder(root)
    assert source.ids == ["ant/1.png", "ant/caf\udce9.png", "bee/1.png"]
    assert source.image(1).size == (4, 4)
    store = embed(TinyTeacher(), source, root / "store", transform=CenterView(4), progress=False)
    assert EmbeddingStore(store.path).ids == source.ids
    assert len(next(iter(Views(source, student=CenterView(4)).loader(3))).index) == 3


def test_listing_asks_nothing_of_the_single_files(fill, monkeypatch):
    root = fill("ant/1.png", "bee/1.png")
    for i in range(200):
        (root / "ant" / f"{i}.jpg").touch()
    asked = []
    for name in ("stat", "lstat", "open"):
        call = getattr(os, name)
        monkeypatch.setattr(os, name, lambda *args, call=call, **more: asked.append(args) or call(*args, **more))
    assert len(open_folder(root)) == 202
    assert len(asked) < 100
