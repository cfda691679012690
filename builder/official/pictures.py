"""Official pictures: images checked and cut to their samples, RGB masks to ids by one look-up."""

import io
import struct
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image
from zlib_ng import zlib_ng

from builder.core.errors import ArasError, blame_memory
from builder.land.classes import PALETTE
from builder.land.pictures import UNDECODABLE, Pixels, decode_png
from builder.official.names import Refused

UNKNOWN = 255
"""Id of every colour outside the palette, in `colour_table`."""

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_RGB = 2
_KINDS = {0: "grey", 2: "RGB", 3: "palette", 4: "grey with alpha", 6: "RGB with alpha"}
_LAST_FILTER = 4  # PNG specification, third edition, table 9.1
_SHOWN = 3  # most unknown colours that an error names


class Png(NamedTuple):
    """Header of a PNG and its packed samples, every chunk's CRC checked.

    ``essential`` is the file without what is not needed for its samples; ``bare`` says that this is
    all of the file.
    """

    width: int
    height: int
    depth: int
    colour: int
    interlaced: bool
    packed: bytes
    essential: bytes
    bare: bool


def parse_png(data: bytes) -> Png:
    """Walk the chunks of a PNG. Raises Refused when it is not a PNG, cut short or damaged."""
    if not data.startswith(_SIGNATURE):
        raise Refused("not a PNG")
    view, place, kind = memoryview(data), 8, b""
    header = b""
    packed: list[memoryview] = []
    kept = [view[:8]]
    while kind != b"IEND":
        if place + 12 > len(data):
            raise Refused(f"truncated PNG ({len(data):,} bytes, no end chunk)")
        length, kind = struct.unpack_from(">I4s", data, place)
        body, end = view[place + 8 : place + 8 + length], place + 12 + length
        if end > len(data):
            raise Refused(f"truncated PNG ({len(data):,} bytes, cut in a chunk)")
        name = kind.decode("latin-1")
        if zlib_ng.crc32(body, zlib_ng.crc32(kind)) != struct.unpack_from(">I", data, end - 4)[0]:
            raise Refused(f"damaged PNG (CRC of a {name} chunk)")
        if (kind == b"IHDR") == bool(header) or (kind == b"PLTE" and packed):
            raise Refused(f"damaged PNG (a {name} chunk where another is expected)")
        if kind == b"IHDR":
            header = bytes(body)
        elif kind == b"IDAT":
            packed.append(body)
        elif kind[0] < ord("a") and kind not in (b"PLTE", b"IEND"):
            raise Refused(f"damaged PNG (an unknown chunk {name!r} that readers must understand)")
        if kind[0] < ord("a"):
            kept.append(view[place:end])
        place = end
    if len(header) != 13:
        raise Refused(f"damaged PNG (a header of {len(header)} bytes)")
    width, height, depth, colour, packing, filtering, interlaced = struct.unpack(">IIBBBBB", header)
    if (packing, filtering) != (0, 0) or interlaced > 1:
        raise Refused(f"damaged PNG (method {packing}, {filtering} or {interlaced} is unknown)")
    bare = sum(map(len, kept)) == len(data)
    essential = data if bare else b"".join(kept)
    packed_ = b"".join(packed)
    return Png(width, height, depth, colour, bool(interlaced), packed_, essential, bare)


def checked_image(data: bytes, size: int) -> bytes:
    """An 8-bit RGB PNG of ``size``×``size`` pixels that every reader decodes to the same samples.

    Chunks beyond the samples (EXIF, which turns a picture, colour profiles, texts, further frames)
    are dropped; without any, the bytes stay as they are. A bare picture is not decoded, which takes
    twice as long: when every CRC is right, the samples are as many as the header says and every
    line's filter is known, there is one way to decode it, and none to fail. Raises Refused saying
    what is wrong.
    """
    png = parse_png(data)
    _check_size(png, size)
    if (png.colour, png.depth) != (_RGB, 8):
        kind = _KINDS.get(png.colour, f"type {png.colour}")
        raise Refused(f"not RGB: a {png.depth}-bit {kind} picture, expected 8-bit RGB")
    shapes = _passes(size, size) if png.interlaced else [(size, size)]
    expected = sum(rows * (3 * columns + 1) for rows, columns in shapes)
    try:
        samples = zlib_ng.decompressobj().decompress(png.packed, expected + 1)
    except zlib_ng.error as error:  # type: ignore[misc]
        blame_memory(error)
        raise Refused(f"damaged PNG ({error})") from error
    if len(samples) != expected:
        raise Refused(f"damaged PNG ({len(samples):,} bytes of samples, expected {expected:,})")
    start = 0
    for rows, columns in shapes:
        line = 3 * columns + 1
        if (most := max(samples[start : start + rows * line : line])) > _LAST_FILTER:
            raise Refused(
                f"damaged PNG (a line with filter {most}, at most {_LAST_FILTER} is known)"
            )
        start += rows * line
    if png.bare and not png.interlaced:
        return data
    _same_samples(data, png.essential)
    return png.essential


