"""Tar files of images: what is read, how it is split, and what is refused."""

import io
import json
import os
import tarfile

import numpy as np
import pytest
import torch
from PIL import Image

from graphkd import Views, embed, open_folder
from graphkd.data.shards import ShardSource
from graphkd.data.sources import readable
from graphkd.data.store.tools import verify
from graphkd.data.transforms import CenterView
from graphkd.errors import DataError, OptionError
from tests.data.store.fakes import TinyTeacher


def encoded(colour, kind="png"):
    buffer = io.BytesIO()
    Image.fromarray(np.full((8, 8, 3), colour, np.uint8)).save(buffer, kind)
    return buffer.getvalue()


def write(path, members, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, options.pop("mode", "w"), **options) as archive:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


@pytest.fixture
def shards(tmp_path):
    """Three shards of four samples, labels 0 to 2, in the order that webdataset writes."""
    for shard in range(3):
        members = []
        for i in range(4):
            number = 4 * shard + i
            members += [(f"{i:06d}.png", encoded(20 * number)), (f"{i:06d}.cls", str(number % 3).encode())]
        write(tmp_path / "shards" / f"train-{shard:04d}.tar", members)
    return tmp_path / "shards"


def test_samples_by_their_place(shards):
    source = open_folder(shards, ["red", "green", "blue"])
    assert isinstance(source, ShardSource)
    assert len(source) == 12
    assert source.ids[5] == "train-0001.tar/000001"
    assert [source.target(i) for i in range(12)] == [i % 3 for i in range(12)]
    for i in (11, 0, 5):  # in any order
        assert source.image(i).getpixel((0, 0)) == (20 * i,) * 3
    assert source.sizes[3] == len(encoded(60))
    assert len({source.content_hash(i) for i in range(12)}) == 12


def test_webdataset_reads_the_same(shards):
    webdataset = pytest.importorskip("webdataset", reason="pip install 'graphkd[integrations]'")
    source = open_folder(shards)
    urls = [str(path) for path in sorted(shards.glob("*.tar"))]
    found = list(webdataset.WebDataset(urls, shardshuffle=False).decode("pil").to_tuple("png", "cls"))
    assert [label for _, label in found] == [source.target(i) for i in range(len(source))]
    for i, (image, _) in enumerate(found):
        assert np.array_equal(np.asarray(image), np.asarray(source.image(i)))


def test_webdatasets_writer_and_its_names(tmp_path):
    webdataset = pytest.importorskip("webdataset", reason="pip install 'graphkd[integrations]'")
    (tmp_path / "made").mkdir()
    with webdataset.ShardWriter(str(tmp_path / "made" / "%03d.tar"), maxcount=2, verbose=0) as writer:
        for i in range(5):
            writer.write(
                {
                    "__key__": f"deep/img{i}",
                    "jpg": Image.new("RGB", (9, 8), (i, 0, 0)),
                    "json": {"label": i % 2, "text": "x"},
                }
            )
    source = open_folder(tmp_path / "made")
    assert source.ids == [
        "000.tar/deep/img0",
        "000.tar/deep/img1",
        "001.tar/deep/img2",
        "001.tar/deep/img3",
        "002.tar/deep/img4",
    ]
    assert [source.target(i) for i in range(5)] == [0, 1, 0, 1, 0]


@pytest.mark.parametrize("workers", [0, 2])
def test_ranks_and_workers_share_an_epoch_without_repeats(shards, workers):
    views = Views(open_folder(shards), student=CenterView(8), labels=True)
    seen = []
    for rank in range(2):
        for batch in views.loader(4, rank=rank, world=2, workers=workers):
            for image, index, target in zip(batch.student, batch.index.tolist(), batch.target.tolist(), strict=True):
                assert round(255 * image[0, 0, 0].item()) == 20 * index
                assert target == index % 3
                seen.append(index)
    assert sorted(seen) == list(range(12))


def test_a_store_of_shards_is_found_again(shards, tmp_path):
    teacher = TinyTeacher()
    source = open_folder(shards)
    embed(teacher, source, tmp_path / "store", transform=CenterView(8), progress=False)
    asked = teacher.forwards
    again = embed(teacher, open_folder(shards), tmp_path / "store", transform=CenterView(8), progress=False)
    assert teacher.forwards == asked
    assert again.ids == list(source.ids)
    assert not verify(again.path, source)


