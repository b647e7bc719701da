"""Images that somebody made to harm: foreign formats under an image's suffix, bombs, polyglots, things that are no file.

A case gets an empty folder and puts one image into it, whose name starts with ``a``.
"""

import io
import os
import pickle
import socket
import struct
import zlib

from PIL import Image

CASES, LARGE, AT_THE_LIMIT = {}, {}, {}
"""What to build, by name: in no time; in some seconds; as large as the limit allows, so it must be read."""


def case(table, name, data, suffix="png"):
    def build(folder):
        (folder / f"a.{suffix}").write_bytes(data() if callable(data) else data)

    table[name] = build


def cases(table, files):
    """A case for each name: its data and suffix."""
    for name, (data, suffix) in files.items():
        case(table, name, data, suffix)


def encoded(kind, size=(64, 48), mode="RGB", **options):
    buffer = io.BytesIO()
    Image.new(mode, size).save(buffer, kind, **options)
    return buffer.getvalue()


# foreign formats, all named .png ----------------------------------------------------------------------------------

FOREIGN = {
    "eps": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\n1 1 moveto showpage\n%%EOF\n",
    "eps_with_a_dos_header": b"\xc5\xd0\xd3\xc6" + struct.pack("<6I", 30, 90, 0, 0, 0, 0) + b"\xff\xff"
    b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n",
    "pdf": b"%PDF-1.4\n1 0 obj<</OpenAction<</S/Launch/F(touch ran)>>>>endobj\n",
    "psd": b"8BPS\0\1" + bytes(6) + struct.pack(">HIIHH", 3, 9, 9, 8, 3) + bytes(400),
    "wmf": b"\xd7\xcd\xc6\x9a\0\0" + struct.pack("<4hH", 0, 0, 9, 9, 96) + bytes(6) + b"\1\0\t\0" + bytes(200),
    "emf": b"\1\0\0\0" + bytes(36) + b" EMF" + bytes(200),
    "fits": b"SIMPLE  =                    T".ljust(80) + b"NAXIS   =                    0".ljust(80),
    "hdf5": b"\x89HDF\r\n\x1a\n" + bytes(99),
    "grib": b"GRIB\0\0\0\1" + bytes(99),
    "fli": bytes(4) + b"\x11\xaf" + bytes(200),
    "xpm": b'/* XPM */\nstatic char *a[] = {\n"1 1 1 1",\n"a c #000000",\n"a"};\n',
    "qoi": b"qoif" + struct.pack(">II", 9, 9) + b"\3\0" + bytes(30),
    "script_in_svg": b"<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>",
    "entities_in_svg": b"<!DOCTYPE s [<!ENTITY a 'aaaa'><!ENTITY b '&a;&a;&a;'>]><svg>&b;</svg>",
    "shell_script": b"#!/bin/sh\ntouch ran\n",
    "zip": b"PK\3\4" + bytes(100),
    "program": b"\x7fELF\2\1\1" + bytes(100),
    "pickle": pickle.dumps({"image": 1}),
    "nothing": b"",
}
FOREIGN |= {name: encoded(name) for name in ("ICO", "ICNS", "PCX", "SGI", "DDS", "TGA", "SPIDER")} | {
    name: encoded(name, mode="1") for name in ("MSP", "XBM")
}
for _name, _data in FOREIGN.items():
    case(CASES, f"foreign_{_name.lower()}", _data)
case(CASES, "foreign_eps_named_jpg", FOREIGN["eps"], "jpg")

# headers that promise too much ------------------------------------------------------------------------------------


def chunk(kind, body):
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(width, height, *chunks, pixels=None):
    if pixels is None:
        pixels = zlib.compress((b"\0" + bytes(3 * width)) * height)
    ihdr = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + ihdr + b"".join(chunks) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def tiff(tags, data=b""):
    """A TIFF whose data start at byte 8. Tags: number -> (type, count, value)."""
    rows = b"".join(struct.pack("<HHII", number, *row) for number, row in sorted(tags.items()))
    return b"II*\0" + struct.pack("<I", 8 + len(data)) + data + struct.pack("<H", len(tags)) + rows + bytes(4)


def grey_tiff(width, height, rows, data, more=None):
    tags = {256: (4, 1, width), 257: (4, 1, height), 258: (3, 1, 8), 259: (3, 1, 8), 262: (3, 1, 1), 277: (3, 1, 1)}
    tags |= {273: (4, 1, 8), 278: (4, 1, rows), 279: (4, 1, len(data))}
    return tiff(tags | (more or {}), data)


def patched(data, box, width, height, high_first):
    """Another size after the name of a box."""
    at = data.index(box) + (4 if high_first else 8)
    sides = (height, width) if high_first else (width, height)
    return data[:at] + struct.pack(">II", *sides) + data[at + 8 :]