def _passes(width: int, height: int) -> list[tuple[int, int]]:
    """(rows, columns) of the seven passes of an interlaced PNG, without those that are empty."""
    shapes = [
        (-(-(height - y) // dy), -(-(width - x) // dx))
        for x, y, dx, dy in (
            (0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2),
            (0, 1, 1, 2),
        )
    ]  # fmt: skip
    return [shape for shape in shapes if min(shape) > 0]


def _same_samples(data: bytes, essential: bytes) -> None:
    """Decode a picture before and after its chunks are dropped. Raises Refused when they differ.

    A picture whose chunks are what Pillow refuses is decoded after it alone.
    """
    try:
        after = decode_png(essential)
    except ArasError as error:
        raise Refused(f"damaged PNG ({error})") from error
    try:
        with Image.open(io.BytesIO(data), formats=["PNG"]) as picture:
            before = np.asarray(picture)
    except UNDECODABLE:
        return
    if not np.array_equal(before, after):
        raise Refused("its chunks beyond the samples change its pixels")


def colour_table() -> Pixels:
    """Packed colour (red + 256·green + 65536·blue) → class id or `UNKNOWN`: (2**24,) uint8."""
    table = np.full(1 << 24, UNKNOWN, dtype=np.uint8)
    colours = PALETTE.astype(np.int64)
    table[colours @ np.array([1, 1 << 8, 1 << 16])] = np.arange(len(PALETTE))
    return table


def mask_ids(data: bytes, size: int, table: Pixels) -> Pixels:
    """RGB mask bytes → (size, size) uint8 class ids, by ``table`` of `colour_table`.

    Raises Refused for a picture that is not whole or of another size, and naming the colours
    (with their pixel counts) that the palette does not have.
    """
    png = parse_png(data)
    _check_size(png, size)
    if png.colour not in (2, 3, 6) or png.depth > 8:
        kind = _KINDS.get(png.colour, f"type {png.colour}")
        raise Refused(f"not RGB: a {png.depth}-bit {kind} mask, expected 8-bit RGB")
    try:
        with Image.open(io.BytesIO(png.essential), formats=["PNG"]) as picture:
            rgb = picture if picture.mode == "RGB" else picture.convert("RGB")
            packed = np.frombuffer(rgb.tobytes("raw", "RGBX"), "<u4")
    except UNDECODABLE as error:
        blame_memory(error)
        raise Refused(f"damaged PNG ({error})") from error
    return colours_to_ids(packed & np.uint32(0xFFFFFF), table).reshape(size, size)


def colours_to_ids(packed: npt.NDArray[np.uint32], table: Pixels) -> Pixels:
    """Packed colours → class ids of the same shape. Raises Refused for unknown colours."""
    ids = table.take(packed)
    wrong = packed[ids == UNKNOWN]
    if not wrong.size:
        return ids
    colours, counts = np.unique(wrong, return_counts=True)
    most = np.argsort(-counts, kind="stable")
    shown = [
        f"({c & 255}, {c >> 8 & 255}, {c >> 16}) in {n:,} pixels"
        for c, n in zip(
            colours[most][:_SHOWN].tolist(), counts[most][:_SHOWN].tolist(), strict=True
        )
    ]
    more = f" and {len(colours) - _SHOWN} more" if len(colours) > _SHOWN else ""
    raise Refused(f"mask colour outside the palette: {', '.join(shown)}{more}")


def _check_size(png: Png, size: int) -> None:
    if (png.width, png.height) != (size, size):
        raise Refused(f"wrong size: {png.width}×{png.height} pixels, expected {size}×{size}")
