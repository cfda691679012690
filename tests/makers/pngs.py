"""PNGs written chunk by chunk, as no library would write them."""

import struct
import zlib

import numpy as np

from builder.land.pictures import Pixels

SIGNATURE = b"\x89PNG\r\n\x1a\n"


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(
    array: Pixels,
    *chunks: bytes,
    filtering: int = 0,
    interlaced: int = 0,
    samples: bytes | None = None,
    after: bytes = b"",
) -> bytes:
    """An (H, W, 3) array with ``chunks`` after the header and ``after`` its samples; ``samples``
    replaces the packed lines."""
    lines = b"".join(bytes([filtering]) + line.tobytes() for line in array)
    header = struct.pack(">IIBBBBB", array.shape[1], array.shape[0], 8, 2, 0, 0, interlaced)
    packed = zlib.compress(lines) if samples is None else samples
    body = chunk(b"IDAT", packed) + after + chunk(b"IEND", b"")
    return SIGNATURE + chunk(b"IHDR", header) + b"".join(chunks) + body


def turned(orientation: int) -> bytes:
    """An eXIf chunk with nothing but an orientation."""
    entry = struct.pack("<HHIHH", 0x0112, 3, 1, orientation, 0)
    return chunk(b"eXIf", b"II*\0\x08\0\0\0" + struct.pack("<H", 1) + entry + bytes(4))


def beyond_the_samples(array: Pixels) -> dict[str, bytes]:
    """Sound pictures of ``array`` with chunks that turn, animate or bloat them, by their kind."""
    bloat = zlib.compress(bytes(3 << 20))
    control = struct.pack(">IIIIIHHBB", 0, *array.shape[1::-1], 0, 0, 1, 10, 0, 0)
    other = zlib.compress(b"".join(b"\0" + line.tobytes() for line in 255 - array))
    frame = struct.pack(">IIIIIHHBB", 1, *array.shape[1::-1], 0, 0, 1, 10, 0, 0)
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><r tiff:Orientation="6"/></x:xmpmeta>'
    return {
        "an orientation": png(array, turned(6)),
        "an orientation in XMP": png(array, chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + xmp)),
        "a text": png(array, chunk(b"tEXt", b"Comment\0hello")),
        "a text beyond Pillow's limit": png(array, chunk(b"zTXt", b"c\0\0" + bloat)),
        "a profile beyond Pillow's limit": png(array, chunk(b"iCCP", b"p\0\0" + bloat)),
        "a gamma": png(array, chunk(b"gAMA", struct.pack(">I", 100_000))),
        "a transparent colour": png(array, chunk(b"tRNS", array[0, 0].astype(">u2").tobytes())),
        "two frames": png(
            array,
            chunk(b"acTL", struct.pack(">II", 2, 0)),
            chunk(b"fcTL", control),
            after=chunk(b"fcTL", frame) + chunk(b"fdAT", struct.pack(">I", 2) + other),
        ),
        "bytes after its end": png(array) + bytes(1000),
    }


def damaged(array: Pixels) -> dict[str, bytes]:
    """Pictures whose chunks are whole and whose samples are not, by what is wrong."""
    return {
        "filter": png(array, filtering=9),
        "interlaced": png(array, interlaced=1, samples=zlib.compress(bytes(100))[:-6]),
        "unpacked": png(array, samples=b"no zlib stream"),
        "critical": png(array, chunk(b"ABCD", b"")),
        "method": png(array).replace(b"\x08\x02\0\0\0", b"\x08\x02\1\0\0"),
    }


def interlaced(array: Pixels) -> bytes:
    """The same picture in the seven passes of Adam7."""
    passes = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2),
              (0, 1, 1, 2))  # fmt: skip
    lines = [
        b"\0" + np.ascontiguousarray(line).tobytes()
        for x, y, dx, dy in passes
        if x < array.shape[1]
        for line in array[y::dy, x::dx]
    ]
    return png(array, interlaced=1, samples=zlib.compress(b"".join(lines)))
