"""Images are checked to the last byte, masks decoded by one look-up, wrong colours named."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from builder.land.classes import PALETTE
from builder.land.pictures import encode_png
from builder.official.names import Refused
from builder.official.pictures import check_image, colour_table, colours_to_ids, mask_ids
from tests.makers.official import rgb_mask, scene

SIZE = 64
TABLE = colour_table()


def png(picture: Image.Image, **options: object) -> bytes:
    out = io.BytesIO()
    picture.save(out, "PNG", **options)
    return out.getvalue()


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


@pytest.fixture
def image() -> bytes:
    return scene(SIZE)[0][0]


def test_a_sound_image_passes(image: bytes) -> None:
    check_image(image, SIZE)


def test_an_image_cut_anywhere_is_refused(image: bytes) -> None:
    for end in (0, 7, 20, 40, len(image) // 2, len(image) - 12, len(image) - 1):
        with pytest.raises(Refused, match=r"truncated PNG|not a PNG"):
            check_image(image[:end], SIZE)


def test_a_flipped_bit_anywhere_is_refused(image: bytes) -> None:
    for place in range(0, len(image), 97):
        data = bytearray(image)
        data[place] ^= 4
        with pytest.raises(Refused):
            check_image(bytes(data), SIZE)


def test_too_few_or_too_many_samples_are_refused_though_every_chunk_is_whole() -> None:
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", SIZE, SIZE, 8, 2, 0, 0, 0))
    row = bytes(3 * SIZE + 1)
    for rows in (SIZE - 1, SIZE + 1, 100 * SIZE):
        body = chunk(b"IDAT", zlib.compress(row * rows))
        data = b"\x89PNG\r\n\x1a\n" + header + body + chunk(b"IEND", b"")
        with pytest.raises(Refused, match="bytes of samples"):
            check_image(data, SIZE)


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "I;16", "1"])
def test_an_image_that_is_not_8_bit_rgb_is_refused(mode: str) -> None:
    with pytest.raises(Refused, match=r"not RGB: a \d+-bit"):
        check_image(png(Image.new(mode, (SIZE, SIZE))), SIZE)


def test_another_size_is_refused_before_anything_is_unpacked() -> None:
    huge = chunk(b"IHDR", struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0))
    data = b"\x89PNG\r\n\x1a\n" + huge + chunk(b"IDAT", b"no zlib stream") + chunk(b"IEND", b"")
    for check in (lambda: check_image(data, SIZE), lambda: mask_ids(data, SIZE, TABLE)):
        with pytest.raises(Refused, match="wrong size: 60000×60000 pixels, expected 64×64"):
            check()


def test_a_jpeg_is_refused() -> None:
    out = io.BytesIO()
    Image.new("RGB", (SIZE, SIZE)).save(out, "JPEG")
    with pytest.raises(Refused, match="not a PNG"):
        check_image(out.getvalue(), SIZE)


def test_an_rgb_mask_gives_back_its_ids() -> None:
    for _, ids in scene(SIZE):
        assert np.array_equal(mask_ids(rgb_mask(ids), SIZE, TABLE), ids)


def test_masks_saved_with_a_palette_or_alpha_give_the_same_ids() -> None:
    ids = scene(SIZE)[0][1]
    indexed = Image.fromarray(ids, "P")
    indexed.putpalette(PALETTE.tobytes())
    for picture in (indexed, indexed.convert("RGBA")):
        assert np.array_equal(mask_ids(png(picture), SIZE, TABLE), ids)


def test_unknown_colours_are_named_with_their_pixels_and_never_become_tree() -> None:
    rgb = PALETTE[np.zeros((SIZE, SIZE), np.uint8)].copy()
    rgb[0, :5] = (1, 2, 3)
    rgb[1, :2] = (0, 101, 0)
    with pytest.raises(Refused) as error:
        mask_ids(encode_png(rgb), SIZE, TABLE)
    assert str(error.value) == (
        "mask colour outside the palette: (1, 2, 3) in 5 pixels, (0, 101, 0) in 2 pixels"
    )


def test_of_many_unknown_colours_the_most_frequent_are_named() -> None:
    colours = np.repeat(np.arange(9, dtype=np.uint32), np.arange(1, 10))
    with pytest.raises(Refused, match=r"\(8, 0, 0\) in 9 pixels.* and 6 more$"):
        colours_to_ids(colours, TABLE)


def test_every_colour_but_the_seven_is_unknown() -> None:
    assert (TABLE != 255).sum() == 7
    packed = PALETTE.astype(np.uint32) @ np.array([1, 256, 65536], np.uint32)
    assert colours_to_ids(packed, TABLE).tolist() == list(range(7))


def test_a_single_channel_mask_is_refused_as_such() -> None:
    with pytest.raises(Refused, match="not RGB: a 8-bit grey mask"):
        mask_ids(encode_png(scene(SIZE)[0][1]), SIZE, TABLE)
