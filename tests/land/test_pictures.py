"""Pictures: PNG bytes there and back, masks that are what they should be, composition columns."""

import io

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from builder.core.errors import ArasError
from builder.land.classes import PALETTE, percent
from builder.land.columns import IMAGE, arrow_type
from builder.land.pictures import (
    composition_columns,
    decode_mask,
    decode_png,
    encode_png,
    image_bytes,
    image_column,
    in_colour,
    masks_in_colour,
    per_class,
)
from tests.makers.pngs import beyond_the_samples, damaged, png

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("shape", [(9, 13), (9, 13, 3)])
def test_pixels_survive_and_equal_pixels_give_equal_bytes(shape: tuple[int, ...]) -> None:
    array = RNG.integers(0, 256, shape, dtype=np.uint8)
    data = encode_png(array)
    np.testing.assert_array_equal(decode_png(data), array)
    assert encode_png(array.copy()) == data
    assert data.startswith(b"\x89PNG")


def test_a_damaged_picture_is_named() -> None:
    data = encode_png(RNG.integers(0, 256, (64, 64, 3), dtype=np.uint8))
    for bad in (data[:200], b"", b"no picture"):
        with pytest.raises(ArasError, match="real/x: not a whole PNG"):
            decode_png(bad, "real/x")


@pytest.mark.parametrize("mode", ["RGBA", "P", "1", "I;16"])
def test_pictures_of_other_kinds_are_refused(mode: str) -> None:
    out = io.BytesIO()
    Image.new(mode, (4, 4)).save(out, "PNG")
    with pytest.raises(ArasError, match="expected RGB or single-channel"):
        decode_png(out.getvalue())


def test_a_mask_is_one_channel_of_known_ids_of_the_wanted_size() -> None:
    ids = RNG.integers(0, 7, (8, 8), dtype=np.uint8)
    np.testing.assert_array_equal(decode_mask(encode_png(ids), "m", 8), ids)
    with pytest.raises(ArasError, match="m: mask is 8×8, expected 9×9"):
        decode_mask(encode_png(ids), "m", 9)
    with pytest.raises(ArasError, match="m: mask has 3 channels"):
        decode_mask(encode_png(np.dstack([ids] * 3)), "m")
    ids[0, 0] = 7
    with pytest.raises(ArasError, match="m: mask holds id 7"):
        decode_mask(encode_png(ids), "m")


def mask(size: int = 8) -> np.ndarray:
    return RNG.integers(0, 7, (size, size), dtype=np.uint8)


def test_a_mask_in_colour_shows_the_classes_and_keeps_its_ids() -> None:
    ids = mask(64)
    plain = encode_png(ids)
    coloured = in_colour(plain)
    assert len(coloured) == len(plain) + 33
    assert coloured == in_colour(plain) == in_colour(coloured)
    with Image.open(io.BytesIO(coloured)) as picture:
        assert picture.mode == "P"
        np.testing.assert_array_equal(np.asarray(picture), ids)
        np.testing.assert_array_equal(np.asarray(picture.convert("RGB")), PALETTE[ids])
    np.testing.assert_array_equal(decode_mask(coloured, "m", 64), ids)


def test_a_grey_mask_by_another_encoder_is_put_in_colour_too() -> None:
    ids, out = mask(), io.BytesIO()
    Image.fromarray(ids).save(out, "PNG", optimize=True, dpi=(72, 72))  # a chunk before the samples
    assert in_colour(out.getvalue()) == in_colour(encode_png(ids))


def test_a_mask_with_another_palette_is_refused() -> None:
    picture, out = Image.fromarray(mask(), "P"), io.BytesIO()
    picture.putpalette(PALETTE[::-1].ravel().tolist())
    picture.save(out, "PNG")
    with pytest.raises(ArasError, match="m: its palette is not that of the classes"):
        decode_mask(out.getvalue(), "m")


def test_a_column_of_masks_in_colour_keeps_nulls_and_names() -> None:
    ids = mask()
    rows = [{"bytes": encode_png(ids), "path": "a.png"}, None]
    column = pa.chunked_array([pa.array(rows, IMAGE), pa.array(rows, IMAGE).slice(1)])
    coloured = masks_in_colour(column)
    assert coloured.type == IMAGE
    shown = {"bytes": in_colour(encode_png(ids)), "path": "a.png"}
    assert coloured.to_pylist() == [shown, None, None]


def test_an_image_column_keeps_the_bytes_it_was_given() -> None:
    data = [b"one", b"two", b"three"]
    column = image_column(data, ["1.png", "2.png", "3.png"])
    assert column.type == IMAGE
    chunked = pa.chunked_array([column.slice(0, 1), column.slice(1)])
    assert image_bytes(chunked) == data


def test_composition_columns_follow_from_the_counts() -> None:
    counts = RNG.integers(0, 500, (6, 7))
    table = pa.table(composition_columns(counts))
    assert {name: table.schema.field(name).type for name in table.column_names} == {
        name: arrow_type(name) for name in ("pixels", "percent", "dominant")
    }
    np.testing.assert_array_equal(per_class(table.column("pixels")), counts)
    np.testing.assert_array_equal(per_class(table.column("percent")), percent(counts))
    assert table.column("dominant").to_pylist() == counts.argmax(axis=1).tolist()


def test_no_rows_make_empty_columns() -> None:
    table = pa.table(composition_columns(np.zeros((0, 7), dtype=np.int64)))
    assert table.num_rows == 0
    assert per_class(table.column("pixels")).shape == (0, 7)
    assert per_class(pa.chunked_array([], arrow_type("pixels"))).shape == (0, 7)


def test_a_picture_beyond_the_budget_is_refused_by_its_header(monkeypatch) -> None:
    huge = png(np.zeros((1, 13_000, 3), np.uint8)).replace(b"\0\0\0\1\x08", b"\0\0\x32\xc8\x08")
    monkeypatch.setattr(Image, "open", None)
    with pytest.raises(ArasError, match="13,000×13,000 pixels, at most 16,777,216 are decoded"):
        decode_png(huge)


@pytest.mark.parametrize("what", ["an orientation", "an orientation in XMP"])
def test_a_picture_that_readers_turn_away_from_its_mask_is_an_error(what: str) -> None:
    picture = beyond_the_samples(np.zeros((8, 8, 3), np.uint8))[what]
    with pytest.raises(ArasError, match="EXIF orientation 6"):
        decode_png(picture, "real/a")


def test_whatever_pillow_raises_is_an_error_that_names_the_picture() -> None:
    pixels = np.zeros((8, 8, 3), np.uint8)
    pictures = beyond_the_samples(pixels)
    spoilt = [data for what, data in damaged(pixels).items() if what != "critical"]
    limited = [data for what, data in pictures.items() if "Pillow's limit" in what]
    for data in [*spoilt, *limited, b"", b"\x89PNG", pictures["a text"][:60]]:
        with pytest.raises(ArasError, match="real/a: not a whole PNG"):
            decode_png(data, "real/a")


def test_an_image_column_holds_each_picture_as_it_is() -> None:
    data = [b"", b"one", b"\0" * 5000, b""]
    column = image_column(data, ["a", "b", "c", "d"])
    column.validate(full=True)
    assert column.field("bytes").equals(pa.array(data, pa.binary()))
    assert image_column([], []).equals(pa.array([], IMAGE))
