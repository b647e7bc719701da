"""Image files as RGB: every mode and format, what is refused, and how large an image may be."""

import io
import os
import subprocess
import sys
import warnings

import numpy as np
import pytest
from PIL import Image, features

from graphkd.data import decoding
from graphkd.data.decoding import FORMATS, SUFFIXES, UNREAD, decoded, pillow_formats
from graphkd.data.jpeg2000 import decoder_bytes
from graphkd.errors import DataError
from tests.faults.hostile_images import grey_tiff, j2k, png


def paint(path, colour=(200, 30, 40), size=(6, 4), mode="RGB", **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).convert(mode).save(path, **options)
    return path


def only(path):
    return decoded(path, str(path))


@pytest.mark.parametrize(
    ("mode", "name"),
    [("L", "grey.png"), ("LA", "grey_alpha.png"), ("RGBA", "alpha.png"), ("P", "palette.gif"), ("CMYK", "print.jpg"),
     ("1", "bits.png")],
)  # fmt: skip
def test_every_mode_becomes_rgb_of_the_same_colour(tmp_path, mode, name):
    image = only(paint(tmp_path / name, colour=(255, 255, 255), mode=mode))
    assert image.mode == "RGB"
    assert image.size == (6, 4)
    assert np.abs(np.asarray(image).astype(int) - 255).max() <= 6


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


def test_broken_exif_alone_does_not_make_an_image_unreadable(tmp_path):
    paint(tmp_path / "a.png", exif=b"Exif\x00\x00no such thing")
    assert only(tmp_path / "a.png").size == (6, 4)


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


def test_float_pixels_are_refused_with_the_remedy(tmp_path):
    Image.fromarray(np.zeros((2, 2), np.float32)).save(tmp_path / "f.tiff")
    with pytest.raises(DataError, match="save the image with 8 or 16 bit"):
        only(tmp_path / "f.tiff")


def encoded(kind, size=(64, 48), mode="RGB", **options):
    buffer = io.BytesIO()
    Image.new(mode, size, "white").save(buffer, kind, **options)
    return buffer.getvalue()


def limited(data, megapixels):
    return decoded(io.BytesIO(data), "a.img", megapixels)


# formats ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", FORMATS)
def test_bytes_tell_the_format_whatever_the_suffix_says(tmp_path, kind):
    (tmp_path / "a.png").write_bytes(encoded(kind))
    assert only(tmp_path / "a.png").getpixel((0, 0)) == (255, 255, 255)


@pytest.mark.parametrize("suffix", sorted(SUFFIXES))
def test_every_suffix_is_one_that_pillow_opens(tmp_path, suffix):
    assert Image.registered_extensions()[suffix] in FORMATS
    assert only(paint(tmp_path / f"a{suffix}", mode="1" if suffix == ".pbm" else "RGB")).size == (6, 4)


def test_no_other_parser_sees_a_file(tmp_path, monkeypatch):
    """EPS would start Ghostscript; nobody needs to know which parsers do such things."""
    Image.init()
    seen = []
    for name in Image.OPEN.keys() - {*FORMATS}:
        monkeypatch.setitem(Image.OPEN, name, (lambda *_, name=name: seen.append(name), None))
    (tmp_path / "a.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n")
    with pytest.raises(DataError, match=r"a\.png \(its bytes are none of AVIF, BMP, .*: repair or remove it"):
        only(tmp_path / "a.png")
    assert not seen


def test_formats_that_pillow_lacks_are_told_as_not_read(monkeypatch):
    monkeypatch.setattr(features, "check", lambda name: name != "avif")
    assert {*FORMATS} - {*pillow_formats()} == {"AVIF"}
    assert not SUFFIXES & UNREAD
    assert ".heic" in UNREAD


# size -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "mode", "options", "weight"),
    [
        ("PNG", "RGB", {}, 1.0),
        ("JPEG", "RGB", {}, 1.0),
        ("JPEG", "CMYK", {}, 1.25),
        ("WEBP", "RGB", {}, 2.0),
        ("AVIF", "RGB", {}, 2.0),
        ("TIFF", "I", {}, 1.5),
        ("TIFF", "RGB", {}, 1.0),
        ("TIFF", "RGB", {"compression": "tiff_lzw", "tiffinfo": {278: 10}}, 1.0),
        ("TIFF", "RGB", {"compression": "tiff_lzw", "tiffinfo": {278: 40}}, 1.6),  # two of 50 x 40 pixels
        ("TIFF", "RGB", {"compression": "tiff_lzw", "tiffinfo": {278: 50}}, 2.0),
    ],
)
def test_pixels_count_by_the_memory_that_their_decoder_takes(kind, mode, options, weight):
    data = encoded(kind, (50, 50), mode, **options)
    megapixels = 0.0025 * weight
    assert limited(data, 1.001 * megapixels).size == (50, 50)
    with pytest.raises(DataError, match=r"a.img has 50 x 50 pixels .*the limit is .* or ask for unreadable images"):
        limited(data, 0.999 * megapixels)


