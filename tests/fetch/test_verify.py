"""What is taken for a whole file, and what is not."""

import hashlib
import re
from pathlib import Path

import pytest

from builder.core.errors import CorruptFile
from builder.fetch.download import Raster, Remote, verify
from tests.fetch.worldcover_tiles import composite, land_map, tile

MAP = Raster((27, 36, 30, 39), 1, "uint8")
COMPOSITE = Raster((28, 36, 29, 37), 4, "uint16")


def check(tmp_path: Path, body: bytes, **known: object) -> None:
    path = tmp_path / "file"
    path.write_bytes(body)
    verify(path, Remote("file", "https://example.org/file", **known))  # type: ignore[arg-type]


def test_size_and_md5_are_compared_where_known(tmp_path: Path) -> None:
    good = hashlib.md5(b"abc").hexdigest()
    check(tmp_path, b"abc")
    check(tmp_path, b"abc", size=3, md5=good)
    with pytest.raises(CorruptFile, match="3 bytes, expected 4"):
        check(tmp_path, b"abc", size=4, md5=good)
    with pytest.raises(CorruptFile, match=f"expected {good}"):
        check(tmp_path, b"abd", size=3, md5=good)


def test_whole_tiles_pass(tmp_path: Path) -> None:
    check(tmp_path, land_map(36, 27), raster=MAP)
    check(tmp_path, composite(36, 28), raster=COMPOSITE)


def test_every_truncation_of_a_tile_is_found(tmp_path: Path) -> None:
    body = composite(36, 28)
    for kept in (0, 4, 1000, len(body) // 2, len(body) - 1):
        with pytest.raises(CorruptFile):
            check(tmp_path, body[:kept], raster=COMPOSITE)


def test_a_wrong_byte_in_any_block_is_found(tmp_path: Path) -> None:
    body = composite(36, 28)
    for place in range(len(body) // 8, len(body), len(body) // 8):
        bad = body[:place] + bytes([body[place] ^ 0x10]) + body[place + 1 :]
        with pytest.raises(CorruptFile, match="read whole"):
            check(tmp_path, bad, raster=COMPOSITE)


def test_an_error_page_is_no_tile(tmp_path: Path) -> None:
    with pytest.raises(CorruptFile, match="not a GeoTIFF"):
        check(tmp_path, b"<html>sign in</html>", raster=MAP)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (land_map(36, 30), "it lies at (30.0, 36.0, 33.0, 39.0)"),
        (tile(36, 27, 3, 2, "uint8"), "2 band(s) of uint8, expected 1 of uint8"),
        (tile(36, 27, 3, 1, "uint16"), "1 band(s) of uint16"),
        (tile(36, 27, 3, 1, "uint8", "EPSG:32635"), "EPSG:32635"),
    ],
)
def test_another_tile_under_the_name_is_found(tmp_path: Path, body: bytes, words: str) -> None:
    with pytest.raises(CorruptFile, match=re.escape(words)):
        check(tmp_path, body, raster=MAP)