def webp_of(width, height):
    """A lossless header alone."""
    bits = (width - 1) | (height - 1) << 14
    body = b"WEBPVP8L" + struct.pack("<I", 30) + b"\x2f" + struct.pack("<I", bits) + bytes(25)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def jpeg_of(width, height):
    data = encoded("JPEG")
    at = data.index(b"\xff\xc0") + 5
    return data[:at] + struct.pack(">HH", height, width) + data[at + 4 :]


_GIF = b"\x02\x02\x4c\x01\x00\x3b"
cases(CASES, {
    "png_of_3600_megapixels": (png(60_000, 60_000, pixels=zlib.compress(bytes(1 << 20))), "png"),
    "png_of_169_megapixels": (png(13_000, 13_000, pixels=zlib.compress(bytes(1 << 20))), "png"),
    "jpeg_of_4290_megapixels": (jpeg_of(65_500, 65_500), "jpg"),
    "jpeg_of_100_megapixels": (jpeg_of(10_000, 10_000), "jpg"),
    "gif_of_4290_megapixels": (b"GIF89a" + struct.pack("<HHBBB", 65_500, 65_500, 0, 0, 0) + b";", "gif"),
    "gif_with_a_frame_beyond_its_screen": (b"GIF89a" + struct.pack("<HHBBB", 1, 1, 128, 0, 0) + bytes(6)
     + b"," + struct.pack("<HHHHB", 0, 0, 65_535, 2_700, 0) + _GIF, "gif"),
    "bmp_of_3600_megapixels": (b"BM" + struct.pack("<IIIIiiHHIIiiII", 99, 0, 54, 40, 60_000, 60_000, 1, 24, 0, 0, 0, 0, 0, 0), "bmp"),
    "ppm_of_3600_megapixels": (b"P6 60000 60000 255\n", "ppm"),
    "ppm_with_an_endless_number": (b"P6 " + b"1" * 100_000, "ppm"),
    "webp_of_268_megapixels": (webp_of(16_384, 16_384), "webp"),
    "webp_of_40_megapixels": (webp_of(8_000, 5_000), "webp"),
    "webp_with_another_canvas": (b"RIFF" + struct.pack("<I", 100) + b"WEBPVP8X" + struct.pack("<I", 10)
     + bytes(4) + b"\x3f\0\0\x3f\0\0" + webp_of(16_384, 16_384)[12:], "webp"),
    "avif_of_100_megapixels": (lambda: patched(encoded("AVIF"), b"ispe", 10_000, 10_000, False), "avif"),
    "jp2_of_100_megapixels": (lambda: patched(encoded("JPEG2000"), b"ihdr", 10_000, 10_000, True), "jp2"),
    "jp2_of_3600_megapixels": (lambda: patched(encoded("JPEG2000"), b"ihdr", 60_000, 60_000, True), "jp2"),
    "jp2_whose_stream_is_larger_than_its_box": (lambda: patched(encoded("JPEG2000"), b"\xff\x51", 0, 0, True), "jp2"),
    "tiff_of_3600_megapixels": (grey_tiff(60_000, 60_000, 60_000, b"x"), "tif"),
    "tiff_in_one_strip": (grey_tiff(8_000, 5_000, 5_000, zlib.compress(bytes(40_000_000))), "tif"),
    "tiff_with_a_size_in_words": (tiff({256: (2, 4, 0x636261), 257: (2, 4, 0x636261)}), "tif"),
    "tiff_that_lists_itself": (grey_tiff(4, 4, 4, zlib.compress(bytes(16)))[:-4] + struct.pack("<I", 8), "tif"),
})  # fmt: skip


def tiles():
    data = zlib.compress(bytes(13_000 * 13_000))
    more = {322: (4, 1, 13_000), 323: (4, 1, 13_000), 324: (4, 1, 8), 325: (4, 1, len(data))}
    return grey_tiff(16, 16, 16, data, more)


case(LARGE, "tiff_with_a_tile_larger_than_itself", tiles, "tif")

# much work or memory behind a small header ------------------------------------------------------------------------


def repeated_tags(times, size):
    """A TIFF, as EXIF is one, whose tags all name the same bytes."""
    tags = {256: (4, 1, 4), 257: (4, 1, 4), 258: (3, 1, 8), 259: (3, 1, 1), 262: (3, 1, 1), 277: (3, 1, 1)}
    tags |= {273: (4, 1, 8), 278: (4, 1, 4), 279: (4, 1, 16)}
    return tiff(tags | dict.fromkeys(range(1000, 1000 + times), (7, size, 8)), os.urandom(size))


def jpeg_with_exif(exif):
    data = encoded("JPEG")
    parts = (b"Exif\0\0" + exif[start : start + 65_000] for start in range(0, len(exif), 65_000))
    return data[:2] + b"".join(b"\xff\xe1" + struct.pack(">H", len(part) + 2) + part for part in parts) + data[2:]