def test_message_says_the_limit_and_what_would_be_enough():
    with pytest.raises(DataError) as error:
        limited(png(13_000, 5_000, pixels=b""), 64)
    assert str(error.value) == (
        "a.img has 13000 x 5000 pixels (PNG, RGB), which count as 65 megapixels; the limit is 64 megapixels: make the "
        "image smaller, allow it with max_megapixels=65, or ask for unreadable images to be skipped"
    )


def test_more_than_pillow_allows_can_be_allowed(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    data = encoded("PNG", (20, 20))
    with pytest.raises(DataError, match=r"too many pixels \(Image size \(400 pixels\).*allow it with max_megapixels="):
        limited(data, 0.0001)
    assert limited(data, 0.0004).size == (20, 20)


def test_tile_that_is_larger_than_its_image_counts():
    data = grey_tiff(16, 16, 16, b"x", {322: (4, 1, 4096), 323: (4, 1, 4096)})
    with pytest.raises(DataError, match="count as 33.56 megapixels"):
        limited(data, 1)


def test_pixels_of_a_jpeg_2000_count_by_the_bytes_that_decoding_takes():
    data = encoded("JPEG2000", (50, 50), num_resolutions=1)
    blocks = 3 * (600 * 2 * 2)  # 50 pixels lie in two blocks of 64 where they begin in the midst of one
    needed = 50 * 50 * (3 * (4 + 1) + 4) + blocks + 13_000 + 2 * (blocks // 600) * 2
    assert decoder_bytes(data) == needed
    assert limited(data, 1.001e-6 * needed / 11).size == (50, 50)
    with pytest.raises(DataError, match=r"\(JPEG2000, RGB\), which count as 0.01 megapixels"):
        limited(data, 0.999e-6 * needed / 11)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": (255, 257), "tile": (1, 1)}, "cut into 65535 tiles of 192 blocks in 1 layers"),
        ({"components": 5}, "has 5 components, expected at most 4"),
        ({"coding": b"\0\0\xff\xff\0\5\4\4\0\1", "size": (400, 400)}, "tiles of .* blocks in 65535 layers"),
    ],
)
def test_jpeg_2000_in_many_pieces_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        decoder_bytes(j2k(**{"size": (64, 64), "tile": (64, 64), **options}))


def test_markers_of_a_jpeg_2000_count_wherever_they_stand():
    whole = j2k((64, 64), (64, 64))
    precincts = b"\xff\x53\0\x0a\0\1\0\4\4\0\1\0"  # of one pixel, of the first component
    blocks = 3 * 66 * 66
    assert decoder_bytes(whole) < 220_000
    assert decoder_bytes(whole[:-2] + precincts + whole[-2:]) > 600 * blocks
    with pytest.raises(ValueError, match="it has .* 2 sizes"):
        decoder_bytes(whole + j2k((64, 65), (64, 64)))
    assert decoder_bytes(whole + b"\xff\x51\0\x2f" + bytes(50)) < 220_000  # pixels that look like a marker


def test_plain_pnm_may_have_comments_but_not_thousands():
    data = b"P2\n# by hand\n2 1 255\n# grey\n7 9\n"
    assert np.asarray(limited(data, 1))[0, :, 0].tolist() == [7, 9]
    with pytest.raises(DataError, match="1002 comments in a form that is slow to decode .*convert it to .png"):
        limited(data + b"#\n" * 1000, 1)


def test_header_of_a_pnm_ends_soon():
    for tail in (b"\n2 1 255\n123456", b" 2 1 255#"):  # Pillow takes a comment for the end of nothing
        with pytest.raises(DataError, match="header"):
            limited(b"P6" + b"\n#" + 5000 * b"a" + tail, 1)
    with pytest.raises(DataError, match="its header takes more than 4096 bytes"):
        limited(b"P6 2 1 255#" + 5000 * b"a", 1)


def test_pillows_warnings_about_tags_are_not_printed(tmp_path):
    tags = {259: (3, 1, 1)} | {40_000 + i: (7, 9_999, 8) for i in range(20)}  # each promises more bytes than there are
    (tmp_path / "a.tif").write_bytes(grey_tiff(4, 4, 4, bytes(16), tags))
    script = f"""if True:
        from pathlib import Path
        from graphkd.data.decoding import decoded
        print(decoded(Path({str(tmp_path / "a.tif")!r}), "a.tif").size)"""
    told = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert (told.stdout, told.stderr) == ("(4, 4)\n", "")


def test_jpeg_of_many_scans_is_refused():
    data = encoded("JPEG", (1000, 1000), "L", progressive=True)
    last = data[data.rindex(b"\xff\xda") : -2]
    assert limited(data, 1).size == (1000, 1000)
    with pytest.raises(DataError, match="has 12006 scans, and an ordinary JPEG has about ten"):
        limited(data[:-2] + 12_000 * last + data[-2:], 1)


def test_file_of_many_bytes_is_not_read(tmp_path):
    path = tmp_path / "a.webp"
    path.write_bytes(encoded("WEBP"))
    os.truncate(path, (1 << 28) + 1)  # a hole: it takes no room on the disk
    with pytest.raises(DataError, match="has 268435457 bytes, expected at most 268435456"):
        only(path)
    assert decoding.largest_file(100) == 400_000_000
