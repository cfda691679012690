"""Tiles of anybody's rasters: maps with a legend of their own, Sentinel-2 bands, any names."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

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
from builder.tiles.cut import REASONS, Tiles
from tests.makers.products import (
    CELL,
    SIZE,
    codes_of,
    land,
    reflect,
    write_composite,
    write_map,
    write_pair,
    write_tif,
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


UTM = "EPSG:32636"
(WEST,), (NORTH,) = warp_points("EPSG:4326", UTM, [33], [37])
PLACE = rasterio.Affine(10, 0, WEST - 200, 0, -10, NORTH + 200)
"""Of a scene that covers the upper left corner of N36E033."""


def scene_map(folder: Path) -> None:
    ids = land((3 * SIZE, 3 * SIZE), grain=6)
    write_map(folder, codes_of(ids), LEFT, TOP)


def write_bands(
    folder: Path, dn: np.ndarray, stem: str = "S2A_36SVF_20230601", **more: Any
) -> None:
    """A scene in files of their own: …_B04_10m.tif, …_B03_10m.tif and …_B02_10m.tif."""
    for number, band in zip((4, 3, 2), dn[:3], strict=True):
        name = f"{stem}_B0{number}_10m.tif"
        write_tif(folder / name, band[None], 0, 0, crs=UTM, **{"transform": PLACE, **more})


NEAREST = 'resample = "nearest"\nmax_water = 1.0\n'
BANDS = 'composites = ["inputs/*_B0?_10m.tif"]\n' + NEAREST
STACK = 'composites = ["inputs/stack.tif"]\n' + NEAREST
BY_COLOUR = NEAREST + (
    '[tiles.composites]\nred = "inputs/*_B04_10m.tif"\ngreen = "inputs/*_B03_10m.tif"\n'
    'blue = "inputs/*_B02_10m.tif"\n'
)
DN = np.clip(reflect(land((160, 160), seed=5)), 1, None)


def as_stack(folder: Path, dn: np.ndarray, **more: Any) -> None:
    profile = {"crs": UTM, "transform": PLACE, **more}
    write_tif(folder / "stack.tif", dn[[2, 1, 0, 3]], 0, 0, **profile)
    with rasterio.open(folder / "stack.tif", "r+") as out:
        out.descriptions = ("B02", "B03", "B04", "B08")


def tagged(folder: Path, dn: np.ndarray) -> None:
    write_bands(folder, dn + 1000)
    for path in folder.glob("*_10m.tif"):
        with rasterio.open(path, "r+") as out:
            out.scales, out.offsets = [1e-4], [-0.1]


def with_baseline(folder: Path, dn: np.ndarray) -> None:
    write_bands(folder, dn + 1000)
    for path in folder.glob("*_10m.tif"):
        with rasterio.open(path, "r+") as out:
            out.update_tags(PROCESSING_BASELINE="05.09")


def in_a_product_of(baseline: str, added: int) -> Callable[[Path, np.ndarray], None]:
    def write(folder: Path, dn: np.ndarray) -> None:
        product = f"S2A_MSIL2A_20230601T085601_{baseline}_R007_T36SVF_20230601T1"
        write_bands(folder, dn + added, product)

    return write


SENTINEL: dict[str, tuple[Callable[[Path, np.ndarray], None], str]] = {
    "a file a band": (write_bands, f"offset = 0\n{BANDS}"),
    "by colour": (write_bands, f"offset = 0\n{BY_COLOUR}"),
    "in one stack": (as_stack, f"offset = 0\n{STACK}"),
    "int16": (lambda f, dn: write_bands(f, dn.astype(np.int16)), f"offset = 0\n{BANDS}"),
    "int16 stack": (lambda f, dn: as_stack(f, dn.astype(np.int16)), f"offset = 0\n{STACK}"),
    "after 04.00, by the recipe": (
        lambda folder, dn: write_bands(folder, dn + 1000),
        f"offset = -1000\n{BANDS}",
    ),
    "stack after 04.00": (
        lambda folder, dn: as_stack(folder, (dn + 1000).astype(np.int16)),
        f"offset = -1000\n{STACK}",
    ),
    "by scale and offset of the files": (tagged, BANDS),
    "by the baseline in the tags": (with_baseline, BANDS),
    "by the baseline in the name": (in_a_product_of("N0509", 1000), BANDS),
    "by an early baseline in the name": (in_a_product_of("N0301", 0), BANDS),
    "no word on no data": (lambda f, dn: write_bands(f, dn, nodata=None), f"offset = 0\n{BANDS}"),
}


def test_one_scene_of_sentinel_2_gives_the_same_tiles_however_it_is_written(
    tmp_path: Path,
) -> None:
    pictures = {}
    for number, (name, (write, lines)) in enumerate(SENTINEL.items()):
        folder = tmp_path / str(number)
        scene_map(folder / "inputs")
        write(folder / "inputs", DN)
        summary, _ = made(recipe(folder, lines), folder)
        store = Store(folder / "work")
        rows = pa.concat_tables([store.load("tiles", s) for s in shards(store, ("real",))])
        pictures[name] = dict(
            zip(rows["id"].to_pylist(), image_bytes(rows.column("image")), strict=True)
        )
        assert summary.counts["kept"] == 4, name
    for name, images in pictures.items():
        assert images == pictures["a file a band"], name


def test_bands_that_say_nothing_of_their_offset_are_refused_with_the_way_out(
    tmp_path: Path,
) -> None:
    scene_map(tmp_path / "inputs")
    write_bands(tmp_path / "inputs", DN)
    with pytest.raises(ArasError, match=r"B04_10m.tif: says neither .* set offset in .tiles.: -10"):
        plan(recipe(tmp_path, BANDS), Store(tmp_path / "work"))


@pytest.mark.parametrize(
    ("write", "lines", "said"),
    [
        (write_bands, "offset = 0\n", "value × 0.0001 (offset = 0 in [tiles])"),
        (
            in_a_product_of("N0509", 1000),
            "",
            "value × 0.0001 − 0.1 (offset -1000: processing baseline 05.09 in its name)",
        ),
        (with_baseline, "", "− 0.1 (offset -1000: processing baseline 05.09 in its tags)"),
        (tagged, "offset = 0\n", "reflectance = value × 0.0001 − 0.1"),
    ],
)
def test_the_dry_run_says_which_offset_counts_and_why(
    tmp_path: Path, write: Callable[[Path, np.ndarray], None], lines: str, said: str
) -> None:
    scene_map(tmp_path / "inputs")
    write(tmp_path / "inputs", DN)
    understood = recipe(tmp_path, lines + BANDS).understood(Store(tmp_path / "work"))
    bands = [text for path, text in understood.items() if "_10m.tif" in path]
    assert len(bands) == 3
    for text in bands:
        assert said in text[1], text
    assert any("read in " in line and CELL in line for text in bands for line in text)


def test_a_scene_that_lacks_a_band_or_mixes_grids_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "inputs"
    scene_map(folder)
    write_bands(folder, DN)
    write_bands(folder, DN, "S2A_36SVF_20230606")
    (folder / "S2A_36SVF_20230606_B03_10m.tif").unlink()
    with pytest.raises(ArasError, match=r"S2A_36SVF_20230606_B0.*no file of green goes with it"):
        recipe(tmp_path, f"offset = 0\n{BANDS}")
    other = {"crs": UTM, "transform": PLACE @ rasterio.Affine.scale(2)}
    write_tif(folder / "S2A_36SVF_20230606_B03_10m.tif", DN[:1], 0, 0, **other)
    with pytest.raises(ArasError, match=r"20230606_B03_10m.tif: lies on another grid than"):
        plan(recipe(tmp_path, f"offset = 0\n{BANDS}"), Store(tmp_path / "work"))


def test_a_tile_is_of_the_first_scene_by_name_that_holds_all_of_it(tmp_path: Path) -> None:
    folder = tmp_path / "inputs"
    scene_map(folder)
    half = DN.copy()
    half[:, :, 80:] = 0
    write_bands(folder, half, "S2A_1")
    write_bands(folder, DN, "S2A_2")
    stage = recipe(tmp_path, f"offset = 0\n{BANDS}")
    summary, _ = made(stage, tmp_path)
    store = Store(tmp_path / "work")
    rows = pa.concat_tables([store.load("tiles", s) for s in shards(store, ("real",))])
    source = dict(zip(rows["id"].to_pylist(), rows["source"].to_pylist(), strict=True))
    assert source == {
        f"real/{CELL}_000_000": "S2A_1",
        f"real/{CELL}_000_001": "S2A_2",
        f"real/{CELL}_001_000": "S2A_1",
        f"real/{CELL}_001_001": "S2A_2",
    }
    counts = summary.counts
    assert counts["candidates"] == counts["kept"] + sum(counts[r] for r in REASONS)
    lines = [line for text in stage.understood(store).values() for line in text]
    assert any("the first file by name that holds all of it" in line for line in lines)


def test_another_green_file_makes_the_tiles_of_its_scene_stale(tmp_path: Path) -> None:
    scene_map(tmp_path / "inputs")
    write_bands(tmp_path / "inputs", DN)
    stage, store = recipe(tmp_path, f"offset = 0\n{BANDS}"), Store(tmp_path / "work")
    run(stage, store, Engine("serial"))
    assert not plan(stage, store).stale
    brighter = DN.copy()
    brighter[1] += 7
    write_bands(tmp_path / "inputs", brighter)
    assert plan(stage, store).stale


HOW_TO = Path(__file__).parents[2] / "docs/how-to/cut-from-your-own-rasters.md"
EXAMPLES = re.findall(r"```toml\n(.*?)```", HOW_TO.read_text(encoding="utf-8"), re.DOTALL)
HEAD = '[dataset]\nname = "case"\nversion = "0.1.0"\nauthors = ["A"]\n'


@pytest.mark.parametrize("number", [n for n, text in enumerate(EXAMPLES) if "[tiles]" in text])
def test_the_examples_of_the_how_to_cut_tiles(tmp_path: Path, number: int) -> None:
    text, folder = EXAMPLES[number], tmp_path / "inputs"
    ids = land((3 * SIZE, 3 * SIZE), grain=6)
    codes = np.array(LABELS["dynamic-world"], np.uint8)[ids]
    own = np.array([1, 2, 300], np.int16)[ids % 3]
    write_map(folder / "dynamic_world", codes, LEFT, TOP, name="dw.tif", nodata=None)
    write_map(folder, own, LEFT, TOP, name="forest_inventory.tif", nodata=None)
    write_map(folder / "maps", codes_of(ids), LEFT, TOP)
    if "composites" not in text or "_S2RGBNIR" in text:
        write_composite(folder, reflect(ids), LEFT, TOP)
    write_bands(folder, DN)
    if ".SAFE" in text:
        from tests.tiles.test_safe import write_safe

        write_safe(folder, DN + 1000)
    for colour, band in zip(("red", "green", "blue"), DN[:3], strict=True):
        write_tif(folder / "N0301" / f"{colour}.tif", band[None], 0, 0, crs=UTM, transform=PLACE)
    for band, values in zip(("B04", "B03", "B02"), DN[:3], strict=True):
        write_tif(
            folder / f"scenes/a_N0301_{band}.tif", values[None], 0, 0, crs=UTM, transform=PLACE
        )
    (tmp_path / "dataset.toml").write_text(HEAD + text.replace("[tiles]\n", "[tiles]\nsize = 64\n"))
    summary, masks = made(Project(tmp_path).tiles(), tmp_path)
    assert masks
    assert summary.counts["kept"] == len(masks)


def test_maps_that_overlap_and_disagree_are_told_with_their_names_and_pixels(
    tmp_path: Path,
) -> None:
    for name, value in (("a.tif", GRASS), ("b.tif", WATER)):
        codes = codes_of(patches(3, 3, GRASS))
        codes[:, : 2 * SIZE if name == "b.tif" else None] = codes_of(np.array([value], np.uint8))
        path = write_map(tmp_path / "inputs", codes, LEFT, TOP, name=name)
        with rasterio.open(path, "r+") as out:  # half a pixel off the grid: it is resampled
            out.transform @= rasterio.Affine.translation(0.3, 0.3)
    write_composite(tmp_path / "inputs", reflect(patches(3, 3, GRASS)), LEFT, TOP)
    lines = f'maps = ["inputs/[ab].tif"]\ncomposites = ["inputs/*_S2RGBNIR.tif"]\n{NEAREST}'
    stage = recipe(tmp_path, lines)
    _, masks = made(stage, tmp_path)
    differing = sum(int((mask == WATER).sum()) for mask in masks.values())
    assert differing > SIZE * SIZE
    report = stage.report(Store(tmp_path / "work"))
    assert report.pixels_of_differing_maps == differing
    assert report.overlapping_maps == [("a.tif", "b.tif")]
    (line,) = report.lines()
    assert line.startswith(f"maps overlap and disagree on {differing:,} pixels of the tiles (")
    assert report.as_json()["pixels_of_differing_maps"] == differing
    (tmp_path / "inputs/b.tif").write_bytes((tmp_path / "inputs/a.tif").read_bytes())
    made(stage, tmp_path)
    assert stage.report(Store(tmp_path / "work")).lines() == []