def scans(count, **options):
    data = encoded("JPEG", (8_000, 8_000), "L", **options)
    last = data[data.rindex(b"\xff\xda") : -2]
    return data[:-2] + last * count + data[-2:]


cases(CASES, {
    "tiff_with_5000_tags_of_the_same_bytes": (repeated_tags(5_000, 500_000), "tif"),
    "jpeg_with_5000_tags_of_the_same_bytes": (jpeg_with_exif(repeated_tags(5_000, 500_000)), "jpg"),
    "png_with_5000_tags_of_the_same_bytes": (png(9, 9, chunk(b"eXIf", repeated_tags(5_000, 500_000))), "png"),
    "png_with_a_profile_that_unpacks": (png(9, 9, chunk(b"iCCP", b"k\0\0" + zlib.compress(bytes(1 << 26)))), "png"),
    "png_with_texts_that_unpack": (png(9, 9, *[chunk(b"zTXt", b"k\0\0" + zlib.compress(bytes(1 << 20)))] * 90), "png"),
    "png_with_a_false_checksum": (png(9, 9)[:-6] + b"abcdef", "png"),
    "png_cut_off": (png(99, 99, pixels=zlib.compress(os.urandom(30_000)))[:9_000], "png"),
    "jpeg_cut_off": (encoded("JPEG", (640, 480), progressive=True)[:700], "jpg"),
    "webp_cut_off": (encoded("WEBP", (640, 480))[:60], "webp"),
    "gif_of_20000_frames": (encoded("GIF")[:-1] + (b"," + struct.pack("<HHHHB", 0, 0, 1, 1, 0) + _GIF[:-1]) * 20_000 + b";", "gif"),
    "bmp_that_repeats_one_run": (b"BM" + struct.pack("<IIIIiiHHIIiiII", 99, 0, 1078, 40, 4_000, 4_000, 1, 8, 1, 0, 0, 0, 256, 0)
     + bytes(1024) + b"\xff\1" * 99, "bmp"),
})  # fmt: skip
cases(LARGE, {
    "jpeg_of_2000_scans": (lambda: scans(2_000, progressive=True), "jpg"),
    "avif_whose_frame_is_larger_than_its_box": (lambda: patched(encoded("AVIF", (8_000, 8_000)), b"ispe", 64, 64, False), "avif"),
})  # fmt: skip


def j2k(size, tile, components=3, coding=b"\0\0\0\1\0\5\4\4\0\1"):
    """A JPEG 2000 stream of one tile. Coding: style, order, layers (2 bytes), colours, levels, blocks, precincts."""
    sides = struct.pack(">8I", *size, 0, 0, *tile, 0, 0)
    segments = {0x51: b"\0\0" + sides + struct.pack(">H", components) + b"\7\1\1" * components, 0x52: coding}
    segments |= {0x5C: b"\x40" * (3 * coding[5] + 2), 0x90: struct.pack(">HIBB", 0, 54, 0, 1)}
    head = b"".join(struct.pack(">BBH", 255, marker, len(body) + 2) + body for marker, body in segments.items())
    return b"\xff\x4f" + head + b"\xff\x93" + b"\x80" * 40 + b"\xff\xd9"


def jp2(stream):
    """Its file, where a box that nobody reads comes before the stream."""
    data = encoded("JPEG2000")
    before = data[: data.index(b"jp2c") - 4] + struct.pack(">I", 16) + b"free" + bytes(8)
    return before + struct.pack(">I", 8 + len(stream)) + b"jp2c" + stream


