"""Official pictures: images checked without decoding, RGB masks to class ids by one look-up."""

import io
import struct
import zlib
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image

from builder.land.classes import PALETTE
from builder.land.pictures import Pixels, decode_png
from builder.official.names import Refused

UNKNOWN = 255
"""Id of every colour outside the palette, in `colour_table`."""

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_RGB = 2
_KINDS = {0: "grey", 2: "RGB", 3: "palette", 4: "grey with alpha", 6: "RGB with alpha"}
_SHOWN = 3  # most unknown colours that an error names


class Png(NamedTuple):
    """Header of a PNG and its packed samples, every chunk's CRC checked."""

    width: int
    height: int
    depth: int
    colour: int
    interlaced: bool
    packed: bytes


def parse_png(data: bytes) -> Png:
    """Walk the chunks of a PNG. Raises Refused when it is not a PNG, cut short or damaged."""
    if not data.startswith(_SIGNATURE):
        raise Refused("not a PNG")
    view, place, kind = memoryview(data), 8, b""
    header = b""
    packed = []
    while kind != b"IEND":
        if place + 12 > len(data):
            raise Refused(f"truncated PNG ({len(data):,} bytes, no end chunk)")
        length, kind = struct.unpack_from(">I4s", data, place)
        body = view[place + 8 : place + 8 + length]
        if place + 12 + length > len(data):
            raise Refused(f"truncated PNG ({len(data):,} bytes, cut in a chunk)")
        if (
            zlib.crc32(body, zlib.crc32(kind))
            != struct.unpack_from(">I", data, place + 8 + length)[0]
        ):
            raise Refused(f"damaged PNG (CRC of a {kind.decode('latin-1')} chunk)")
        if kind == b"IHDR" and length == 13:
            header = bytes(body)
        elif kind == b"IDAT":
            packed.append(body)
        place += 12 + length
    if not header:
        raise Refused("damaged PNG (no header chunk)")
    width, height, depth, colour, _, _, interlaced = struct.unpack(">IIBBBBB", header)
    return Png(width, height, depth, colour, bool(interlaced), b"".join(packed))


def check_image(data: bytes, size: int) -> None:
    """Check that ``data`` is a whole 8-bit RGB PNG of ``size``×``size`` pixels.

    All samples are unpacked and counted, but not unfiltered: less than half the work of decoding
    them. Raises Refused saying what it is instead.
    """
    png = parse_png(data)
    _check_size(png, size)
    if (png.colour, png.depth) != (_RGB, 8):
        kind = _KINDS.get(png.colour, f"type {png.colour}")
        raise Refused(f"not RGB: a {png.depth}-bit {kind} picture, expected 8-bit RGB")
    if png.interlaced:
        decode_png(data, "an interlaced picture")
        return
    expected = size * (3 * size + 1)
    try:
        samples = zlib.decompressobj().decompress(png.packed, expected + 1)
    except zlib.error as error:
        raise Refused(f"damaged PNG ({error})") from error
    if len(samples) != expected:
        raise Refused(f"damaged PNG ({len(samples):,} bytes of samples, expected {expected:,})")


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
        with Image.open(io.BytesIO(data)) as picture:
            rgb = picture if picture.mode == "RGB" else picture.convert("RGB")
            packed = np.frombuffer(rgb.tobytes("raw", "RGBX"), "<u4")
    except (OSError, SyntaxError, ValueError, zlib.error) as error:
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
