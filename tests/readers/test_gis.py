"""One release, opened by geographic and training libraries in an environment of their own.

GDAL and pyogrio, GeoPandas and DuckDB's spatial extension read the same config metadata that
`load_dataset` reads; stac-valid finds stac/ valid; WebDataset and pycocotools read the exports.
"""

from hashlib import sha256
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from builder.core.manifest import read_manifest
from builder.land.columns import SPLITS
from builder.pipeline.project import Project
from builder.release.exports import Options, export
from tests.readers.environments import GIS, ask_in, folder_with

pytestmark = [pytest.mark.readers, pytest.mark.timeout(1500)]

HERE = Path(__file__).parent
PROGRAM, PROJECTION = HERE / "read_gis.py", HERE / "stac_projection.json"


@pytest.fixture(scope="module")
def release(project: Project) -> Path:
    return project.releases / project.recipe.dataset.version


@pytest.fixture(scope="module")
def rows(release: Path) -> pa.Table:
    paths = sorted((release / "metadata").glob("*.parquet"))
    return pa.concat_tables([pq.read_table(path) for path in paths])


def ask(reader: str, *arguments: Path, cwd: Path) -> list[dict[str, Any]]:
    folder = folder_with("gis", GIS)
    return ask_in([folder], PROGRAM, reader, *map(str, arguments), cwd=cwd)


def boxes(rows: pa.Table) -> dict[str, tuple[float, ...]]:
    """Id of a row with a place → its bbox."""
    known = rows.filter(rows.column("bbox").is_valid())
    return {
        row["id"]: tuple(row["bbox"].values()) for row in known.select(["id", "bbox"]).to_pylist()
    }


@pytest.mark.parametrize("reader", ["geopandas", "gdal", "duckdb"])
def test_every_footprint_is_read_where_its_tile_lies(
    release: Path, rows: pa.Table, reader: str, tmp_path: Path
) -> None:
    lines = ask(reader, release, cwd=tmp_path)
    read = {
        row_id: bounds
        for line in lines
        for row_id, bounds in zip(line["ids"], line["bounds"], strict=True)
    }
    expected = boxes(rows)
    assert read.keys() == expected.keys()
    assert len(expected) > 20
    for row_id, bounds in read.items():
        assert bounds == pytest.approx(expected[row_id], abs=1e-9)
    assert sum(line["rows"] for line in lines) == rows.num_rows  # null geometries are rows too
    for line in lines:
        if reader != "duckdb":
            assert "CRS84" in line["crs"] or line["crs"] == "EPSG:4326"
        if reader == "geopandas":
            assert line["valid"] is True
            assert set(line["start"]) == {"2021-01-01 00:00:00+00:00"}
            assert line["at the first"] == line["ids"][:1]  # by the covering: one tile is read
        if reader == "duckdb":
            assert line["years"] == [2021]


def test_load_dataset_reads_the_same_file_with_its_labels(release: Path, tmp_path: Path) -> None:
    import datasets

    loaded = datasets.load_dataset(str(release), "metadata", split="test", cache_dir=str(tmp_path))
    assert loaded.features["split"].names == list(SPLITS)
    assert loaded.features["dominant"].names[0] == "Tree"
    assert set(loaded.features["bbox"]) == {"xmin", "ymin", "xmax", "ymax"}
    row = loaded[0]
    assert row["geometry"][:5] == b"\x01\x03\x00\x00\x00"
    assert row["start_datetime"].year == 2021


def test_the_catalogue_is_valid_and_leads_to_every_picture(
    release: Path, rows: pa.Table, tmp_path: Path
) -> None:
    collection, *items = ask("stac", release, PROJECTION, cwd=tmp_path)
    assert collection["problems"] == []
    assert collection["collection"] == read_manifest(release).name
    expected = boxes(rows)
    assert {item["item"] for item in items} == expected.keys()
    by_id = {row["id"]: row for row in rows.select(["id", "image_sha256", "split"]).to_pylist()}
    for item in items:
        assert item["problems"] == []
        assert item["bbox"] == pytest.approx(expected[item["item"]])
        row, asset = by_id[item["item"]], item["assets"]["image"]
        shard = (release / "stac" / asset["href"]).read_bytes()
        image = shard[asset["aras:offset"] : asset["aras:offset"] + asset["aras:size"]]
        assert sha256(image).hexdigest() == row["image_sha256"]
        assert item["properties"]["aras:split"] == SPLITS[row["split"]]
        assert item["properties"]["proj:code"] == "EPSG:4326"
        assert item["properties"]["start_datetime"].startswith("2021-01-01T00:00:00")
        assert sum(item["properties"]["aras:percent"].values()) == 100


def test_webdataset_reads_the_tar_shards(release: Path, rows: pa.Table, tmp_path: Path) -> None:
    export(release, tmp_path / "out", "webdataset", Options(streams={"txt": "full"}))
    read = {sample["id"]: sample for sample in ask("webdataset", tmp_path / "out", cwd=tmp_path)}
    for row in rows.select(["id", "captions"]).to_pylist():
        (text,) = (entry["text"] for entry in row["captions"] if entry["stream"] == "full")
        sample = read.pop(row["id"])
        assert sample["text"] == text
        assert sample["shape"] == [64, 64, 3]
    assert not read


def test_pycocotools_reads_the_captions(release: Path, rows: pa.Table, tmp_path: Path) -> None:
    export(release, tmp_path / "out", "coco-captions", Options())
    read = {line["row"]: line["captions"] for line in ask("coco", tmp_path / "out", cwd=tmp_path)}
    for row in rows.select(["id", "captions"]).to_pylist():
        texts = [entry["text"] for entry in row["captions"] if entry["text"] is not None]
        assert read.pop(row["id"]) == texts
    assert not read
