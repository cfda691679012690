"""Names of the layout give ids and places, and nothing that could leave a folder."""

import numpy as np
import pytest

from builder.official.names import Refused, group_of, place, row_id, stem_of


def test_ids_end_in_the_official_file_name() -> None:
    assert row_id("test", "N36E028_005_025", "official") == "real/N36E028_005_025"
    assert row_id("synth", "0073", "official") == "synthetic/official/0073"
    assert row_id("generated", "N36E028_005_025", "a") == "synthetic/a-conditional/N36E028_005_025"


@pytest.mark.parametrize(
    ("stem", "west", "north"),
    [
        ("N36E028_000_000", 28, 37),
        ("N36E028_005_025", 28 + 25 * 256 / 12_000, 37 - 5 * 256 / 12_000),
        ("S01W078_045_045", -78 + 45 * 256 / 12_000, 0 - 45 * 256 / 12_000),
        ("S90W180_000_000", -180, -89),
    ],
)
def test_a_name_says_where_the_tile_lies(stem: str, west: float, north: float) -> None:
    where = place(stem, 256)
    assert where is not None
    step = 1 / 12_000
    assert where.transform == pytest.approx((step, 0, west, 0, -step, north), abs=1e-9)
    centre = (west + 128 * step, north - 128 * step)
    assert (where.longitude, where.latitude) == pytest.approx(centre, abs=1e-9)


@pytest.mark.parametrize(
    "stem", ["0073", "N36E028_046_000", "N36E028_000_046", "N90E000_000_000", "N36E180_000_000"]
)
def test_a_name_that_is_no_place_has_none(stem: str) -> None:
    assert place(stem, 256) is None


def test_smaller_tiles_have_more_patches() -> None:
    where = place("N36E028_186_000", 64)
    assert where is not None
    assert np.isclose(where.transform[5], 37 - 186 * 64 / 12_000)


@pytest.mark.parametrize("name", ["../a.png", "a/b.png", "", ".png", ".hidden.png", "a\0.png"])
def test_names_that_could_be_paths_are_refused(name: str) -> None:
    with pytest.raises(Refused, match="bad name"):
        stem_of(name)


def test_only_the_four_splits_are_groups() -> None:
    words = ("train", "val", "validation", "test", "synth", "generated", "ARAS400k", "")
    assert [group_of(word) for word in words] == [
        *("train", "val", "val", "test", "synth"),
        *(None, None, None),
    ]
