"""Image files as RGB: which formats are decoded, how large an image may be, and how its pixels become 8-bit RGB."""

import logging
import math
import os
import warnings
from collections import Counter
from contextlib import suppress
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageFile, ImageOps, UnidentifiedImageError, features
from PIL.TiffImagePlugin import TiffImageFile

from graphkd.data.jpeg2000 import decoder_bytes
from graphkd.errors import DataError, OptionError
from graphkd.text import open_regular

log = logging.getLogger("graphkd")
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")  # one a bad tag, thousands a file
MAX_MEGAPIXELS = 64.0
_BY_FORMAT = {
    "AVIF": (".avif",),
    "BMP": (".bmp",),
    "GIF": (".gif",),
    "JPEG": (".jfif", ".jpe", ".jpeg", ".jpg"),
    "JPEG2000": (".j2k", ".jp2"),
    "PNG": (".png",),
    "PPM": (".pbm", ".pgm", ".pnm", ".ppm"),
    "TIFF": (".tif", ".tiff"),
    "WEBP": (".webp",),
}
_OPTIONAL = {"AVIF": "avif", "JPEG2000": "jpg_2000", "WEBP": "webp"}  # formats that some builds of Pillow lack
_OTHERS = (
    *(".apng", ".arw", ".cr2", ".cr3", ".dds", ".dib", ".dng", ".eps", ".exr", ".hdr", ".heic", ".heif", ".icns"),
    *(".ico", ".j2c", ".jpf", ".jpx", ".jxl", ".jxr", ".mpo", ".nef", ".orf", ".pcx", ".psd", ".qoi", ".raf", ".raw"),
    *(".rw2", ".sgi", ".svg", ".tga", ".wmf", ".xbm", ".xpm"),
)  # images that nothing here decodes
_WEIGHTS = {"AVIF": 2.0, "CMYK": 1.25, "I": 1.5, "WEBP": 2.0}  # measured: a pixel takes 12 to 24 bytes
_PIXEL = 11  # bytes: a JPEG 2000 file of 64 x 11 MB takes less than 700 MiB
_LARGEST_FILE = 1 << 28  # bytes
_SCANS = 10_000  # of a JPEG, times megapixels: each scan is a pass over all pixels
_IN_PYTHON = ("bmp_rle", "ppm", "ppm_plain")  # Pillow's slow decoders: a second a MB
_LARGEST_IN_PYTHON, _COMMENTS = 1 << 24, 1000  # bytes; of a plain PNM, whose comments each copy the bytes around it
_HEAD = 1 << 12  # bytes of a PNM's header, which Pillow reads one by one


def pillow_formats() -> tuple[str, ...]:
    """The formats that are decoded, as far as this build of Pillow can; no other parser sees a file."""
    known = {*features.modules, *features.codecs}
    missing = {name for name, need in _OPTIONAL.items() if need not in known or not features.check(need)}
    return tuple(name for name in _BY_FORMAT if name not in missing)


FORMATS = pillow_formats()
SUFFIXES = frozenset(suffix for name in FORMATS for suffix in _BY_FORMAT[name])
UNREAD = frozenset({*_OTHERS, *(suffix for each in _BY_FORMAT.values() for suffix in each)} - {*SUFFIXES})
"""Suffixes of images that are not read: counted, so that nobody loses them in silence."""


def tell_unread(root: str | Path, unread: Counter[str]) -> None:
    """Say once how many images below a root are left out, as nothing reads their formats."""
    if unread:
        counts = ", ".join(f"{count} {suffix}" for suffix, count in unread.most_common())
        log.warning("%s: images in formats that are not read are left out: %s; convert them to .png", root, counts)


def positive(max_megapixels: float) -> float:
    """The limit itself. Raises: OptionError unless it is a positive number."""
    if not 0 < max_megapixels < math.inf:
        raise OptionError(f"expected max_megapixels > 0, found {max_megapixels}")
    return max_megapixels


def largest_file(max_megapixels: float) -> int:
    """Bytes that an image file may have: 256 MiB, or four for each pixel of a higher limit."""
    return max(_LARGEST_FILE, int(4e6 * max_megapixels))


def decoded(file: Path | BinaryIO, name: str, max_megapixels: float = MAX_MEGAPIXELS) -> Image.Image:
    """An image as RGB, upright.

    The bytes tell the format, whatever the suffix says. The header tells the size, before any pixel is decoded. Some
    decoders take more memory for a pixel than others, and their pixels count more: WebP's, AVIF's and those
    of a compressed TIFF in one strip twice, 32-bit grey 1.5 times, CMYK 1.25 times, and JPEG 2000's by the bytes that
    :func:`graphkd.data.jpeg2000.decoder_bytes` finds, of which 11 count as one pixel.

    Args:
        file: path of a regular file, or an open file, which is closed.
        name: what messages call it.
        max_megapixels: most pixels that are decoded, in millions. The default keeps one image below 700 MiB.

    Raises: DataError that names the image, whatever its decoder raises.
    """
    try:
        with open_regular(file) if isinstance(file, Path) else file as opened:
            _check_bytes(opened, name, max_megapixels)
            if Image.MAX_IMAGE_PIXELS is not None and 1e6 * max_megapixels > Image.MAX_IMAGE_PIXELS:
                Image.MAX_IMAGE_PIXELS = int(1e6 * max_megapixels)  # Pillow's own limit would refuse what is allowed
            _check_head(opened)
            image = Image.open(opened, formats=FORMATS)
            _check_pixels(image, opened, name, max_megapixels)
            _check_work(image, opened, name)
            image.load()
            return to_rgb(_upright(image))
    except (DataError, MemoryError):
        raise
    except Image.DecompressionBombError as error:
        raise _too_large(f"{name} has too many pixels ({str(error).rstrip('.')})", max_megapixels, "...") from error
    except UnidentifiedImageError as error:
        raise _unreadable(name, f"its bytes are none of {', '.join(FORMATS)}") from error
    except Exception as error:  # decoders raise anything on broken bytes: whatever it is, the file is to blame
        raise _unreadable(name, f"{type(error).__name__}: {error}") from error


