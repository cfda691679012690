"""PNG bytes to arrays and back, and the composition columns that follow from a mask."""

import io
import struct
import zlib
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from PIL import Image, UnidentifiedImageError

from builder.core import budgets
from builder.core.errors import ArasError, blame_memory
from builder.land import classes
from builder.land.columns import IMAGE, PER_CLASS_COUNT, PER_CLASS_PERCENT

Pixels = npt.NDArray[np.uint8]

UNDECODABLE = (
    UnidentifiedImageError, Image.DecompressionBombError, zlib.error, struct.error,
    OSError, SyntaxError, ValueError, LookupError, EOFError, OverflowError, TypeError,
)  # fmt: skip
"""What Pillow raises for a picture that is damaged, or beyond its own limits."""

_ORIENTATION = 0x0112
"""Tag of EXIF that turns a picture in readers that look at it; 1 leaves it as it is."""

COMPOSITION = ("pixels", "percent", "dominant")
"""Columns that `composition_columns` makes."""


def encode_png(array: Pixels) -> bytes:
    """(H, W, 3) RGB or (H, W) single-channel uint8 → PNG bytes; equal arrays, equal bytes.

    Run lengths and Huffman codes alone: on Sentinel-2 tiles 4 times as fast as zlib's search for
    matches and 0.4 % larger, on masks smaller. Ids are packed without a filter, because differences
    between ids mean nothing: a third of the time that Pillow takes to choose a filter.
    """
    if array.ndim == 2:
        return _encode_ids(array)
    out = io.BytesIO()
    Image.fromarray(array).save(out, format="PNG", compress_type=zlib.Z_RLE)
    return out.getvalue()


def _encode_ids(array: Pixels) -> bytes:
    """An 8-bit greyscale PNG (PNG specification, third edition) with filter type 0 throughout."""
    height, width = array.shape
    lines = np.zeros((height, width + 1), dtype=np.uint8)
    lines[:, 1:] = array
    pack = zlib.compressobj(strategy=zlib.Z_RLE)
    header = _chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    samples = _chunk(b"IDAT", pack.compress(lines.tobytes()) + pack.flush())
    return _SIGNATURE + header + samples + _chunk(b"IEND", b"")


def _chunk(name: bytes, data: bytes) -> bytes:
    body = name + data
    return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))


_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_PALETTE = _chunk(b"PLTE", classes.PALETTE.tobytes())


def in_colour(mask: bytes, name: str = "mask") -> bytes:
    """A mask of ids → the same ids as a palette PNG, which viewers show in the classes' colours.

    Of a mask as `encode_png` writes it the samples stay as they are: its header says "palette", and
    33 bytes with the palette follow. A palette mask is returned unchanged. Raises ArasError naming
    ``name`` as `decode_mask` does.
    """
    if mask[24:26] == b"\x08\x00" and mask[37:41] == b"IDAT":
        header = mask[16:25] + b"\x03" + mask[26:29]
        return _SIGNATURE + _chunk(b"IHDR", header) + _PALETTE + mask[33:]
    ids = decode_mask(mask, name)
    return mask if mask[25] == 3 else in_colour(encode_png(ids), name)


def decode_png(data: bytes, name: str = "picture", *, palette: bool = False) -> Pixels:
    """PNG bytes → uint8 (H, W, 3) or (H, W), as `datasets` decodes them; with ``palette`` the ids
    of a palette picture too.

    Raises ArasError naming ``name`` for a damaged picture, one of another mode, one with another
    palette than `classes.PALETTE`, one of more pixels than `budgets.PICTURE_PIXELS`, and one that
    EXIF turns, which `datasets` obeys and a mask does not.
    """
    width, height = struct.unpack(">II", data[16:24].rjust(8, b"\0"))
    if data.startswith(_SIGNATURE) and width * height > budgets.PICTURE_PIXELS:
        raise ArasError(
            f"{name}: a picture of {width:,}×{height:,} pixels, at most "
            f"{budgets.PICTURE_PIXELS:,} are decoded"
        )
    try:
        with Image.open(io.BytesIO(data), formats=["PNG"]) as picture:
            picture.load()
            mode = picture.mode
            colours = (picture.getpalette() or [])[: classes.PALETTE.size]
            orientation = picture.getexif().get(_ORIENTATION, 1)
            pixels = np.asarray(picture)
    except UNDECODABLE as error:
        blame_memory(error)
        raise ArasError(f"{name}: not a whole PNG ({error})") from error
    if mode not in ("RGB", "L", *("P" * palette)):
        raise ArasError(f"{name}: a {mode} picture, expected RGB or single-channel")
    if orientation != 1:
        raise ArasError(
            f"{name}: readers turn it away from its mask (EXIF orientation {orientation}); take "
            "its eXIf chunk out"
        )
    if colours != classes.PALETTE.ravel()[: len(colours)].tolist():
        raise ArasError(f"{name}: its palette is not that of the classes; its ids may mean others")
    return pixels