_TINY = b"\1\0\0\1\0\0\4\4\0\1\0"  # precincts of one pixel
_SMALL = b"\1\0\0\1\0\5\4\4\0\1" + b"\x11" * 6
cases(CASES, {
    "j2k_of_65535_tiles": (j2k((255, 257), (1, 1), 4), "j2k"),
    "jp2_of_256_components_after_a_free_box": (jp2(j2k((255, 257), (1, 1), 256)), "jp2"),
    "jp2_whose_stream_after_a_free_box_is_large": (jp2(j2k((30_000, 30_000), (30_000, 30_000))), "jp2"),
    "j2k_of_25_million_precincts": (j2k((5_000, 5_000), (5_000, 5_000), coding=_TINY), "j2k"),
    "j2k_of_a_million_precincts": (j2k((1_000, 1_000), (1_000, 1_000), coding=_TINY), "j2k"),
    "j2k_of_small_precincts_at_each_level": (j2k((2_000, 2_000), (2_000, 2_000), 4, _SMALL), "j2k"),
    "j2k_of_markers_alone": (j2k((64, 64), (64, 64)) + b"\xff\x51" * 1_000_000, "j2k"),
    "pgm_of_three_million_comments": (b"P2\n800 800 255\n" + b"#a\n" * 3_000_000, "pgm"),
    "ppm_with_an_endless_comment": (b"P6\n#" + b"a" * (1 << 24) + b"\n8 8 255\n" + bytes(192), "ppm"),
    "pbm_of_32_megabytes": (lambda: b"P1\n8000 4000\n" + b"0" * 32_000_000, "pbm"),
    "image_and_zip": (encoded("JPEG") + b"PK\3\4" + bytes(60) + b"PK\5\6" + bytes(18), "jpg"),
    "image_and_script": (png(9, 9, chunk(b"tEXt", b"Comment\0<?php system('touch ran'); ?>")) + b"#!/bin/sh\ntouch ran\n", "png"),
    "image_and_postscript": (encoded("GIF") + FOREIGN["eps"], "gif"),
    "postscript_in_a_tiff": (grey_tiff(4, 4, 4, zlib.compress(bytes(16)), {270: (2, 4, 0x215325)}), "tif"),
    "image_and_pickle": (encoded("PNG") + pickle.dumps({"image": 1}), "png"),
    "jpeg_named_png": (encoded("JPEG"), "png"),
    "shell_script_in_a_ppm": (b"P6\n#!/bin/sh\n#touch ran\n1 1 255\nabc", "ppm"),
})  # fmt: skip

# no file ----------------------------------------------------------------------------------------------------------


def unix_socket(folder):
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(os.path.relpath(folder / "a.png"))


def links_that_double(folder):
    """Thirty links that lead to 2^15 paths of one image."""
    for level in range(15):
        (folder / f".{level}").mkdir()
        for name in "ab":
            (folder / f".{level}" / name).symlink_to(folder / f".{level + 1}")
    (folder / ".15").mkdir()
    Image.new("RGB", (4, 4)).save(folder / ".15" / "a.png")
    (folder / "a").symlink_to(folder / ".0")


def file_of_a_terabyte(name, start):
    def build(folder):
        (folder / name).write_bytes(start)
        os.truncate(folder / name, 1 << 40)

    return build


CASES |= {
    "pipe": lambda folder: os.mkfifo(folder / "a.png"),
    "unix_socket": unix_socket,
    "link_to_endless_zeros": lambda folder: (folder / "a.png").symlink_to("/dev/zero"),
    "link_to_a_terminal": lambda folder: (folder / "a.png").symlink_to("/dev/tty"),
    "link_to_nowhere": lambda folder: (folder / "a.png").symlink_to(folder / "nowhere"),
    "link_to_itself": lambda folder: (folder / "a.png").symlink_to("a.png"),
    "link_to_a_folder": lambda folder: (os.mkdir(folder / "b"), (folder / "a.png").symlink_to(folder / "b")),
    "folder_named_as_an_image": lambda folder: os.mkdir(folder / "a.png"),
    "links_that_double": links_that_double,
    "file_of_a_terabyte": file_of_a_terabyte("a.webp", webp_of(9, 9)),
    "text_of_a_terabyte": file_of_a_terabyte("a.ppm", b"P6\n#"),
}

# as large as is allowed -------------------------------------------------------------------------------------------

for _name, _kind, _size, _mode, _options in (
    ("png", "PNG", (8_000, 8_000), "RGBA", {}),
    ("deep_png", "PNG", (8_000, 8_000), "I;16", {}),
    ("palette", "PNG", (8_000, 8_000), "P", {"transparency": 0}),
    ("gif", "GIF", (8_000, 8_000), "P", {}),
    ("jpeg", "JPEG", (8_000, 8_000), "RGB", {"progressive": True, "subsampling": 0}),
    ("cmyk_jpeg", "JPEG", (7_100, 7_200), "CMYK", {"progressive": True, "subsampling": 0}),
    ("tiff", "TIFF", (8_000, 8_000), "RGB", {"compression": "tiff_lzw"}),
    ("tiff_of_two_strips", "TIFF", (8_000, 8_000), "RGBA", {"compression": "tiff_deflate", "tiffinfo": {278: 4_000}}),
    ("deep_tiff", "TIFF", (6_500, 6_500), "I", {"compression": "tiff_deflate"}),
    ("webp", "WEBP", (8_000, 4_000), "RGBA", {"lossless": True}),
    ("avif", "AVIF", (8_000, 4_000), "RGBA", {"subsampling": "4:4:4", "speed": 10}),
    ("jp2", "JPEG2000", (5_000, 5_000), "RGBA", {}),
):
    case(
        AT_THE_LIMIT,
        f"largest_{_name}",
        lambda k=_kind, s=_size, m=_mode, o=_options: encoded(k, s, m, **o),
        _kind.lower().replace("jpeg2000", "jp2"),
    )
