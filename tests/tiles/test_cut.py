"""Tiles: which patches are kept, why the others are dropped, and that pixels are where they lie."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import rasterio
from click.testing import CliRunner

from builder.cli import cli
from builder.core.engine import Engine
from builder.core.errors import ArasError
from builder.core.store import Store
from builder.land import classes, products
from builder.land.grid import Raster
from builder.land.pictures import decode_mask, decode_png, image_bytes, per_class
from builder.land.products import PER_DEGREE, cell_origin
from builder.steps.plan import Summary, plan, run
from builder.steps.stage import shards
from builder.tiles.cut import REASONS, Tiles, TilesSection
from tests.makers.products import (
    CELL,
    SIZE,
    codes_of,
    composite_name,
    land,
    map_name,
    reflect,
    shown,
    write_composite,
    write_map,
    write_pair,
)
from tests.makers.project import make_project
from tests.makers.raster_ways import COMPOSITES, MAPS
from tests.makers.stages import by_default

LEFT, TOP = cell_origin(CELL)
GRASS, WATER = classes.CLASSES.index("Grass"), classes.WATER


def stage_of(folder: Path, **settings: Any) -> Tiles:
    return by_default(
        Tiles,
        TilesSection(size=SIZE),
        maps=tuple(sorted(folder.glob("*_Map.tif"))),
        composites=tuple(sorted(folder.glob("*_S2RGBNIR.tif"))),
        **{"remap": tuple(classes.DEFAULT_REMAP.items()), **settings},
    )


def cut(folder: Path, **settings: Any) -> tuple[Summary, pa.Table]:
    """Run the stage on all products of a folder: its summary and all rows."""
    store = Store(folder / "work")
    stage = stage_of(folder, **settings)
    summary = run(stage, store, Engine("serial"))
    tables = [store.load("tiles", shard) for shard in shards(store, ("real",))]
    return summary, pa.concat_tables(tables)


def masks_of(table: pa.Table) -> dict[str, np.ndarray]:
    names = table.column("id").to_pylist()
    return {
        name: decode_mask(data, name)
        for name, data in zip(names, image_bytes(table.column("mask")), strict=True)
    }


def images_of(table: pa.Table) -> dict[str, np.ndarray]:
    names = table.column("id").to_pylist()
    return {
        name: decode_png(data, name)
        for name, data in zip(names, image_bytes(table.column("image")), strict=True)
    }


def patches(rows: int, columns: int, value: int, dtype: type = np.uint8) -> np.ndarray:
    return np.full((rows * SIZE, columns * SIZE), value, dtype=dtype)


def at(row: int, column: int) -> tuple[slice, slice]:
    return slice(row * SIZE, (row + 1) * SIZE), slice(column * SIZE, (column + 1) * SIZE)


def test_every_candidate_is_kept_or_counted_under_its_reason(tmp_path: Path) -> None:
    ids, dn = patches(2, 4, GRASS), np.full((4, 2 * SIZE, 4 * SIZE), 900, dtype=np.uint16)
    codes = codes_of(ids)
    black, water, hole = at(0, 1), at(1, 0), at(1, 1)
    dn[(slice(None), *black)] = 0
    dn[:, SIZE - 1, 2 * SIZE + 5] = 0  # one black pixel in patch (0, 2)
    codes[water] = 80
    codes[hole][3, 4] = 0
    write_map(tmp_path, codes[:, : 3 * SIZE + 20], LEFT, TOP)  # no map under the end of column 3
    write_composite(tmp_path, dn, LEFT, TOP)
    summary, table = cut(tmp_path)
    assert summary.counts == {
        "candidates": 8,
        "kept": 2,
        "black": 1,
        "partly_black": 1,
        "no_map": 2,
        "nodata": 1,
        "water": 1,
    }
    assert table.column("id").to_pylist() == [f"real/{CELL}_000_000", f"real/{CELL}_001_002"]


def test_the_funnel_adds_up_on_varied_input(tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    ids = land((5 * SIZE, 7 * SIZE), seed=5, grain=40)
    dn, codes = reflect(ids), codes_of(ids)
    for y, x in rng.integers(0, [5 * SIZE, 7 * SIZE], (6, 2)):
        dn[:, y : y + 90, x : x + 90] = 0
        codes[(y + 200) % 250, (x + 200) % 400] = 0
    write_map(tmp_path, codes, LEFT, TOP)
    write_composite(tmp_path, dn, LEFT, TOP)
    summary, table = cut(tmp_path)
    counts = summary.counts
    assert counts["candidates"] == 35
    assert counts["kept"] + sum(counts[reason] for reason in REASONS) == counts["candidates"]
    assert 0 < counts["kept"] == table.num_rows < 35


@pytest.mark.parametrize(("wet", "kept"), [(0.9, True), (0.901, False)])
def test_a_tile_is_dropped_when_more_than_max_water_of_it_is_water(
    tmp_path: Path, wet: float, kept: bool
) -> None:
    ids = patches(1, 1, GRASS)
    ids.ravel()[: int(wet * SIZE**2)] = WATER
    write_pair(tmp_path, ids)
    summary, _ = cut(tmp_path, max_water=0.9)
    assert summary.counts["kept"] == kept
    assert summary.counts["water"] == (not kept)


def test_water_only_is_kept_when_the_recipe_says_so(tmp_path: Path) -> None:
    write_pair(tmp_path, patches(1, 1, WATER))
    assert cut(tmp_path, max_water=1.0)[0].counts["kept"] == 1


def test_max_black_lets_partly_black_tiles_through_but_never_black_ones(tmp_path: Path) -> None:
    dn = np.full((4, SIZE, 3 * SIZE), 900, dtype=np.uint16)
    dn[:, :, 10:SIZE] = 0  # patch 0: 84 % black
    dn[:, :, SIZE : SIZE + 3] = 0  # patch 1: 5 % black
    dn[:, :, 2 * SIZE :] = 0  # patch 2: black
    write_pair(tmp_path, patches(1, 3, GRASS), dn=dn)
    summary, table = cut(tmp_path, max_black=0.05)
    assert table.column("id").to_pylist() == [f"real/{CELL}_000_001"]
    assert (summary.counts["black"], summary.counts["partly_black"]) == (1, 1)


def test_a_pixel_that_is_dark_in_some_bands_only_is_not_black(tmp_path: Path) -> None:
    dn = np.full((4, SIZE, SIZE), 900, dtype=np.uint16)
    dn[:2, 5, 5] = 0
    write_map(tmp_path, codes_of(patches(1, 1, GRASS)), LEFT, TOP)
    write_composite(tmp_path, dn, LEFT, TOP, nodata=None)
    assert cut(tmp_path)[0].counts["kept"] == 1


def test_a_pixel_without_data_in_one_band_is_black_where_the_file_says_what_no_data_is(
    tmp_path: Path,
) -> None:
    dn = np.full((4, SIZE, SIZE), 900, dtype=np.uint16)
    dn[:2, 5, 5] = 0
    write_pair(tmp_path, patches(1, 1, GRASS), dn=dn)  # its tag says 0
    assert cut(tmp_path)[0].counts["partly_black"] == 1


@pytest.mark.parametrize("interleave", ["band", "pixel"])
def test_a_sparse_block_of_one_band_hides_nothing_of_the_others(
    tmp_path: Path, interleave: str
) -> None:
    dn = np.full((4, SIZE, 2 * SIZE), 900, dtype=np.uint16)
    dn[0, :, SIZE:] = 0  # nothing is stored there of red, where the bands lie apart
    write_map(tmp_path, codes_of(patches(1, 2, GRASS)), LEFT, TOP)
    blocks = {"tiled": True, "blockxsize": SIZE, "blockysize": SIZE, "sparse_ok": True}
    write_composite(tmp_path, dn, LEFT, TOP, interleave=interleave, nodata=None, **blocks)
    assert cut(tmp_path)[0].counts["kept"] == 2


def test_every_worldcover_code_becomes_the_class_of_the_remap(tmp_path: Path) -> None:
    codes = np.array(sorted(classes.WORLDCOVER), dtype=np.uint8)
    field = codes[np.arange(SIZE**2).reshape(SIZE, SIZE) % len(codes)]
    write_map(tmp_path, field, LEFT, TOP)
    write_composite(tmp_path, reflect(patches(1, 1, GRASS)), LEFT, TOP)
    wetland_is_tree = {**classes.DEFAULT_REMAP, 90: "Tree"}
    for remap in (classes.DEFAULT_REMAP, wetland_is_tree):
        _, table = cut(tmp_path, remap=tuple(sorted(remap.items())))
        (mask,) = masks_of(table).values()
        for code in codes.tolist():
            assert set(mask[field == code]) == {classes.CLASSES.index(remap[code])}


def test_composition_follows_from_the_mask(tmp_path: Path) -> None:
    write_pair(tmp_path, land((3 * SIZE, 3 * SIZE), seed=8))
    _, table = cut(tmp_path)
    counts = np.stack([classes.count_pixels(mask) for mask in masks_of(table).values()])
    np.testing.assert_array_equal(per_class(table.column("pixels")), counts)
    assert (per_class(table.column("percent")).sum(axis=1) == 100).all()
    np.testing.assert_array_equal(table.column("dominant").to_numpy(), counts.argmax(axis=1))


def test_one_bright_roof_does_not_darken_its_tile(tmp_path: Path) -> None:
    dn = np.full((4, SIZE, 2 * SIZE), 1100, dtype=np.uint16)
    dn[:3, 30, SIZE + 30] = 9000
    write_pair(tmp_path, patches(1, 2, GRASS), dn=dn)
    _, table = cut(tmp_path, reflectance=(0.0, 0.275))
    plain, roof = images_of(table).values()
    assert set(np.unique(plain)) == {102}  # 1100 / 2750 · 255
    assert set(np.unique(roof)) == {102, 255}
    assert table.column("saturated").to_pylist() == pytest.approx([0, 1 / SIZE**2])


@pytest.mark.parametrize(
    ("dn", "value"), [(0, 0), (500, 0), (501, 0), (1500, 128), (2500, 255), (2600, 255)]
)
def test_reflectance_is_linear_between_the_ends_and_saturates_beyond(dn: int, value: int) -> None:
    assert shown(np.array([dn], dtype=np.uint16), 0.05, 0.25)[0] == value


def point(transform: list[float], column: float, row: float) -> tuple[float, float]:
    """Longitude and latitude of a pixel position, as the card defines ``transform``."""
    a, b, c, d, e, f = transform
    return a * column + b * row + c, d * column + e * row + f


def test_each_tile_shows_the_pixels_that_lie_at_its_georeference(tmp_path: Path) -> None:
    ids = land((4 * SIZE + 30, 5 * SIZE + 10), seed=2)
    map_path, composite_path = write_pair(tmp_path, ids, patch=(20, 30))
    _, table = cut(tmp_path)
    assert table.num_rows == 20
    images, masks = images_of(table), masks_of(table)
    with rasterio.open(map_path) as land_map, rasterio.open(composite_path) as composite:
        codes, dn = land_map.read(1), composite.read([1, 2, 3])
        for row in table.select(["id", "crs", "transform", "longitude", "latitude"]).to_pylist():
            assert row["crs"] == "EPSG:4326"
            centre = point(row["transform"], SIZE / 2, SIZE / 2)
            assert centre == pytest.approx((row["longitude"], row["latitude"]))
            for y, x in [(0, 0), (17, 45), (SIZE - 1, SIZE - 1)]:
                place = point(row["transform"], x + 0.5, y + 0.5)
                i, j = composite.index(*place)
                expected = shown(dn[:, i, j])
                assert images[row["id"]][y, x].tolist() == expected.tolist()
                code = int(codes[land_map.index(*place)])
                assert classes.CLASSES[masks[row["id"]][y, x]] == classes.DEFAULT_REMAP[code]


def test_tiles_are_named_by_the_patch_row_and_column_of_their_cell(tmp_path: Path) -> None:
    write_pair(tmp_path, patches(2, 2, GRASS), patch=(20, 30))
    _, table = cut(tmp_path)
    assert table.column("id").to_pylist() == [
        f"real/{CELL}_{row:03d}_{column:03d}" for row in (20, 21) for column in (30, 31)
    ]
    assert set(table.column("source").to_pylist()) == {composite_name(CELL)}


def test_patches_that_stick_out_of_a_cropped_composite_are_no_candidates(tmp_path: Path) -> None:
    ids = land((3 * SIZE, 3 * SIZE), seed=1)
    write_map(tmp_path, codes_of(ids), LEFT, TOP)
    write_composite(tmp_path, reflect(ids)[:, 10:, :-10], LEFT, TOP + 10)
    summary, table = cut(tmp_path)
    assert summary.counts["candidates"] == 4
    assert {row_id[-7:-4] for row_id in table.column("id").to_pylist()} == {"001", "002"}


def test_a_map_seam_inside_a_tile_leaves_no_trace(tmp_path: Path) -> None:
    ids = land((2 * SIZE, 3 * SIZE), seed=6)
    codes, seam = codes_of(ids), SIZE + 23
    write_map(tmp_path, codes[:, :seam], LEFT, TOP, name=map_name(CELL, "west"))
    write_map(tmp_path, codes[:40, seam:], LEFT + seam, TOP, name=map_name(CELL, "northeast"))
    write_map(tmp_path, codes[40:, seam:], LEFT + seam, TOP + 40, name=map_name(CELL, "southeast"))
    write_composite(tmp_path, reflect(ids), LEFT, TOP)
    summary, table = cut(tmp_path)
    assert summary.counts["kept"] == 6
    for name, mask in masks_of(table).items():
        row, column = (int(part) for part in name.split("_")[1:])
        np.testing.assert_array_equal(mask, ids[at(row, column)])


def test_cells_on_both_sides_of_a_map_seam_are_cut_on_their_own_grids(tmp_path: Path) -> None:
    """Upstream looks for maps at the wrong multiples and loses such cells."""
    edge = PER_DEGREE - PER_DEGREE % SIZE
    for cell, patch in [("N36E032", (0, edge // SIZE - 2)), ("N36E033", (0, 0))]:
        write_pair(tmp_path, land((SIZE, 2 * SIZE), seed=int(cell[-1])), patch, cell)
    assert {path.name[-16:-8] for path in tmp_path.glob("*_Map.tif")} == {"_N36E030", "_N36E033"}
    summary, table = cut(tmp_path)
    assert summary.counts["kept"] == 4
    for cell in ("N36E032", "N36E033"):
        ids = land((SIZE, 2 * SIZE), seed=int(cell[-1]))
        masks = {k: v for k, v in masks_of(table).items() if cell in k}
        np.testing.assert_array_equal(np.hstack(list(masks.values())), ids)


def test_maps_that_overlap_are_refused(tmp_path: Path) -> None:
    ids = land((SIZE, 2 * SIZE))
    write_pair(tmp_path, ids)
    write_map(
        tmp_path, codes_of(ids)[:, SIZE - 1 :], LEFT + SIZE - 1, TOP, name=map_name(CELL, "2020")
    )
    with pytest.raises(ArasError, match=r"overlap.*keep either") as raised:
        cut(tmp_path)
    assert f"2020_{CELL}_Map.tif" in str(raised.value)


def test_two_composites_of_one_cell_are_refused(tmp_path: Path) -> None:
    write_pair(tmp_path, land((SIZE, SIZE)))
    name = composite_name(CELL).replace("2021", "2020")
    write_composite(tmp_path, reflect(land((SIZE, SIZE))), LEFT, TOP, name=name)
    with pytest.raises(
        ArasError, match=f"several composites of one cell: {CELL}; keep a single file"
    ):
        cut(tmp_path)


def test_a_composite_without_map_is_named_and_counted_but_not_fatal(tmp_path: Path) -> None:
    write_pair(tmp_path, land((SIZE, 2 * SIZE)))
    left, top = cell_origin("N36E034")
    write_composite(tmp_path, reflect(land((SIZE, 3 * SIZE))), left, top, "N36E034")
    summary, table = cut(tmp_path)
    assert summary.report.as_json() == {"composites_without_map": [composite_name("N36E034")]}
    assert (summary.counts["no_map"], summary.counts["kept"], table.num_rows) == (3, 2, 2)
    assert not summary.failed


def test_no_map_for_any_composite_is_fatal(tmp_path: Path) -> None:
    map_path, _ = write_pair(tmp_path, land((SIZE, SIZE)))
    map_path.unlink()
    write_pair(tmp_path, land((SIZE, SIZE)), cell="S01W079")[1].unlink()
    with pytest.raises(ArasError, match="none of the 1 maps covers any of the 1 composites"):
        cut(tmp_path)


def test_all_bad_products_are_named_at_once_and_nothing_is_made(tmp_path: Path) -> None:
    write_pair(tmp_path, land((SIZE, SIZE)))
    write_composite(tmp_path, reflect(land((SIZE, SIZE))), LEFT, TOP, "N36E035")
    bad = tmp_path / map_name("N36E036")
    bad.write_text("no raster")
    with pytest.raises(ArasError) as raised:
        cut(tmp_path)
    assert f"{bad}: not a readable GeoTIFF" in str(raised.value)
    assert f"{tmp_path / composite_name('N36E035')}: its name says" in str(raised.value)
    assert not list((tmp_path / "work").glob("*/*.parquet"))


def truncate(path: Path, codes: np.ndarray) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])


def unknown_class(path: Path, codes: np.ndarray) -> None:
    path.unlink()
    changed = codes.copy()
    changed[-5:, -5:] = 37
    write_map(path.parent, changed, LEFT, TOP)


@pytest.mark.parametrize(
    ("damage", "message"),
    [(truncate, "truncated or damaged"), (unknown_class, r"class value 37 \(25 pixels\)")],
)
def test_a_damaged_map_fails_its_shards_by_name_and_the_others_are_kept(
    tmp_path: Path, damage: Callable[[Path, np.ndarray], None], message: str
) -> None:
    ids = land((20 * SIZE, 2 * SIZE), seed=3, grain=3)
    map_path, _ = write_pair(tmp_path, ids)
    damage(map_path, codes_of(ids))
    store = Store(tmp_path / "work")
    summary = run(stage_of(tmp_path), store, Engine("serial"))
    assert summary.failed
    assert all(map_path.name in why for why in summary.failed.values())
    assert all(re.search(message, why) for why in summary.failed.values())
    assert summary.shards_made == summary.shards - len(summary.failed) > 0
    map_path.unlink()
    write_map(tmp_path, codes_of(ids), LEFT, TOP)
    mended = run(stage_of(tmp_path), store, Engine("serial"))
    assert not mended.failed
    assert mended.counts["kept"] == mended.counts["candidates"] == 40


def test_a_composite_on_a_coarser_grid_is_refused_unless_resampled(tmp_path: Path) -> None:
    ids = land((2 * SIZE, 2 * SIZE), seed=9)
    write_map(tmp_path, codes_of(ids), LEFT, TOP)
    dn = reflect(ids)[:, ::2, ::2]
    write_composite(tmp_path, dn, LEFT, TOP, per_degree=6000)
    with pytest.raises(ArasError, match="set resample"):
        cut(tmp_path)
    summary, table = cut(tmp_path, resample="nearest")
    assert summary.counts["kept"] == summary.counts["candidates"] == 4
    small = shown(dn[:3]).repeat(2, axis=1).repeat(2, axis=2)
    for name, image in images_of(table).items():
        row, column = (int(part) for part in name.split("_")[1:])
        np.testing.assert_array_equal(
            image.transpose(2, 0, 1), small[(slice(None), *at(row, column))]
        )
    smooth = images_of(cut(tmp_path, resample="bilinear")[1])
    assert any((smooth[name] != image).any() for name, image in images_of(table).items())


def test_a_map_on_a_coarser_grid_is_resampled_to_nearest_whatever_the_recipe_says(
    tmp_path: Path,
) -> None:
    ids = land((SIZE, SIZE), seed=9, grain=4)
    write_map(tmp_path, codes_of(ids)[::2, ::2], LEFT, TOP, per_degree=6000)
    write_composite(tmp_path, reflect(ids), LEFT, TOP)
    (mask,) = masks_of(cut(tmp_path, resample="bilinear")[1]).values()
    np.testing.assert_array_equal(mask, ids[::2, ::2].repeat(2, axis=0).repeat(2, axis=1))


@pytest.mark.parametrize("way", COMPOSITES)
def test_one_scene_gives_the_same_tiles_however_its_composite_is_written(
    tmp_path: Path, way: str
) -> None:
    ids = land((SIZE, 3 * SIZE), seed=3)
    dn, hole = reflect(ids), np.zeros(ids.shape, bool)
    hole[20:30, SIZE + 5 : SIZE + 9] = True  # the second of three patches is partly black
    write_map(tmp_path, codes_of(ids), LEFT, TOP)
    COMPOSITES[way](tmp_path / composite_name(CELL), dn, hole, LEFT, TOP)
    summary, table = cut(tmp_path)
    assert (summary.counts["kept"], summary.counts["partly_black"]) == (2, 1)
    for name, image in images_of(table).items():
        place = (slice(None), *at(*(int(part) for part in name.split("_")[1:])))
        np.testing.assert_array_equal(image.transpose(2, 0, 1), shown(dn[:3])[place])
    above = (dn[:3] > 2750).reshape(3, SIZE, 3, SIZE).mean(axis=(0, 1, 3))
    assert table.column("saturated").to_pylist() == pytest.approx([above[0], above[2]])


@pytest.mark.parametrize("way", MAPS)
def test_one_scene_gives_the_same_masks_however_its_map_is_written(
    tmp_path: Path, way: str
) -> None:
    ids, hole = land((SIZE, 3 * SIZE), seed=3), np.zeros((SIZE, 3 * SIZE), bool)
    hole[20:30, SIZE + 5 : SIZE + 9] = True
    MAPS[way](tmp_path / map_name(CELL), codes_of(ids)[None], hole, LEFT, TOP)
    write_composite(tmp_path, reflect(ids), LEFT, TOP)
    summary, table = cut(tmp_path)
    assert (summary.counts["kept"], summary.counts["nodata"]) == (2, 1)
    for name, mask in masks_of(table).items():
        np.testing.assert_array_equal(mask, ids[at(*(int(part) for part in name.split("_")[1:]))])


def test_a_file_beside_a_composite_that_changes_its_meaning_makes_its_tiles_stale(
    tmp_path: Path,
) -> None:
    write_pair(tmp_path, patches(1, 1, GRASS))
    store = Store(tmp_path / "work")
    assert run(stage_of(tmp_path), store, Engine("serial")).counts["kept"] == 1
    beside = next(tmp_path.glob("*_S2RGBNIR.tif")).with_suffix(".tif.aux.xml")
    beside.write_text(
        '<PAMDataset><PAMRasterBand band="1"><Offset>-0.01</Offset><Scale>0.0001</Scale>'
        "</PAMRasterBand></PAMDataset>"
    )
    assert plan(stage_of(tmp_path), store).stale
    beside.unlink()
    assert not plan(stage_of(tmp_path), store).stale


@pytest.mark.parametrize(("zone", "cell"), [("EPSG:32601", "S01W180"), ("EPSG:32660", "S01E179")])
def test_a_composite_across_180_degrees_gives_the_tiles_of_the_cell_that_its_name_gives(
    tmp_path: Path, zone: str, cell: str
) -> None:
    left, top = cell_origin(cell)
    edge = left if cell.endswith("W180") else left + PER_DEGREE - 2 * SIZE
    ids = land((SIZE, 2 * SIZE))
    write_map(tmp_path, codes_of(ids), edge, top, cell)
    x = 166_021 if zone == "EPSG:32601" else 833_978
    place = rasterio.Affine(10, 0, x - 3000, 0, -10, 9_999_990 + 10 * SIZE)
    dn = np.full((4, 3 * SIZE, 600), 900, np.uint16)
    write_composite(tmp_path, dn, 0, 0, cell, crs=zone.replace("326", "327"), transform=place)
    summary, table = cut(tmp_path, resample="nearest")
    assert summary.counts["kept"] >= 1
    assert {name.split("/")[1].split("_")[0] for name in table.column("id").to_pylist()} == {cell}


def test_the_dry_run_says_what_was_understood_of_each_file(tmp_path: Path) -> None:
    (tmp_path / "dataset.toml").write_text(
        '[dataset]\nname = "case"\nversion = "0.1.0"\nauthors = ["A"]\n[tiles]\nsize = 64\n'
    )
    ids, folder = land((SIZE, SIZE)), tmp_path / "inputs"
    write_map(folder, codes_of(ids), LEFT, TOP)
    COMPOSITES["offset"](folder / composite_name(CELL), reflect(ids), ids > 6, LEFT, TOP)
    command = ["-C", str(tmp_path), "tiles", "--dry-run"]
    outcome = CliRunner().invoke(cli, command)
    assert outcome.exit_code == 0, outcome.output
    lines = outcome.stdout.splitlines()
    assert lines[1] == f"inputs/{composite_name(CELL)}"
    assert lines[3:5] == ["  reflectance = value × 0.0001 − 0.1", "  no data: value 0"]
    plan = json.loads(CliRunner().invoke(cli, [*command, "--json"]).stdout)
    inputs = plan["steps"][0]["inputs"]
    assert inputs[lines[1]] == [line.strip() for line in lines[2:6]]


def test_a_raster_is_opened_again_when_it_or_a_file_beside_it_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = make_project(tmp_path)
    opened: list[str] = []
    inspect = products.inspect

    def counted(path: Path, what: str, *, resample: bool) -> Raster:
        opened.append(path.name)
        return inspect(path, what, resample=resample)

    monkeypatch.setattr(products, "inspect", counted)
    first = project.tiles().products(project.store)
    assert sorted(opened) == sorted(path.name for path in (tmp_path / "inputs").iterdir())
    opened.clear()
    assert project.tiles().products(project.store) == first
    assert opened == []
    changed = project.tiles().composites[0]
    changed.with_name(f"{changed.name}.aux.xml").write_text("<PAMDataset/>")
    project.tiles().products(project.store)
    assert opened == [changed.name]
