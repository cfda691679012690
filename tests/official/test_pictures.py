"""Images are checked to the last byte, masks decoded by one look-up, wrong colours named."""

import io
import struct
import zlib

import numpy as np
import pytest
from datasets import Image as Image_
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from builder.land.classes import PALETTE
from builder.land.pictures import Pixels, decode_png, encode_png
from builder.official.names import Refused
from builder.official.pictures import checked_image, colour_table, colours_to_ids, mask_ids
from tests.makers.fuzz import tries
from tests.makers.official import rgb_mask, scene
from tests.makers.pngs import beyond_the_samples, chunk, damaged, interlaced
from tests.makers.pngs import png as written

SIZE = 64
TABLE = colour_table()


def png(picture: Image.Image, **options: object) -> bytes:
    out = io.BytesIO()
    picture.save(out, "PNG", **options)
    return out.getvalue()


@pytest.fixture
def image() -> bytes:
    return scene(SIZE)[0][0]


def test_a_sound_image_passes(image: bytes) -> None:
    checked_image(image, SIZE)


def as_loaded(data: bytes) -> Pixels:
    """The pixels as `datasets` hands them to a reader."""
    return np.asarray(Image_().decode_example({"bytes": data, "path": None}))


def test_what_every_decoder_needs_keeps_its_bytes(image: bytes) -> None:
    assert checked_image(image, SIZE) == image
    woven = interlaced(decode_png(image))
    assert checked_image(woven, SIZE) == woven
    assert np.array_equal(as_loaded(woven), decode_png(image))


@pytest.mark.parametrize("what", beyond_the_samples(np.zeros((8, 8, 3), np.uint8)))
def test_chunks_that_turn_or_bloat_a_picture_are_dropped(image: bytes, what: str) -> None:
    pixels = decode_png(image)
    bare = checked_image(beyond_the_samples(pixels)[what], SIZE)
    assert bare == written(pixels)
    assert np.array_equal(as_loaded(bare), pixels)


@pytest.mark.parametrize("what", damaged(np.zeros((8, 8, 3), np.uint8)))
def test_samples_that_no_reader_decodes_are_refused(image: bytes, what: str) -> None:
    with pytest.raises(Refused, match="damaged PNG"):
        checked_image(damaged(decode_png(image))[what], SIZE)


@pytest.mark.parametrize("what", beyond_the_samples(np.zeros((8, 8, 3), np.uint8)))
def test_a_mask_is_read_without_what_stands_beside_its_samples(what: str) -> None:
    ids = scene(SIZE)[0][1]
    mask = beyond_the_samples(PALETTE[ids])[what]
    assert np.array_equal(mask_ids(mask, SIZE, TABLE), ids)


def test_a_mask_that_no_reader_decodes_is_refused() -> None:
    for data in damaged(PALETTE[scene(SIZE)[0][1]]).values():
        with pytest.raises(Refused, match="damaged PNG"):
            mask_ids(data, SIZE, TABLE)


@tries(300)
@given(st.data())
def test_whatever_is_accepted_is_decoded_by_datasets(data: st.DataObject) -> None:
    """Spoil samples and chunks of a small picture at will: it is refused, or loads as it is."""
    pixels = np.arange(8 * 8 * 3, dtype=np.uint8).reshape(8, 8, 3)
    lines = bytearray(b"".join(b"\0" + line.tobytes() for line in pixels))
    for place in data.draw(st.lists(st.integers(0, 7), max_size=3)):
        lines[place * 25] = data.draw(st.integers(0, 6))
    lines += data.draw(st.binary(max_size=2))
    packed = zlib.compress(bytes(lines))[: data.draw(st.sampled_from([None, -1, -4, -5]))]
    kinds = [b"tEXt", b"eXIf", b"gAMA", b"tRNS", b"PLTE", b"iCCP", b"IDAT", b"acTL", b"IEND"]
    chunks = st.builds(chunk, st.sampled_from(kinds), st.binary(max_size=40))
    picture = written(
        pixels,
        *data.draw(st.lists(chunks, max_size=3)),
        samples=packed,
        interlaced=data.draw(st.integers(0, 2)),
        after=data.draw(st.one_of(st.just(b""), chunks)),
    )
    try:
        accepted = checked_image(picture, 8)
    except Refused:
        return
    assert as_loaded(accepted).shape == (8, 8, 3)


def test_an_image_cut_anywhere_is_refused(image: bytes) -> None:
    for end in (0, 7, 20, 40, len(image) // 2, len(image) - 12, len(image) - 1):
        with pytest.raises(Refused, match=r"truncated PNG|not a PNG"):
            checked_image(image[:end], SIZE)


def test_a_flipped_bit_anywhere_is_refused(image: bytes) -> None:
    for place in range(0, len(image), 97):
        data = bytearray(image)
        data[place] ^= 4
        with pytest.raises(Refused):
            checked_image(bytes(data), SIZE)


def test_too_few_or_too_many_samples_are_refused_though_every_chunk_is_whole() -> None:
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", SIZE, SIZE, 8, 2, 0, 0, 0))
    row = bytes(3 * SIZE + 1)
    for rows in (SIZE - 1, SIZE + 1, 100 * SIZE):
        body = chunk(b"IDAT", zlib.compress(row * rows))
        data = b"\x89PNG\r\n\x1a\n" + header + body + chunk(b"IEND", b"")
        with pytest.raises(Refused, match="bytes of samples"):
            checked_image(data, SIZE)


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "I;16", "1"])
def test_an_image_that_is_not_8_bit_rgb_is_refused(mode: str) -> None:
    with pytest.raises(Refused, match=r"not RGB: a \d+-bit"):
        checked_image(png(Image.new(mode, (SIZE, SIZE))), SIZE)


def test_another_size_is_refused_before_anything_is_unpacked() -> None:
    huge = chunk(b"IHDR", struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0))
    data = b"\x89PNG\r\n\x1a\n" + huge + chunk(b"IDAT", b"no zlib stream") + chunk(b"IEND", b"")
    for check in (lambda: checked_image(data, SIZE), lambda: mask_ids(data, SIZE, TABLE)):
        with pytest.raises(Refused, match="wrong size: 60000×60000 pixels, expected 64×64"):
            check()


def test_a_jpeg_is_refused() -> None:
    out = io.BytesIO()
    Image.new("RGB", (SIZE, SIZE)).save(out, "JPEG")
    with pytest.raises(Refused, match="not a PNG"):
        checked_image(out.getvalue(), SIZE)


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