def to_rgb(image: Image.Image) -> Image.Image:
    """Grey (8 and 16 bit), palette, alpha and CMYK images as RGB; alpha is dropped, as torchvision's loader does."""
    if image.mode == "F":
        raise ValueError("float pixels have no known range: save the image with 8 or 16 bit")
    if image.mode.startswith("I"):  # convert() would clip 16 bit at 255: almost everything white
        return Image.fromarray((np.asarray(image).clip(0, 65535) >> 8).astype(np.uint8)).convert("RGB")
    if image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")
    return image.convert("RGB")


def _unreadable(name: str, why: str) -> DataError:
    return DataError(
        f"cannot read image {name} ({why}): repair or remove it, or ask for unreadable images to be skipped"
    )


def _check_bytes(file: BinaryIO, name: str, max_megapixels: float) -> None:
    size, most = file.seek(0, os.SEEK_END), largest_file(max_megapixels)
    if size > most:
        raise DataError(f"{name} has {size} bytes, expected at most {most} for one image: save it smaller")


def _check_head(file: BinaryIO) -> None:
    """Refuse a PNM whose header, with its comments, is endless."""
    file.seek(0)
    head = BytesIO(file.read(_HEAD))
    file.seek(0)
    if head.getvalue().startswith(b"P"):  # as no other format does
        Image.open(head, formats=["PPM"])
        if head.tell() == _HEAD:
            raise ValueError(f"its header takes more than {_HEAD} bytes")


def _check_pixels(image: Image.Image, file: BinaryIO, name: str, max_megapixels: float) -> None:
    needed = _pixels(image, file) / 1e6
    if needed > max_megapixels:
        shown = f"{math.ceil(100 * needed) / 100:g}"
        what = f"{name} has {image.width} x {image.height} pixels ({image.format}, {image.mode})"
        raise _too_large(f"{what}, which count as {shown} megapixels", max_megapixels, shown)


def _too_large(what: str, max_megapixels: float, needed: str) -> DataError:
    return DataError(
        f"{what}; the limit is {max_megapixels:g} megapixels: make the image smaller, allow it with "
        f"max_megapixels={needed}, or ask for unreadable images to be skipped"
    )


def _pixels(image: Image.Image, file: BinaryIO) -> float:
    """Pixels to decode, each counted by the memory that its decoder takes."""
    if image.format == "JPEG2000":
        file.seek(0)
        return max(image.width * image.height, decoder_bytes(file.read()) / _PIXEL)
    pixels = image.width * image.height * max(_WEIGHTS.get(key, 1.0) for key in (image.format or "", image.mode))
    if not isinstance(image, TiffImageFile) or image.tag_v2.get(259, 1) == 1:  # not compressed: read line by line
        return pixels
    tags = image.tag_v2
    strip = tags[256] * min(tags.get(278, tags[257]), tags[257])
    tile = tags.get(322, 0) * tags.get(323, 0)  # may be larger than the image
    return float(max(pixels, 2 * strip, 2 * tile))


def _check_work(image: ImageFile.ImageFile, file: BinaryIO, name: str) -> None:
    """Refuse a file whose bytes keep its decoder busy for minutes."""
    decoder = image.tile[0][0] if image.tile else ""
    if image.format not in ("JPEG", "MPO") and decoder not in _IN_PYTHON:
        return
    file.seek(0)
    data = file.read()
    if decoder in _IN_PYTHON:
        if len(data) > _LARGEST_IN_PYTHON or (decoder == "ppm_plain" and data.count(b"#") > _COMMENTS):
            raise DataError(
                f"{name} has {len(data)} bytes and {data.count(b'#')} comments in a form that is slow to decode "
                f"({decoder}), expected at most {_LARGEST_IN_PYTHON} and {_COMMENTS}: convert it to .png"
            )
        return
    scans = data.count(b"\xff\xda")  # a dozen bytes say that all pixels are to be passed over once more
    if scans * image.width * image.height > _SCANS * 1e6:
        raise DataError(f"{name} has {scans} scans, and an ordinary JPEG has about ten: save it again or remove it")


def _upright(image: Image.Image) -> Image.Image:
    with suppress(Exception):  # the pixels are decoded: broken metadata alone does not make an image unreadable
        ImageOps.exif_transpose(image, in_place=True)  # the other form holds a third copy of the pixels
    return image
