"""The memory that a JPEG 2000 file takes to decode, told by its markers before anything is decoded.

A hundred bytes can cut an image into millions of tiles, precincts and code blocks, and OpenJPEG keeps a record of each.
Markers are looked for in the whole file, and the most costly ones count: a tile may have its own, and boxes may come
before the stream. Bytes of pixels that look like a marker hardly ever hold what OpenJPEG accepts, and are passed over.
"""

import re
import struct
from itertools import islice
from typing import NamedTuple

_MARKER = re.compile(rb"\xff[\x51-\x53]")
_SIZ, _COD = 0x51, 0x52  # the sizes; how all components are coded; 0x53 is COC, how one is
_MARKERS, _CODINGS, _COMPONENTS = 100_000, 100, 4  # at most
_BLOCK, _TILE = 600, 13_000  # bytes of a record, measured with OpenJPEG 2.5.4
_VISITS = 1 << 26  # of blocks, in some seconds


class _Size(NamedTuple):
    pixels: int
    tile: tuple[int, int]  # width and height
    tiles: int
    components: int
    sample: int  # bytes


class _Coding(NamedTuple):
    layers: int
    blocks: tuple[tuple[int, int], ...]  # log2 of width and height, from the lowest resolution on


def decoder_bytes(data: bytes) -> int:
    """Most memory that decoding takes, with the image that Pillow makes of it, in bytes.

    Args:
        data: the whole file.

    Raises: ValueError for more than four components, several sizes, and so many pieces that decoding takes very long.
    """
    starts = [found.end() for found in islice(_MARKER.finditer(data), _MARKERS + 1)]
    sizes = {size for at in starts if (size := _size(data, at))}
    codings = {coding for at in starts if (coding := _coding(data, at))}
    if len(starts) > _MARKERS or len(sizes) > 1 or len(codings) > _CODINGS:
        raise ValueError(f"it has {len(starts)} markers, {len(sizes)} sizes, {len(codings)} codings: save it again")
    return sum(_bytes(size, codings, len(data)) for size in sizes)


def _bytes(size: _Size, codings: set[_Coding], file: int) -> int:
    if size.components > _COMPONENTS:
        raise ValueError(f"it has {size.components} components, expected at most {_COMPONENTS}")
    layers = max((each.layers for each in codings), default=1)
    resolutions = max((len(each.blocks) for each in codings), default=1)
    blocks = size.components * max((_count(size.tile, each.blocks) for each in codings), default=0)
    visits = blocks * resolutions * (1 + layers)  # of one tile, with a flag of two bytes for each
    if visits * size.tiles > _VISITS:
        raise ValueError(f"it is cut into {size.tiles} tiles of {blocks} blocks in {layers} layers: save it in one")
    samples = size.pixels * size.components * (4 + size.sample)
    return samples + max(4 * size.pixels, file) + _BLOCK * blocks + _TILE * size.tiles + 2 * visits


def _count(tile: tuple[int, int], blocks: tuple[tuple[int, int], ...]) -> int:
    """Code blocks and precincts of one component of a tile, at most: one band of the lowest resolution, then three."""
    count = 0
    for resolution, sides in enumerate(blocks):
        halved = len(blocks) - max(1, resolution)
        across, down = (2 + (length >> (halved + side)) for length, side in zip(tile, sides, strict=True))
        count += (3 if resolution else 1) * across * down
    return count


def _size(data: bytes, at: int) -> _Size | None:
    """What stands after a marker of the sizes, if it is one."""
    if data[at - 1] != _SIZ or len(data) < at + 41:
        return None
    length, _, right, bottom, left, top, wide, high, tile_left, tile_top, count = struct.unpack_from(">HH8IH", data, at)
    first = data[at + 38 : at + 38 + 3 * min(count, _COMPONENTS)]  # of each component: depth, and steps in x and y
    depth, steps = 1 + max(first[::3], default=0) % 128, (*first[1::3], *first[2::3])
    fits = length == 38 + 3 * count and left < right and top < bottom and tile_left <= left and tile_top <= top
    if not (fits and count and wide and high and all(steps) and depth <= 38):
        return None
    tiles = -(-(right - tile_left) // wide) * -(-(bottom - tile_top) // high)
    width, height, sample = right - left, bottom - top, 1 if depth <= 8 else 2 if depth <= 16 else 4
    return _Size(width * height, (min(wide, width), min(high, height)), tiles, count, sample)


def _coding(data: bytes, at: int) -> _Coding | None:
    """What stands after a marker of a coding, if it is one. A precinct ends a block."""
    if data[at - 1] == _SIZ or len(data) < at + 12:
        return None
    length, style, layers = struct.unpack_from(">HBxH", data, at)
    body = at + 7
    if data[at - 1] != _COD:  # a component, then its style, and no layers
        style, layers, body = data[at + 3], 1, at + 4
    levels, across, down = data[body], data[body + 1] + 2, data[body + 2] + 2
    own = (style & 1) * (levels + 1)  # else precincts are as large as can be
    if levels > 32 or max(across, down) > 10 or across + down > 12 or length != body + 5 + own - at:
        return None
    blocks = []
    for resolution, sides in enumerate(data[body + 5 : body + 5 + own] or bytes([0xFF]) * (levels + 1)):
        halved = min(1, resolution)  # a band of a higher resolution is half as wide and high
        blocks.append((min(across, max(0, sides % 16 - halved)), min(down, max(0, sides // 16 - halved))))
    return _Coding(layers, tuple(blocks))
