"""Land cover: codes to classes, exact counts, percentages that sum to 100."""

import csv
from pathlib import Path

import numpy as np
import pytest

from builder.land import classes
from builder.land.classes import CLASSES

CAPTIONS = Path(__file__).parents[3] / "shared" / "data" / "aras400k_captions"


def test_snow_is_barren_wetland_and_moss_are_grass_mangroves_are_trees() -> None:
    remap = classes.DEFAULT_REMAP
    assert (remap[70], remap[90], remap[100], remap[95]) == ("Barren", "Grass", "Grass", "Tree")


def test_the_palette_has_a_colour_of_its_own_for_every_class() -> None:
    assert classes.PALETTE.shape == (len(CLASSES), 3)
    assert len({tuple(colour) for colour in classes.PALETTE.tolist()}) == len(CLASSES)


def test_pixels_are_counted_exactly() -> None:
    mask = np.random.default_rng(0).integers(0, 7, (31, 17), dtype=np.uint8)
    assert classes.count_pixels(mask).tolist() == [(mask == i).sum() for i in range(7)]


def test_an_id_beyond_the_classes_is_an_error() -> None:
    with pytest.raises(ValueError, match="holds id 9"):
        classes.count_pixels(np.array([[0, 9]], dtype=np.uint8))


def largest_remainder(counts: list[int]) -> list[int]:
    """The rule, written out."""
    total = sum(counts)
    floors = [100 * n // total for n in counts]
    order = sorted(range(7), key=lambda i: (-(100 * counts[i] - floors[i] * total), i))
    for i in order[: 100 - sum(floors)]:
        floors[i] += 1
    return floors


def test_percent_is_the_largest_remainder_rule() -> None:
    rng = np.random.default_rng(1)
    counts = np.concatenate(
        [rng.multinomial(65536, rng.dirichlet([0.3] * 7), 300), rng.integers(0, 4, (300, 7))]
    )
    counts = counts[counts.sum(axis=1) > 0]
    percent = classes.percent(counts)
    assert percent.tolist() == [largest_remainder(pixels) for pixels in counts.tolist()]
    assert (percent.sum(axis=1) == 100).all()


@pytest.mark.parametrize(
    ("shares", "expected"),
    [([186, 807, 7], [18, 81, 1]), ([502, 404, 1, 93], [50, 41, 0, 9]), ([1, 1, 1], [34, 33, 33])],
)
def test_percent_rounds_as_aras400k_does(shares: list[int], expected: list[int]) -> None:
    pad = [0] * (7 - len(shares))
    assert classes.percent([*shares, *pad]).tolist() == [*expected, *pad]


def test_a_tile_without_pixels_has_no_percentages() -> None:
    assert classes.percent(np.zeros((2, 7))).tolist() == [[0] * 7] * 2
    assert classes.percent(np.zeros((0, 7))).shape == (0, 7)


def test_the_dominant_class_is_the_largest_and_the_first_on_a_tie() -> None:
    assert classes.dominant([[0, 5, 5, 0, 0, 0, 1], [1, 0, 0, 0, 0, 0, 9]]).tolist() == [1, 6]


@pytest.mark.skipif(not CAPTIONS.is_dir(), reason="the shared ARAS400k captions are not here")
def test_published_percentages_sum_to_100() -> None:
    rows = [row for path in CAPTIONS.glob("*.csv") for row in csv.DictReader(path.open())]
    assert len(rows) > 20
    assert {sum(int(row[name]) for name in CLASSES) for row in rows} == {100}