def decode_mask(data: bytes, name: str, size: int | None = None) -> Pixels:
    """Mask bytes, greyscale or palette → (H, W) uint8 of ids 0…6.

    Raises ArasError naming ``name`` for ids outside 0…6, several channels, another palette or
    another size.
    """
    mask = decode_png(data, name, palette=True)
    if mask.ndim != 2:
        raise ArasError(
            f"{name}: mask has {mask.shape[2]} channels, expected a single channel of class ids"
        )
    if mask.max(initial=0) >= len(classes.CLASSES):
        raise ArasError(f"{name}: mask holds id {int(mask.max())}; ids are 0…6")
    if size is not None and mask.shape != (size, size):
        raise ArasError(f"{name}: mask is {mask.shape[1]}×{mask.shape[0]}, expected {size}×{size}")
    return mask


def image_column(data: Sequence[bytes], names: Sequence[str]) -> pa.Array:
    """Encoded pictures and their base names as an Image column."""
    fields = [_binary(data), pa.array(names, pa.string())]
    return pa.StructArray.from_arrays(fields, fields=list(IMAGE))


def _binary(data: Sequence[bytes]) -> pa.Array:
    """``pa.array(data, pa.binary())``, in a third of the time: one buffer, not a growing one."""
    ends = np.cumsum([0, *map(len, data)], dtype=np.int64)
    if ends[-1] > np.iinfo(np.int32).max:
        return pa.array(data, pa.binary())
    buffers = [None, pa.py_buffer(ends.astype(np.int32)), pa.py_buffer(b"".join(data))]
    return pa.Array.from_buffers(pa.binary(), len(data), buffers)


def masks_in_colour(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """An Image column of masks, each as `in_colour` gives it; null stays null."""
    return pa.chunked_array([_in_colour(chunk) for chunk in column.chunks], IMAGE)


def _in_colour(masks: pa.StructArray) -> pa.StructArray:
    held, names = masks.flatten()
    pairs = zip(held.to_pylist(), names.to_pylist(), strict=True)
    coloured = [mask and in_colour(mask, name or "mask") for mask, name in pairs]
    fields = [pa.array(coloured, pa.binary()), names]
    return pa.StructArray.from_arrays(fields, fields=list(IMAGE), mask=masks.is_null())


def image_bytes(column: pa.ChunkedArray) -> list[bytes]:
    """The encoded bytes of an Image column; None where there is no picture."""
    values: list[bytes] = []
    for chunk in column.chunks:
        values.extend(pc.struct_field(chunk, "bytes").to_pylist())
    return values


def composition_columns(pixels: npt.NDArray[np.int64]) -> dict[str, pa.Array]:
    """Counts (n, 7) → the columns ``pixels``, ``percent`` and ``dominant``."""
    counts = pixels.reshape(-1, len(classes.CLASSES))
    return {
        "pixels": _per_class(counts, PER_CLASS_COUNT),
        "percent": _per_class(classes.percent(counts), PER_CLASS_PERCENT),
        "dominant": pa.array(classes.dominant(counts), pa.int64()),
    }


def per_class(column: pa.ChunkedArray) -> npt.NDArray[np.int64]:
    """A per-class struct column (``pixels`` or ``percent``) → (n, 7) int64."""
    array = column.combine_chunks()
    if isinstance(array, pa.ChunkedArray):  # a column without chunks
        return np.zeros((0, len(classes.CLASSES)), dtype=np.int64)
    return np.stack([array.field(i).to_numpy() for i in range(7)], axis=1).astype(np.int64)


def _per_class(values: npt.NDArray[np.int64], kind: pa.DataType) -> pa.Array:
    fields = [pa.array(values[:, i], kind[i].type) for i in range(kind.num_fields)]
    return pa.StructArray.from_arrays(fields, fields=list(kind))
