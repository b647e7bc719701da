import hashlib
import os

import numpy as np
import pytest
from PIL import Image

from graphkd.data.sources import ArraySource, FileSource, readable, source_subset
from graphkd.errors import DataError, OptionError


def paint(path, colour=(200, 30, 40), size=(6, 4), mode="RGB", **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).convert(mode).save(path, **options)
    return path


def test_missing_file_is_a_bad_image_that_is_named(tmp_path):
    source = FileSource(tmp_path, [paint(tmp_path / "a.png").name, "b.png"])
    assert source.sizes[0] > 0 == source.sizes[1]
    for read in (source.image, source.content_hash):
        with pytest.raises(DataError, match=r"cannot read image .*b\.png .*No such file.* or remove it"):
            read(1)
    (tmp_path / "c.png").symlink_to("c.png")
    with pytest.raises(DataError, match=r"c\.png.*symbolic links"):
        FileSource(tmp_path, ["c.png"]).image(0)


def test_pipe_is_refused_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "a.png")
    source = FileSource(tmp_path, ["a.png"])
    assert source.sizes == [0]
    for read in (source.image, source.content_hash):
        with pytest.raises(DataError, match=r"a\.png .*no regular file"):
            read(0)


def test_sizes_are_asked_for_once_and_when_they_are_needed(tmp_path, monkeypatch):
    names = [paint(tmp_path / f"{i}.png").name for i in range(5)]
    asked, stat = [], os.stat
    monkeypatch.setattr(os, "stat", lambda path, **options: asked.append(path) or stat(path, **options))
    source = FileSource(tmp_path, names)
    part = source_subset(source, [3, 1])
    assert not asked
    assert part.sizes == [source.sizes[3], source.sizes[1]]
    assert len(asked) == 5


def test_limit_of_pixels_is_checked(tmp_path):
    name = paint(tmp_path / "a.png", size=(40, 30)).name
    assert FileSource(tmp_path, [name], max_megapixels=0.0012).image(0).size == (40, 30)
    with pytest.raises(DataError, match="limit is 0.0011 megapixels"):
        FileSource(tmp_path, [name], max_megapixels=0.0011).image(0)
    for wrong in (0, -1, float("nan"), float("inf")):
        with pytest.raises(OptionError, match=f"expected max_megapixels > 0, found {wrong}"):
            FileSource(tmp_path, [name], max_megapixels=wrong)


def test_file_hash_and_size_are_those_of_the_bytes(tmp_path):
    path = paint(tmp_path / "a.png")
    source = FileSource(tmp_path, ["a.png"])
    assert source.sizes == [path.stat().st_size]
    assert source.content_hash(0) == hashlib.sha256(path.read_bytes()).hexdigest()
    assert source.target(0) is None


def test_array_source_grey_and_rgb():
    grey = ArraySource(np.arange(18, dtype=np.uint8).reshape(2, 3, 3), [1, -1], ["a", "b"])
    assert grey.image(0).getpixel((2, 0)) == (2, 2, 2)
    assert [grey.target(i) for i in range(2)] == [1, None]
    assert grey.ids == ["0", "1"]
    assert grey.sizes == [9, 9]
    assert grey.content_hash(0) != grey.content_hash(1)
    rgb = ArraySource(np.full((1, 2, 2, 3), (1, 2, 3), dtype=np.uint8))
    assert rgb.image(0).getpixel((0, 0)) == (1, 2, 3)
    assert rgb.target(0) is None


@pytest.mark.parametrize(
    ("shape", "dtype", "labels", "message"),
    [
        ((2, 3, 3), np.float32, (), r"expected uint8 \[n, h, w\].*found float32 \[2, 3, 3\]"),
        ((2, 3, 3, 4), np.uint8, (), "found uint8"),
        ((0, 3, 3), np.uint8, (), "array holds no image"),
        ((2, 3, 3), np.uint8, ([0],), "2 images and 1 labels"),
        ((2, 3, 3), np.uint8, ([0, 2], ["a", "b"]), "label 2 has no name among 2 classes"),
    ],
)
def test_array_source_refuses_other_arrays(shape, dtype, labels, message):
    with pytest.raises(DataError, match=message):
        ArraySource(np.zeros(shape, dtype), *labels)


def test_subset_keeps_the_ids_of_its_source():
    source = ArraySource(np.arange(4, dtype=np.uint8).reshape(4, 1, 1), [0, 1, 0, 1], ["a", "b"])
    part = source_subset(source, [3, 0])
    assert len(part) == 2
    assert part.ids == ["3", "0"]
    assert part.classes == ["a", "b"]
    assert [part.target(0), part.target(1)] == [1, 0]
    assert part.image(0).getpixel((0, 0)) == (3, 3, 3)
    assert part.content_hash(1) == source.content_hash(0)


@pytest.mark.parametrize(("indices", "text"), [([0, 4], r"outside: \[4\]"), ([1, 1], r"once: \[1\]"), ([], "found 0")])
def test_subset_refuses_wrong_indices(indices, text):
    with pytest.raises(DataError, match=text):
        source_subset(ArraySource(np.zeros((4, 1, 1), np.uint8)), indices)


@pytest.fixture
def partly(tmp_path):
    names = [paint(tmp_path / f"{i}.png").name for i in range(9)]
    (tmp_path / "bad.png").write_bytes(b"")
    return FileSource(tmp_path, [*names[:4], "bad.png", *names[4:]])


def test_readable_stops_at_a_bad_image_unless_asked_to_skip(partly):
    with pytest.raises(DataError, match=r"cannot read image .*bad\.png"):
        readable(partly)


def test_readable_skips_and_lists_without_repeating_any(partly):
    source, skipped = readable(partly, on_error="skip", max_share=0.1)
    assert skipped == ["bad.png"]
    assert list(source.ids) == [f"{i}.png" for i in range(9)]
    assert [source.image(i).size for i in range(9)] == [(6, 4)] * 9


def test_readable_refuses_too_many(partly):
    with pytest.raises(DataError, match=r"1 of 10 images cannot be read, at most a share of 0.05.*bad\.png"):
        readable(partly, on_error="skip", max_share=0.05)


def test_readable_of_good_images_is_the_source_itself():
    source = ArraySource(np.zeros((3, 2, 2), np.uint8))
    assert readable(source).source is source
    with pytest.raises(OptionError, match="'ignore'"):
        readable(source, on_error="ignore")
