"""Tiles of anybody's rasters: maps with a legend of their own, Sentinel-2 bands, any names."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import rasterio
from rasterio.warp import transform as warp_points

from builder.core.engine import Engine
from builder.core.errors import ArasError
from builder.core.store import Store
from builder.land import classes
from builder.land.grid import PER_DEGREE, cell_origin
from builder.land.pictures import decode_mask, image_bytes
from builder.pipeline.project import Project
from builder.steps.plan import Summary, plan, run
from builder.steps.stage import shards
from builder.tiles.cut import Tiles
from tests.makers.products import (
    CELL,
    SIZE,
    land,
    reflect,
    write_composite,
    write_map,
    write_pair,
)

LEFT, TOP = cell_origin(CELL)
GRASS, WATER = classes.CLASSES.index("Grass"), classes.WATER


def patches(rows: int, columns: int, value: int) -> np.ndarray:
    return np.full((rows * SIZE, columns * SIZE), value, dtype=np.uint8)


def recipe(folder: Path, tiles: str) -> Tiles:
    """The stage of a recipe with these lines in [tiles], and after it."""
    (folder / "dataset.toml").write_text(
        f'[dataset]\nname = "case"\nversion = "0.1.0"\nauthors = ["A"]\n[tiles]\nsize = 64\n{tiles}'
    )
    return Project(folder).tiles()


def test_a_recipe_without_new_keys_has_the_configuration_that_it_had(tmp_path: Path) -> None:
    write_pair(tmp_path / "inputs", patches(1, 1, GRASS))
    assert recipe(tmp_path, "[tiles.remap]\n90 = 'Tree'\n").config() == {
        "size": 64,
        "reflectance": (0.0, 0.275),
        "max_water": 0.9,
        "max_black": 0.0,
        "remap": tuple(sorted({**classes.DEFAULT_REMAP, 90: "Tree"}.items())),
        "resample": "refuse",
    }


def made(stage: Tiles, folder: Path) -> tuple[Summary, dict[str, np.ndarray]]:
    """Run a stage: its summary and all masks."""
    store = Store(folder / "work")
    summary = run(stage, store, Engine("serial"))
    assert not summary.failed, summary.failed
    tables = [store.load("tiles", shard) for shard in shards(store, ("real",))]
    rows = pa.concat_tables(tables)
    names = rows.column("id").to_pylist()
    pictures = zip(names, image_bytes(rows.column("mask")), strict=True)
    return summary, {name: decode_mask(data, name) for name, data in pictures}


LABELS = {  # a code of each class, in their order
    "dynamic-world": [1, 5, 2, 4, 6, 7, 0],
    "esri": [2, 6, 11, 5, 7, 8, 1],
    "corine": [23, 28, 18, 12, 1, 31, 41],
    "nlcd": [41, 52, 71, 82, 24, 31, 11],
}


@pytest.mark.parametrize("name", LABELS)
def test_a_map_with_a_public_legend_needs_no_name_of_worldcover(tmp_path: Path, name: str) -> None:
    ids = land((SIZE, 3 * SIZE), seed=3, grain=6)
    codes = np.array(LABELS[name], np.uint8)[ids]
    write_map(tmp_path / "inputs", codes, LEFT, TOP, name="labels.tif", nodata=None)
    write_composite(tmp_path / "inputs", reflect(ids), LEFT, TOP)
    stage = recipe(tmp_path, f'maps = ["inputs/labels.tif"]\nlegend = "{name}"\n')
    summary, masks = made(stage, tmp_path)
    assert summary.counts["kept"] == 3
    np.testing.assert_array_equal(np.hstack(list(masks.values())), ids)


def test_codes_beyond_a_byte_and_below_0_have_the_classes_of_the_recipe(tmp_path: Path) -> None:
    ids = land((SIZE, 3 * SIZE), seed=3, grain=6)
    codes = np.array([-3, 111, 523, 0, 3000, 5, 6], np.int16)[ids]
    codes[5, SIZE + 5] = -9999
    write_map(tmp_path / "inputs", codes, LEFT, TOP, name="labels.tif", nodata=None)
    write_composite(tmp_path / "inputs", reflect(ids), LEFT, TOP)
    stage = recipe(
        tmp_path,
        'maps = ["inputs/labels.tif"]\n[tiles.legend]\n-3 = "Tree"\n111 = "Shrub"\n523 = "Grass"\n'
        '0 = "Crop"\n3000 = "Built-up"\n5 = "Barren"\n6 = "Water"\n-9999 = "dropped"\n',
    )
    summary, masks = made(stage, tmp_path)
    assert (summary.counts["kept"], summary.counts["nodata"]) == (2, 1)
    first, last = masks.values()
    np.testing.assert_array_equal(np.hstack([first, last]), np.delete(ids, slice(64, 128), axis=1))


def test_an_unknown_code_is_refused_with_its_count_and_the_way_out(tmp_path: Path) -> None:
    codes = np.full((SIZE, SIZE), 41, np.int16)
    codes[:2, :3] = 300
    write_map(tmp_path / "inputs", codes, LEFT, TOP, name="labels.tif", nodata=None)
    write_composite(tmp_path / "inputs", reflect(patches(1, 1, GRASS)), LEFT, TOP)
    for lines, way_out in [
        ('legend = "nlcd"', "not one of National Land Cover Database's; add it to remap"),
        (
            'legend = { 41 = "Tree" }',
            "not in the legend; add it to legend in [tiles], as a class or ",
        ),
    ]:
        stage = recipe(tmp_path, f'maps = ["inputs/labels.tif"]\n{lines}\n')
        (message,) = run(stage, Store(tmp_path / "work"), Engine("serial")).failed.values()
        assert "inputs/labels.tif: class value 300 (6 pixels) is" in message
        assert way_out in message


def test_a_file_that_calls_a_class_of_the_legend_no_data_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "inputs"
    write_map(folder, patches(1, 1, 1), LEFT, TOP, name="labels.tif", nodata=0)
    write_composite(folder, reflect(patches(1, 1, GRASS)), LEFT, TOP)
    stage = recipe(tmp_path, 'maps = ["inputs/labels.tif"]\nlegend = "dynamic-world"\n')
    store = Store(tmp_path / "work")
    with pytest.raises(ArasError, match=r"labels.tif: says that 0 is no data, the legend .* Water"):
        plan(stage, store)
    kept = 'maps = ["inputs/labels.tif"]\nlegend = "dynamic-world"\nremap = { 0 = "dropped" }\n'
    assert plan(recipe(tmp_path, kept), store).stale


def test_a_map_in_utm_is_read_in_every_cell_that_it_touches(tmp_path: Path) -> None:
    """Outside of it is no map, though its code for water is 0 as well."""
    folder = tmp_path / "inputs"
    (x,), (y,) = warp_points("EPSG:4326", "EPSG:32636", [33], [37])
    place = rasterio.Affine(10, 0, x - 1500, 0, -10, y + 100)
    codes = np.zeros((100, 300), np.uint8)  # water in the west, grass in the east
    codes[:, 150:] = 2
    write_map(folder, codes, 0, 0, name="dw.tif", nodata=None, crs="EPSG:32636", transform=place)
    last = LEFT - PER_DEGREE + 186 * SIZE
    write_composite(folder, reflect(patches(2, 1, GRASS)), last, TOP, "N36E032")
    write_composite(folder, reflect(patches(2, 1, GRASS)), LEFT, TOP, "N36E033")
    stage = recipe(
        tmp_path,
        'maps = ["inputs/dw.tif"]\nlegend = "dynamic-world"\nresample = "nearest"\n'
        "max_water = 1.0\n",
    )
    _, maps = stage.products(Store(tmp_path / "work"))
    assert [raster.cell for raster in maps] == ["N36E032", "N36E033"]
    summary, masks = made(stage, tmp_path)
    assert summary.counts["nodata"] + summary.counts["no_map"] == 2  # 900 m south of 37° N
    west, east = masks.values()
    assert (west == WATER).all()
    assert (east == GRASS).all()


def test_a_legend_of_the_recipe_takes_no_remap_beside_it(tmp_path: Path) -> None:
    with pytest.raises(ArasError, match="write the codes into legend itself"):
        recipe(tmp_path, 'legend = { 1 = "Tree" }\nremap = { 2 = "Tree" }\n')
