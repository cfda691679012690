"""Discrimination: what a caption tells apart, which no constant caption can win."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from builder.land.classes import CLASSES
from builder.land.grid import MAP
from builder.land.legends import WORLDCOVER_LEGEND, public
from builder.land.products import inspect, mosaic, opened
from builder.scores import references
from builder.scores.caption_scores import score_captions
from builder.scores.file_scores import score_file
from builder.scores.references import Reference, built_in, coarse, representatives
from tests.makers import scene_like
from tests.scores.test_grounding import DESERT, FARMS, MEADOW, NUMBERS, OF_FARMS, OF_STEPPE, STEPPE
from tests.scores.test_grounding import shares as shares_of

CONSTANTS = [
    "Trees, grass and crops.",
    "Predominantly grassland with some trees and limited cropland.",
    "No water is visible.",
    "Dense forest in the north, crops in the south, no buildings.",
    "Water in the upper left and barren land in the centre.",
    "About 40 % trees, 30 % grass.",
    "A quiet morning.",
]
WORKED = [
    (OF_STEPPE, STEPPE),
    (OF_FARMS, FARMS),
    (NUMBERS, STEPPE),
    (OF_FARMS, STEPPE),
    (OF_STEPPE, FARMS),
    (DESERT, MEADOW),
]
"""The worked examples of grounding, from those that fit to the one that does not."""
AROUND = (0.49, 0.51)
SCENE = Path(__file__).parents[3] / "shared" / "data" / "scene"
MAPS = sorted(SCENE.glob("worldcover_2021/*_Map.tif"))


@pytest.fixture(scope="module")
def tiles() -> list[np.ndarray]:
    return scene_like.masks(600)


@pytest.fixture(scope="module")
def scene_tiles() -> list[np.ndarray]:
    """Every 256-pixel window of the scene's maps without a missing pixel, side by side."""
    windows = []
    for path in MAPS:
        raster = inspect(path, MAP, resample=False)
        with opened(raster) as product:
            for row in range(raster.row, raster.row + raster.height - 255, 256):
                left, right = product.filled(row, 256)
                for column in range(left, right - 255, 256):
                    mask = mosaic([product], public(WORLDCOVER_LEGEND), column, row, 256, 256)
                    if mask.max() < len(CLASSES):
                        windows.append(mask)
    return windows


@pytest.fixture(scope="module")
def reference(tiles: list[np.ndarray]) -> Reference:
    cells = np.stack([coarse(mask) for mask in tiles])
    return Reference("the tiles", scene_like.compositions(tiles), cells)


def scored(texts, shares, masks=None, reference=None):
    table = score_captions(texts, shares, masks, reference=reference)
    return table.select(["discrimination", "discrimination_bits"]).to_pydict()


@pytest.mark.parametrize("text", CONSTANTS)
def test_a_constant_caption_gets_a_half_and_no_bits_whatever_it_says(text, tiles, reference):
    scores = scored([text] * len(tiles), reference.shares, tiles, reference)
    assert AROUND[0] <= np.mean(scores["discrimination"]) <= AROUND[1]
    assert abs(np.mean(scores["discrimination_bits"])) < 0.02


@pytest.mark.parametrize("text", CONSTANTS)
def test_a_constant_gets_a_half_on_tiles_that_the_reference_only_stands_for(text, tiles):
    shares = scene_like.compositions(tiles)
    at = representatives(range(len(tiles)), shares, 300)
    drawn = Reference("300 of 600", shares[at], np.stack([coarse(tiles[i]) for i in at]))
    scores = scored([text] * len(tiles), shares, tiles, drawn)
    assert 0.48 <= np.mean(scores["discrimination"]) <= 0.52


@pytest.mark.parametrize("text", CONSTANTS)
def test_a_constant_on_the_built_in_tiles_gets_a_half(text):
    shares = built_in().shares
    assert AROUND[0] <= np.mean(scored([text] * len(shares), shares)["discrimination"]) <= AROUND[1]


@pytest.mark.scene
@pytest.mark.skipif(not MAPS, reason=f"the maps of the scene are not at {SCENE}")
@pytest.mark.parametrize("text", CONSTANTS)
def test_a_constant_on_the_tiles_of_the_scene_gets_a_half(text, scene_tiles):
    shares = scene_like.compositions(scene_tiles)
    own = Reference("the scene", shares, np.stack([coarse(mask) for mask in scene_tiles]))
    among_themselves = scored([text] * len(shares), shares, scene_tiles, own)
    among_built_in = scored([text] * len(shares), shares, scene_tiles)
    assert AROUND[0] <= np.mean(among_themselves["discrimination"]) <= AROUND[1]
    assert 0.47 <= np.mean(among_built_in["discrimination"]) <= 0.53  # 288 of the same place


