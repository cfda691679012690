"""A tile of a scene carries when it was taken, and its release says nothing of a year."""

import json
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import rasterio

from builder.core.errors import ArasError
from builder.core.manifest import read_manifest
from builder.core.store import Store
from builder.pipeline.stand_ins import make_project
from builder.release.check import violations
from builder.release.package import package
from builder.steps.plan import plan
from builder.steps.stage import shards
from tests.tiles.test_own_rasters import (
    BANDS,
    DN,
    STACK,
    as_stack,
    made,
    recipe,
    scene_map,
    write_bands,
)


def test_a_tile_carries_the_time_of_its_scene_however_it_is_said(tmp_path: Path) -> None:
    at = "2023-06-01T08:56:01Z"

    def tagged_with(name: str) -> Callable[[Path], None]:
        def write(folder: Path) -> None:
            as_stack(folder, DN)
            with rasterio.open(folder / "stack.tif", "r+") as out:
                out.update_tags(**{name: at})

        return write

    def with_item(folder: Path) -> None:
        as_stack(folder, DN)
        item = {"type": "Feature", "stac_version": "1.1.0", "properties": {"datetime": at}}
        (folder / "stack.json").write_text(json.dumps(item))

    ways: dict[str, tuple[Callable[[Path], None], str, str]] = {
        "by its name": (
            lambda folder: write_bands(folder, DN, "T36SVF_20230601T085601"),
            BANDS,
            "T36SVF_20230601T085601",
        ),
        "by a tag": (tagged_with("ACQUISITION_DATETIME"), STACK, f"stack.tif, {at}"),
        "by a STAC item": (with_item, STACK, f"stack.tif, {at}"),
        "by the recipe": (
            lambda folder: as_stack(folder, DN),
            f'acquired = "{at}"\n{STACK}',
            f"stack.tif, {at}",
        ),
        "by nothing": (lambda folder: as_stack(folder, DN), STACK, "stack.tif"),
    }
    for number, (name, (write, lines, source)) in enumerate(ways.items()):
        folder = tmp_path / str(number)
        scene_map(folder / "inputs")
        write(folder / "inputs")
        stage = recipe(folder, f"offset = 0\n{lines}")
        made(stage, folder)
        store = Store(folder / "work")
        rows = pa.concat_tables([store.load("tiles", s) for s in shards(store, ("real",))])
        assert set(rows.column("source").to_pylist()) == {source}, name
        understood = "\n".join(line for some in stage.understood(store).values() for line in some)
        expected = "2023-06-01 08:56 UTC" if at in source or "T085601" in source else "not known"
        assert f"taken: {expected}" in understood, name
        assert not plan(stage, store).stale, name


def test_a_changed_item_beside_a_scene_makes_its_tiles_anew(tmp_path: Path) -> None:
    scene_map(tmp_path / "inputs")
    as_stack(tmp_path / "inputs", DN)
    stage = recipe(tmp_path, f"offset = 0\n{STACK}")
    made(stage, tmp_path)
    item = {"type": "Feature", "stac_version": "1.1.0", "properties": {"datetime": "2023-06-01"}}
    (tmp_path / "inputs/item.json").write_text(json.dumps(item))
    assert plan(stage, Store(tmp_path / "work")).stale


def test_a_time_of_the_recipe_is_checked(tmp_path: Path) -> None:
    with pytest.raises(ArasError, match="'last summer' is not a time"):
        recipe(tmp_path, 'acquired = "last summer"\n')


def test_a_release_of_scenes_says_when_they_were_taken_and_nothing_of_a_year(
    tmp_path: Path,
) -> None:
    source = "T36SVF_20230601T085601 {cell}.tif, 2023-08-06T09:05:59Z"
    project = make_project(tmp_path, 12, real=12, shard_rows=6, source=source)
    (tmp_path / "inputs").mkdir()
    (tmp_path / "inputs/ESA_WorldCover_10m_2020_v100_N36E027_Map.tif").touch()
    release = package(project.inputs()).release
    manifest = read_manifest(release)
    extent = manifest.facts.census.extent
    assert extent is not None
    assert (extent.years, extent.scenes) == ((), 1)
    assert extent.acquired == ("2023-08-06T09:05:59Z", "2023-08-06T09:05:59Z")
    names = [source.name for source in manifest.facts.sources]
    assert names == ["ESA WorldCover project 2020, maps v100", "Copernicus Sentinel-2 Level-2A"]
    assert manifest.facts.sources[1].notice == "Contains modified Copernicus Sentinel data 2023"
    card = (release / "README.md").read_text(encoding="utf-8")
    assert "| time | 2023-08-06, 1 scene |" in card
    assert "cut from Sentinel-2 scenes" in card
    assert "2021" not in card
    croissant = json.loads((release / "croissant.json").read_text(encoding="utf-8"))
    assert croissant["temporalCoverage"] == "2023-08-06/2023-08-06"
    collection = json.loads((release / "stac/collection.json").read_text(encoding="utf-8"))
    assert collection["extent"]["temporal"]["interval"] == [list(extent.acquired)]
    items = pq.read_table(release / "stac/items.parquet")
    assert items.column("datetime").equals(items.column("start_datetime"))
    assert items.column("datetime").null_count == 0
    assert violations(release) == []
