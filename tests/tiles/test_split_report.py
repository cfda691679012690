"""The report on a split against distances and shares worked out by hand."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from builder.core.errors import ArasError
from builder.land.grid import EARTH_KM
from builder.tiles.split_report import ASIDE, COLOURS, DPI, WIDTH, draw_map, measure, with_blocks
from builder.tiles.subsets import Rows

SIZE = 0.02
DEGREE_KM = np.pi / 180 * EARTH_KM


def make_rows(places: list[tuple[float, float]], splits: list[int], blocks=None) -> Rows:
    pixels = np.zeros((len(places), 7), dtype=np.int64)
    pixels[:, 0], pixels[:, 2] = 40, 60
    blocks = blocks or [str(i) for i in range(len(places))]
    return Rows(
        [f"real/{i}" for i in range(len(places))],
        np.array(splits),
        pixels,
        np.array(places, dtype=float),
        blocks,
    )


def test_touching_tiles_and_tiles_within_a_distance_are_told_apart():
    # On the equator: a train tile, a test tile that touches it, one 0.03° of gap away, one far.
    rows = make_rows([(0, 0), (0.02, 0), (0.05, 0), (5, 0)], [0, 2, 2, 2])
    leakage = measure(rows, SIZE, (0.0, 2.0, 4.0))
    assert leakage.test_near_train == {"0": 1 / 3, "2": 1 / 3, "4": 2 / 3}
    assert leakage.smallest_distance_km["train-test"] == 0


def test_the_smallest_distance_is_measured_from_edge_to_edge():
    rows = make_rows([(10, 0), (10.1, 0)], [0, 2])
    leakage = measure(rows, SIZE, (1.0,))
    assert leakage.smallest_distance_km["train-test"] == pytest.approx(0.08 * DEGREE_KM, abs=1e-3)


def test_a_block_in_two_splits_is_counted():
    rows = make_rows([(0, 0), (1, 0), (2, 0)], [0, 2, 2], ["a", "a", "b"])
    assert measure(rows, SIZE, (1.0,)).blocks_in_several_splits == 1


def test_equal_shares_have_no_divergence_and_disjoint_ones_have_some():
    rows = make_rows([(0, 0), (1, 0)], [0, 2])
    assert measure(rows, SIZE, (1.0,)).splits["test"].divergence == 0
    rows.pixels[1] = (0, 0, 0, 0, 0, 0, 100)
    parts = measure(rows, SIZE, (1.0,)).splits
    # All of test's pixels are a class that is half of the whole: JSD(p, m) with p = m/2 + q/2.
    p, m = np.array([0.0, 1.0]), np.array([0.5, 0.5])
    mean = (p + m) / 2
    jsd = sum(0.5 * (x[x > 0] * np.log2(x[x > 0] / mean[x > 0])).sum() for x in (p, m))
    assert parts["test"].divergence == pytest.approx(jsd, abs=1e-5)


def test_a_split_without_test_tiles_has_no_shares_to_report():
    leakage = measure(make_rows([(0, 0), (1, 0)], [0, 0]), SIZE, (1.0,))
    assert leakage.test_near_train == {"1": None}
    assert leakage.splits["test"].divergence is None


def test_tiles_without_a_place_count_for_shares_and_not_for_distances():
    rows = make_rows([(0, 0), (np.nan, np.nan), (5, 0)], [0, 0, 2])
    leakage = measure(rows, SIZE, (1.0,))
    assert (leakage.tiles, leakage.without_place) == (3, 1)
    assert leakage.test_near_train == {"1": 0}
    assert leakage.splits["train"].tiles == 2
    assert leakage.smallest_distance_km["train-test"] == pytest.approx(4.98 * DEGREE_KM, rel=1e-6)


def test_what_cannot_be_said_is_none():
    rows = make_rows([(0, 0), (0.02, 0)], [2, 2])
    rows = replace(rows, blocks=[None, None])
    leakage = measure(rows, SIZE, (0.0, 1.0))
    assert leakage.test_near_train == {"0": None, "1": None}
    assert leakage.blocks_in_several_splits is None


def colours_of(path: Path) -> dict[tuple[int, ...], int]:
    """Colour → pixels of a picture."""
    return {c: n for n, c in Image.open(path).convert("RGB").getcolors(2**24)}


def in_blocks(places: list[tuple[float, float]], splits: list[int], block: float = 0.25) -> Rows:
    return with_blocks(replace(make_rows(places, splits), blocks=[None] * len(places)), block)


def rgb(colour: str) -> tuple[int, ...]:
    return tuple(int(colour[i : i + 2], 16) for i in (1, 3, 5))


def test_the_map_shows_every_split_in_its_colour(tmp_path):
    rows = in_blocks([(0.1, 0.1), (0.3, 0.1), (0.6, 0.1)], [0, 1, 2])
    draw_map(rows, SIZE, tmp_path / "map.png")
    assert {rgb(colour) for colour in COLOURS} <= colours_of(tmp_path / "map.png").keys()


def test_where_tiles_are_small_blocks_are_filled_with_the_colour_of_their_split(tmp_path):
    rows = in_blocks([(0.5, 0.5), (20.5, 0.5), (40.5, 0.5)], [0, 1, 2], block=1.0)
    draw_map(rows, SIZE, tmp_path / "map.png")
    pixels_of = colours_of(tmp_path / "map.png")
    side = (WIDTH - 1) * DPI / 42
    for colour in COLOURS:
        legend = 800
        assert 0.5 * side**2 < pixels_of[rgb(colour)] < legend + 1.5 * side**2


def test_tiles_that_the_split_leaves_out_and_those_of_mixed_blocks_are_shown(tmp_path):
    rows = in_blocks([(0.5, 0.5), (0.52, 0.5), (40.5, 0.5)], [0, 2, 0], block=1.0)
    draw_map(rows, SIZE, tmp_path / "without.png")
    draw_map(rows, SIZE, tmp_path / "with.png", in_blocks([(10.5, 0.5)], [0], block=1.0))
    assert rgb(ASIDE) in colours_of(tmp_path / "with.png")
    assert rgb(ASIDE) not in colours_of(tmp_path / "without.png")
    filled = in_blocks([(0.5, 0.5), (0.52, 0.5), (40.5, 0.5)], [0, 0, 0], block=1.0)
    draw_map(filled, SIZE, tmp_path / "filled.png")
    grey = rgb(COLOURS[0])
    assert colours_of(tmp_path / "without.png")[grey] < colours_of(tmp_path / "filled.png")[grey]


def test_the_figure_is_as_high_as_the_land_that_it_shows(tmp_path):
    for name, north in (("wide", 1.0), ("tall", 8.0)):
        draw_map(in_blocks([(0, 0), (8, north)], [0, 2]), SIZE, tmp_path / f"{name}.png")
    wide, tall = (Image.open(tmp_path / f"{name}.png").size for name in ("wide", "tall"))
    assert wide[0] == tall[0]
    assert tall[1] > 3 * wide[1]


def test_a_map_that_cannot_be_drawn_or_written_is_one_clear_error(tmp_path):
    nowhere = replace(make_rows([(np.nan, np.nan)], [0]), blocks=[None])
    with pytest.raises(ArasError, match="no tile has a place"):
        draw_map(nowhere, SIZE, tmp_path / "map.png")
    (tmp_path / "file").write_text("x")
    with pytest.raises(ArasError, match=r"file/map\.png: cannot write the map"):
        draw_map(in_blocks([(0, 0)], [0]), SIZE, tmp_path / "file" / "map.png")
    (tmp_path / "folder").mkdir()
    with pytest.raises(ArasError, match="folder: cannot write the map"):
        draw_map(in_blocks([(0, 0)], [0]), SIZE, tmp_path / "folder")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder"]
