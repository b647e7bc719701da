import hashlib
import warnings

import numpy as np
import pytest
from PIL import Image

from graphkd.data.sources import ArraySource, FileSource, readable, source_subset
from graphkd.errors import DataError, OptionError


def paint(path, colour=(200, 30, 40), size=(6, 4), mode="RGB", **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).convert(mode).save(path, **options)
    return path


def only(path):
    return FileSource(path.parent, [path.name]).image(0)


@pytest.mark.parametrize(
    ("mode", "name"),
    [("L", "grey.png"), ("LA", "grey_alpha.png"), ("RGBA", "alpha.png"), ("P", "palette.gif"), ("CMYK", "print.jpg"),
     ("1", "bits.png")],
)  # fmt: skip
def test_every_mode_becomes_rgb_of_the_same_colour(tmp_path, mode, name):
    image = only(paint(tmp_path / name, colour=(250, 250, 250), mode=mode))
    assert image.mode == "RGB"
    assert image.size == (6, 4)
    assert np.abs(np.asarray(image).astype(int) - 250).max() <= 6


def test_palette_with_transparency_warns_nobody(tmp_path):
    image = Image.new("P", (3, 3), 1)
    image.putpalette([0, 0, 0, 10, 20, 30])
    image.save(tmp_path / "p.png", transparency=bytes([0, 255]))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert only(tmp_path / "p.png").getpixel((1, 1)) == (10, 20, 30)


def test_sixteen_bit_grey_keeps_its_range(tmp_path):
    values = np.array([[0, 256, 0x8000, 0xFFFF]], dtype=np.uint16)
    Image.fromarray(values).save(tmp_path / "deep.png")
    assert np.asarray(only(tmp_path / "deep.png"))[0, :, 0].tolist() == [0, 1, 128, 255]


def test_exif_orientation_turns_the_image(tmp_path):
    image = Image.new("RGB", (8, 4), "blue")
    image.paste("red", (0, 0, 2, 4))
    exif = Image.Exif()
    exif[0x0112] = 6  # stored lying on its side: rotate by 270 degrees to look at it
    image.save(tmp_path / "turned.png", exif=exif)
    upright = only(tmp_path / "turned.png")
    assert upright.size == (4, 8)
    assert upright.getpixel((1, 0)) == (255, 0, 0)
    assert upright.getpixel((1, 7)) == (0, 0, 255)


def broken(tmp_path):
    whole = paint(tmp_path / "whole.jpg", size=(64, 64)).read_bytes()
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 255, (64, 64, 3), dtype=np.uint8)).save(tmp_path / "noise.png")
    return {
        "truncated.jpg": whole[: len(whole) // 2],
        "truncated.png": (tmp_path / "noise.png").read_bytes()[:3000],
        "text.png": b"this is no image",
        "empty.png": b"",
    }


@pytest.mark.parametrize("name", ["truncated.jpg", "truncated.png", "text.png", "empty.png"])
def test_unreadable_image_is_named(tmp_path, name):
    (tmp_path / name).write_bytes(broken(tmp_path)[name])
    with pytest.raises(DataError, match=f"cannot read image .*{name}.*repair or remove it"):
        only(tmp_path / name)


def test_vanished_file_is_named(tmp_path):
    source = FileSource(tmp_path, [paint(tmp_path / "a.png").name])
    (tmp_path / "a.png").unlink()
    with pytest.raises(DataError, match=r"a\.png.*FileNotFoundError"):
        source.image(0)


def test_float_pixels_are_refused_with_the_remedy(tmp_path):
    Image.fromarray(np.zeros((2, 2), np.float32)).save(tmp_path / "f.tiff")
    with pytest.raises(DataError, match="save the image with 8 or 16 bit"):
        only(tmp_path / "f.tiff")


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


def test_array_source_refuses_other_arrays():
    with pytest.raises(DataError, match=r"expected uint8 \[n, h, w\].*found float32 \[2, 3, 3\]"):
        ArraySource(np.zeros((2, 3, 3), np.float32))
    with pytest.raises(DataError, match="found uint8"):
        ArraySource(np.zeros((2, 3, 3, 4), np.uint8))
    with pytest.raises(DataError, match="array holds no image"):
        ArraySource(np.zeros((0, 3, 3), np.uint8))
    with pytest.raises(DataError, match="2 images and 1 labels"):
        ArraySource(np.zeros((2, 3, 3), np.uint8), [0])
    with pytest.raises(DataError, match="label 2 has no name among 2 classes"):
        ArraySource(np.zeros((2, 3, 3), np.uint8), [0, 2], ["a", "b"])


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