def test_a_caption_that_fits_its_tile_alone_is_the_first_of_all(reference):
    shares = reference.shares
    texts = [
        ", ".join(f"{p:.1%} {name}" for name, p in zip(CLASSES, row, strict=True)) for row in shares
    ]
    own = scored(texts, shares, reference=reference)
    assert np.mean(own["discrimination"]) > 0.95
    assert np.mean(own["discrimination_bits"]) > 4
    other = scored(texts[1:] + texts[:1], shares, reference=reference)
    assert np.mean(other["discrimination"]) < 0.6


def test_the_worked_examples_that_fit_are_above_those_that_do_not():
    texts, percents = zip(*WORKED, strict=True)
    own = scored(list(texts), [shares_of(percent) for percent in percents])["discrimination"]
    *fitting, farms_on_steppe, steppe_on_farms, desert_on_meadow = own
    assert min(fitting) > 0.98
    assert farms_on_steppe > max(steppe_on_farms, desert_on_meadow)
    assert max(steppe_on_farms, desert_on_meadow) < 0.5
    assert farms_on_steppe < 0.9


def test_a_place_counts_where_both_sides_have_a_layout(tiles, reference):
    mask = np.zeros((24, 24), np.uint8)
    mask[12:] = 2
    shares = scene_like.compositions([mask] * 2)
    texts = ["Trees in the north, grass in the south.", "Trees in the south, grass in the north."]
    right, wrong = scored(texts, shares, [mask] * 2, reference)["discrimination"]
    assert right > wrong + 0.3
    blind = Reference(reference.name, reference.shares)
    for masks, among in (([mask] * 2, blind), (None, reference)):
        same = scored(texts, shares, masks, among)["discrimination"]
        assert same[0] == pytest.approx(same[1])


def test_nothing_read_ties_with_every_tile_and_nothing_known_is_missing():
    scores = scored(["A quiet morning.", None, "Forest."], [shares_of(STEPPE)] * 2 + [[np.nan] * 7])
    assert scores["discrimination"] == [0.5, None, None]
    assert scores["discrimination_bits"] == [0, None, None]


def test_what_is_computed_of_a_caption_does_not_depend_on_its_neighbours(tiles, reference):
    texts = [CONSTANTS[i % len(CONSTANTS)] for i in range(len(tiles))]
    together = scored(texts, reference.shares, tiles, reference)
    for i in (0, 5, 255, 256, 511, 599):
        alone = scored([texts[i]], reference.shares[i : i + 1], [tiles[i]], reference)
        for name, values in together.items():
            assert alone[name][0] == values[i]


def test_representatives_are_the_same_whatever_the_order_and_all_of_few():
    shares = np.random.default_rng(0).dirichlet(np.ones(7), 100)
    names = [f"real/{i}" for i in range(100)]
    chosen = {names[i] for i in representatives(names, shares, 20)}
    order = np.random.default_rng(1).permutation(100)
    again = representatives([names[i] for i in order], shares[order], 20)
    assert {names[order[i]] for i in again} == chosen
    assert len(chosen) == 20
    assert representatives(names, shares, 100) == list(range(100))


def write(path: Path, texts: list[str], shares: np.ndarray, splits: list[str]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["id", "split", "text", *CLASSES])
        for i, (text, row, split) in enumerate(zip(texts, shares, splits, strict=True)):
            rows.writerow([i, split, text, *row])
    return path


def test_a_constant_in_a_file_gets_a_half_of_each_kind_of_tiles(tmp_path):
    shares = np.vstack([scene_like.compositions(scene_like.masks(60)), np.eye(7)[[1, 6] * 20]])
    splits = ["train"] * 60 + ["synthetic"] * 40
    file = write(tmp_path / "c.csv", ["Trees, grass and crops."] * 100, shares, splits)
    summary = score_file(file, out=tmp_path / "s.jsonl")
    assert summary.references == ("40 synthetic tiles of the file", "60 real tiles of the file")
    rows = [json.loads(line) for line in (tmp_path / "s.jsonl").read_text().splitlines()]
    for part in (rows[:60], rows[60:]):
        assert np.mean([row["discrimination"] for row in part]) == pytest.approx(0.5, abs=1e-3)
    assert summary.streams["text"].means["discrimination"] == pytest.approx(0.5, abs=1e-3)


def test_a_file_of_few_tiles_is_compared_with_the_built_in_ones(tmp_path):
    tiles = references.FEWEST - 1
    file = write(tmp_path / "c.csv", ["Forest."] * tiles, np.eye(7)[[0] * tiles], ["train"] * tiles)
    assert score_file(file).references == (built_in().name,)
