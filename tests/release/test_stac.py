"""stac/: the placed tiles as a catalogue, made from config metadata and kept true to it."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from builder.core.files import read_json, write_json
from builder.core.manifest import read_manifest
from builder.land.classes import CLASSES
from builder.land.columns import SPLITS
from builder.pipeline.project import Project
from builder.publish.zenodo_plan import MAIN, SYNTHETIC, in_part
from builder.release import stac
from builder.release.check import violations
from tests.makers.damage import copy_of, restamp, rewrite, rows_edited


@pytest.fixture
def release(project: Project, tmp_path: Path) -> Path:
    return copy_of(project.releases / "0.1.0", tmp_path)


def real_rows(release: Path) -> list[dict[str, Any]]:
    paths = sorted((release / "metadata").glob("*.parquet"))
    rows = [row for path in paths for row in pq.read_table(path).to_pylist()]
    return [row for row in rows if row["kind"] == 0]


def test_items_are_the_real_rows_with_place_and_year(project: Project) -> None:
    release = project.releases / "0.1.0"
    table = pq.read_table(release / stac.ITEMS)
    assert table.schema.metadata.keys() >= {b"geo", b"stac-geoparquet"}
    items = {item["id"]: item for item in table.to_pylist()}
    rows = real_rows(release)
    assert items.keys() == {row["id"] for row in rows}
    for row in rows:
        item = items[row["id"]]
        for name in ("geometry", "bbox", "start_datetime", "end_datetime"):
            assert item[name] == row[name]
        assert item["datetime"] is None
        assert item["proj:transform"] == row["transform"]
        assert item["proj:shape"] == [64, 64]
        assert item["aras:split"] == SPLITS[row["split"]]
        assert item["aras:dominant"] == CLASSES[row["dominant"]]
        assert item["aras:percent"] == row["percent"]
        for name in ("image", "mask"):
            asset = item["assets"][name]
            assert (release / "stac" / asset["href"]).resolve() == release / row["shard"]
            assert asset["aras:offset"] == row[f"{name}_offset"]
            assert asset["aras:size"] == row[f"{name}_size"]


def test_the_collection_covers_its_items_and_names_their_licence(project: Project) -> None:
    release = project.releases / "0.1.0"
    collection = read_json(release / stac.COLLECTION)
    boxes = [item["bbox"] for item in pq.read_table(release / stac.ITEMS).to_pylist()]
    ((west, south, east, north),) = collection["extent"]["spatial"]["bbox"]
    assert west <= min(box["xmin"] for box in boxes) < west + 1e-5
    assert south <= min(box["ymin"] for box in boxes) < south + 1e-5
    assert east >= max(box["xmax"] for box in boxes) > east - 1e-5
    assert north >= max(box["ymax"] for box in boxes) > north - 1e-5
    assert collection["extent"]["temporal"]["interval"] == [
        ["2021-01-01T00:00:00Z", "2021-12-31T23:59:59Z"]
    ]
    assert collection["license"] == read_manifest(release).license
    assert [link["rel"] for link in collection["links"]][:2] == ["root", "license"]


def test_a_release_of_many_rows_has_the_same_items_in_more_groups(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    release = project.releases / "0.1.0"
    manifest = read_manifest(release)
    (whole,) = stac.items(release, manifest)
    monkeypatch.setattr(stac, "TEXT_ROW_GROUP", 20)
    parts = list(stac.items(release, manifest))
    assert len(parts) > 1
    assert pa.concat_tables(parts).equals(whole)


def test_without_a_year_there_are_no_items_and_no_folder(release: Path) -> None:
    def edit(rows: list[dict[str, Any]]) -> None:
        for row in rows:
            row["end_datetime"] = None

    for path in (release / "metadata").glob("*.parquet"):
        rewrite(path, rows_edited(edit))
    for name in (stac.ITEMS, stac.COLLECTION):
        (release / name).unlink()
    assert stac.write_items(release, read_manifest(release)) == 0
    assert not (release / stac.ITEMS).exists()


def test_a_crs_without_a_code_has_none(project: Project) -> None:
    release = project.releases / "0.1.0"
    (rows,) = list(stac._rows(release, read_manifest(release)))[:1]
    place = rows.schema.get_field_index("crs")
    text = pa.array(["GEOGCS[...]"] * rows.num_rows)
    items = stac._items(rows.set_column(place, "crs", text), "x")
    assert items.column("proj:code").null_count == rows.num_rows


def test_items_that_the_rows_contradict_are_named(release: Path) -> None:
    def edit(rows: list[dict[str, Any]]) -> None:
        rows[3]["assets"]["image"]["aras:offset"] += 1

    rewrite(release / stac.ITEMS, rows_edited(edit))
    restamp(release)
    assert violations(release) == [
        "stac/items.parquet: its items are not the rows of config metadata with place and time"
    ]


def test_a_collection_of_other_places_or_times_is_named(release: Path) -> None:
    value = read_json(release / stac.COLLECTION)
    value["extent"]["temporal"]["interval"][0][0] = "1999-01-01T00:00:00Z"
    write_json(release / stac.COLLECTION, value)
    restamp(release)
    assert violations(release) == ["stac/collection.json: its extent is not that of manifest.json"]


def test_of_two_records_the_one_of_the_real_tiles_holds_the_catalogue() -> None:
    for name in (stac.ITEMS, stac.COLLECTION):
        assert in_part(MAIN, name)
        assert not in_part(SYNTHETIC, name)