def labelled(*labels):
    """One image for each label."""
    pairs = [[(f"{i}.png", encoded(i)), (f"{i}.cls", text.encode())] for i, text in enumerate(labels)]
    return [member for pair in pairs for member in pair]


@pytest.mark.parametrize(
    ("labels", "given", "names", "targets"),
    [
        (["dog\n", "cat"], None, ["cat", "dog"], [1, 0]),
        (["dog", "cat"], ["dog", "cat"], ["dog", "cat"], [0, 1]),
        (["n04356056", "n04355933"], None, ["sunglasses", "sunglasses"], [1, 0]),
        (["n01440764", "Goldfish"], ["goldfish", "tench"], ["goldfish", "tench"], [1, 0]),
        (["n01440764", "Goldfish"], {"n01443537": "goldfish", "n01440764": "tench"}, ["goldfish", "tench"], [1, 0]),
        (["1"], ["crane", "crane"], ["crane", "crane"], [1]),  # numbers tell classes of one name apart
    ],
)
def test_labels_are_names_ids_or_numbers(tmp_path, labels, given, names, targets):
    write(tmp_path / "a.tar", labelled(*labels))
    source = open_folder(tmp_path, given)
    assert list(source.classes) == names
    for again in (source, open_folder(tmp_path, source.classes)):
        assert [again.target(i) for i in range(len(again))] == targets


@pytest.mark.parametrize("file", [("2.cls", b"-1\n"), ("2.json", b'{"label": -1}'), ("2.json", b'{"label": "-1"}')])
@pytest.mark.parametrize("classes", [None, ["cat", "dog"]])
def test_minus_one_is_no_label(tmp_path, file, classes):
    write(tmp_path / "a.tar", [("1.png", encoded(1)), ("1.cls", b"1"), ("2.png", encoded(2)), file])
    source = open_folder(tmp_path, classes)
    assert source.classes == classes
    assert [source.target(i) for i in range(2)] == [1, None]


def test_images_without_labels_and_other_members(tmp_path):
    write(
        tmp_path / "a.tar",
        [
            ("1.jpg", encoded(1, "jpeg")),
            ("1.txt", b"a caption"),
            ("2.webp", encoded(2, "webp")),
            ("2.json", json.dumps({"text": "x"}).encode()),
        ],
    )
    source = open_folder(tmp_path)
    assert len(source) == 2
    assert source.classes is None
    assert source.target(0) is None


def test_an_image_that_cannot_be_read(shards):
    write(shards / "z.tar", [("1.png", b"no image")])
    source = open_folder(shards)
    with pytest.raises(DataError, match=r"cannot read image .*z.tar/1"):
        readable(source)
    assert readable(source, on_error="skip", max_share=0.5).skipped == ["z.tar/1"]


@pytest.mark.parametrize(("members", "message"), [
    ([("1.png", b"x"), ("1.jpg", b"x")], "the sample '1' has several images or occurs twice"),
    ([("1.png", b"x"), ("1.png", b"x")], "the sample '1' has several images or occurs twice"),
    ([("1.png", b"x"), ("2.cls", b"1")], r"1 samples have a label and no image \(2\)"),
    ([("1.png", b"x"), ("1.json", b"{")], "1.json is no JSON"),
    ([("1.png", b"x"), ("1.cls", b"0" * (1 << 21))], "has 2097152 bytes, expected at most 1048576 for one label"),
    ([("1.png", b"x"), ("1.cls", b"cat"), ("2.png", b"x"), ("2.cls", b"4")], "label '4', which is none of 1 class names"),
    ([("1.png", b"x"), ("1.cls", b"-3")], "label '-3', which is no number of at most 9 digits"),
    ([("1.png", b"x"), ("1.cls", b"1.0")], "label '1.0', which is no number of at most 9 digits"),
    ([("1.png", b"x"), ("1.json", b'{"label": 1.0}')], "label '1.0', which is no number of at most 9 digits"),
    ([("1.png", b"x"), ("1.json", b'{"label": 1e999}')], "label '1e999', which is no number of at most 9 digits"),
    ([("1.png", b"x"), ("1.cls", b"9" * 6000)], "label '9{40}', which is no number of at most 9 digits"),
    ([("1.png", b"x"), ("1.cls", b"1180591620717411303424")], "label '1180591620717411303424', which is no number of at"),
    ([("1.png", b"x"), ("1.json", b'{"cls": 1180591620717411303424}')], "which is no number of at most 9 digits"),
    ([("1.txt", b"x")], "hold no image: expected members such as 000001.jpg"),
])  # fmt: skip
def test_what_is_refused(tmp_path, members, message):
    write(tmp_path / "a.tar", members)
    with pytest.raises(DataError, match=message):
        open_folder(tmp_path)


