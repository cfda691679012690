"""The report on a split against distances and shares worked out by hand."""

import numpy as np
import pytest

from builder.geo import EARTH_KM
from builder.split_report import draw_map, measure
from builder.subsets import Rows

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
    told = measure(rows, SIZE, (0.0, 2.0, 4.0))
    assert told["test_near_train"] == {"0": 1 / 3, "2": 1 / 3, "4": 2 / 3}
    assert told["smallest_distance_km"]["train-test"] == 0


def test_the_smallest_distance_is_measured_from_edge_to_edge():
    rows = make_rows([(10, 0), (10.1, 0)], [0, 2])
    told = measure(rows, SIZE, (1.0,))
    assert told["smallest_distance_km"]["train-test"] == pytest.approx(0.08 * DEGREE_KM, abs=1e-3)


def test_a_block_in_two_splits_is_counted():
    rows = make_rows([(0, 0), (1, 0), (2, 0)], [0, 2, 2], ["a", "a", "b"])
    assert measure(rows, SIZE, (1.0,))["blocks_in_several_splits"] == 1


def test_equal_shares_have_no_divergence_and_disjoint_ones_have_some():
    rows = make_rows([(0, 0), (1, 0)], [0, 2])
    assert measure(rows, SIZE, (1.0,))["splits"]["test"]["divergence"] == 0
    rows.pixels[1] = (0, 0, 0, 0, 0, 0, 100)
    told = measure(rows, SIZE, (1.0,))["splits"]
    # All of test's pixels are a class that is half of the whole: JSD(p, m) with p = m/2 + q/2.
    p, m = np.array([0.0, 1.0]), np.array([0.5, 0.5])
    mean = (p + m) / 2
    jsd = sum(0.5 * (x[x > 0] * np.log2(x[x > 0] / mean[x > 0])).sum() for x in (p, m))
    assert told["test"]["divergence"] == pytest.approx(jsd, abs=1e-5)


def test_a_split_without_test_tiles_has_no_shares_to_report():
    told = measure(make_rows([(0, 0), (1, 0)], [0, 0]), SIZE, (1.0,))
    assert told["test_near_train"] == {"1": None}
    assert told["splits"]["test"]["divergence"] is None


def test_the_map_shows_every_split_in_its_colour(tmp_path):
    from PIL import Image

    rows = make_rows([(0, 0), (0.1, 0.05), (0.2, 0)], [0, 1, 2])
    draw_map(rows, SIZE, tmp_path / "map.png")
    colours = {c for _, c in Image.open(tmp_path / "map.png").convert("RGB").getcolors(2**24)}
    assert {(0x99, 0x99, 0x99), (0xE6, 0x9F, 0x00), (0x00, 0x72, 0xB2)} <= colours