@pytest.mark.parametrize(
    ("label", "classes", "message"),
    [
        ("dog", ["cow", "cat"], "a.tar/0 has the label 'dog', which is none of 2 class names"),
        ("crane", {"n0": "crane", "n1": "crane"}, "has the label 'crane', which is none of 2 class names"),
    ],
)
def test_a_label_of_no_class_or_of_several_is_refused(tmp_path, label, classes, message):
    write(tmp_path / "a.tar", labelled(label))
    with pytest.raises(DataError, match=message):
        open_folder(tmp_path, classes)


@pytest.mark.parametrize(
    ("put", "message"),
    [
        (os.mkfifo, r"train-0002\.tar.*no regular file"),  # and is not waited for
        (lambda path: path.touch(), "has become shorter since it was opened"),
    ],
)
def test_a_shard_that_becomes_something_else_is_named(shards, put, message):
    source = open_folder(shards)
    (shards / "train-0002.tar").unlink()
    put(shards / "train-0002.tar")
    with pytest.raises(DataError, match=message):
        source.image(11)


def test_damaged_shards(shards, tmp_path):
    first = shards / "train-0000.tar"
    whole = first.read_bytes()
    first.write_bytes(whole[: len(whole) // 20])
    with pytest.raises(DataError, match=r"train-0000.tar is no uncompressed tar file, or it is cut off"):
        open_folder(shards)
    broken = bytearray(whole)
    broken[1024 + 100 : 1024 + 140] = b"\xff" * 40  # the second header
    first.write_bytes(broken)
    with pytest.raises(DataError, match=r"train-0000.tar is damaged at byte 1024"):
        open_folder(shards)
    write(tmp_path / "packed" / "a.tar", [("1.png", encoded(1))], mode="w:gz")
    with pytest.raises(DataError, match="unpack a compressed one"):
        open_folder(tmp_path / "packed")


def test_links_and_devices_are_no_images(tmp_path):
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        link = tarfile.TarInfo("1.png")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
        info = tarfile.TarInfo("../2.png")
        info.size = len(encoded(2))
        archive.addfile(info, io.BytesIO(encoded(2)))
    source = open_folder(tmp_path)
    assert source.ids == ["a.tar/../2"]
    assert source.image(0).size == (8, 8)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["a.tar"]


def test_shard_that_is_no_regular_file_is_named(shards):
    os.mkfifo(shards / "a.tar")
    with pytest.raises(DataError, match=r"cannot read shard .*a\.tar \(it is no regular file\): restore or remove it"):
        open_folder(shards, layout="shards")
    (shards / "a.tar").unlink()
    (shards / "b.tar").mkdir()
    with pytest.raises(DataError, match=r"cannot read shard .*b\.tar"):
        open_folder(shards, layout="shards")


def test_images_in_other_formats(tmp_path, caplog):
    eps = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n"
    write(tmp_path / "a.tar", [("1.jfif", encoded(1, "jpeg")), ("2.png", eps), ("3.heic", b"x"), ("4.heic", b"x")])
    source = open_folder(tmp_path)
    assert source.ids == ["a.tar/1", "a.tar/2"]
    with pytest.raises(DataError, match=r"a\.tar/2 \(its bytes are none of"):
        source.image(1)
    (record,) = caplog.records
    assert record.getMessage().endswith(
        "images in formats that are not read are left out: 2 .heic; convert them to .png"
    )


def test_limit_of_pixels_holds_in_shards(shards):
    assert open_folder(shards, max_megapixels=64e-6).image(0).size == (8, 8)
    with pytest.raises(DataError, match=r"train-0000\.tar/000000 has 8 x 8 pixels .*the limit is 6e-05 megapixels"):
        open_folder(shards, max_megapixels=60e-6).image(0)
    with pytest.raises(OptionError, match="max_megapixels > 0"):
        ShardSource(shards, max_megapixels=0)


def test_a_folder_with_both(shards, tmp_path):
    (shards / "1.png").write_bytes(encoded(1))
    with pytest.raises(DataError, match="holds shards and loose images: pass layout='shards'"):
        open_folder(shards)
    assert len(open_folder(shards, layout="shards")) == 12
    assert torch.is_tensor(CenterView(8)(open_folder(shards, layout="shards").image(0)))
