"""A release that says a place, a time or a count that its rows contradict is refused."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from builder.core.files import read_json, write_json
from builder.core.manifest import read_manifest
from builder.land.columns import GEO_COLUMNS, METADATA_NAMES
from builder.pipeline.project import Project
from builder.release.check import lacking_columns, violations
from tests.makers import official
from tests.makers.damage import copy_of, restamp, rewrite, rows_edited, without_columns

LIGHT = "metadata/test-00000-of-00001.parquet"


@pytest.fixture
def release(project: Project, tmp_path: Path) -> Path:
    return copy_of(project.releases / "0.1.0", tmp_path)


def complaints(release: Path) -> list[str]:
    """Violations, without those that tell of other bytes alone."""
    return [line for line in violations(release) if "checksum" not in line]


def edited(release: Path, name: str, edit: Callable[[Any], None]) -> None:
    value = read_json(release / name)
    edit(value)
    write_json(release / name, value)
    restamp(release)


def test_metadata_is_geoparquet_with_a_footprint_and_a_year_for_every_real_row(
    project: Project,
) -> None:
    release = project.releases / "0.1.0"
    for path in (release / "metadata").glob("*.parquet"):
        table = pq.read_table(path)
        assert table.column_names == list(METADATA_NAMES)
        geo = json.loads(table.schema.metadata[b"geo"])
        assert geo["version"] == "1.1.0"
        for row in table.select(["kind", *GEO_COLUMNS]).to_pylist():
            if row["kind"] == 0:
                assert row["geometry"][:5] == b"\x01\x03\x00\x00\x00"
                assert row["bbox"]["xmin"] < row["bbox"]["xmax"]
                assert row["start_datetime"].year == row["end_datetime"].year == 2021
            else:
                assert [row[name] for name in GEO_COLUMNS] == [None] * 4
    assert violations(release) == []


def test_a_release_without_any_place_is_valid_and_leaves_the_facts_out(tmp_path: Path) -> None:
    files = official.official(train=2, val=1, test=1, synth=1)
    for i, path in enumerate([path for path in files.files if "/images/" in path]):
        split, _, name = path.removesuffix(".png").split("/")
        files.rename(split, name, f"plain-{i}")
    release = official.release(files, tmp_path)
    assert violations(release) == []
    document = read_json(release / "croissant.json")
    assert not [key for key in document if key.startswith("geocr") or key.endswith("Coverage")]
    assert "locations" not in read_json(release / ".zenodo.json")
    table = pq.read_table(release / LIGHT)
    assert table.column("geometry").null_count == table.num_rows
    assert "bbox" not in json.loads(table.schema.metadata[b"geo"])["columns"]["geometry"]


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("geometry", b"\x01\x03\x00\x00\x00" + bytes(88), "its geometry is not the footprint"),
        ("geometry", None, "its geometry is not the footprint"),
        ("bbox", {"xmin": 0.0, "ymin": 0.0, "xmax": 1.0, "ymax": 1.0}, "its bbox is not that"),
        ("end_datetime", None, "end_datetime is not that of its source"),
        ("latitude", 1.0, "longitude and latitude are not the centre of its footprint"),
    ],
)
def test_a_row_in_another_place_or_time_is_named(
    release: Path, name: str, value: object, message: str
) -> None:
    def edit(rows: list[dict[str, Any]]) -> None:
        rows[0][name] = value

    row = pq.read_table(release / LIGHT, columns=["id"]).column(0)[0].as_py()
    rewrite(release / LIGHT, rows_edited(edit))
    assert any(line.startswith(f"{LIGHT}: {row}: {message}") for line in complaints(release))


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("rows", {"real/test": 99}, "its census counts 99 rows of real/test"),
        ("years", [1999], "its census says years (1999,), the rows (2021,)"),
        ("west", 12.5, "its census says west 12.5, the rows"),
        ("cells", 77, "its census says cells 77"),
        ("footprint", [0.0, 0.0, 1.0, 1.0], "its census says footprint (0.0, 0.0, 1.0, 1.0)"),
        ("extent", None, "its census has no extent, and rows have places"),
    ],
)
def test_a_census_that_the_rows_contradict_is_named(
    release: Path, key: str, value: object, message: str
) -> None:
    def edit(manifest: dict[str, Any]) -> None:
        census = manifest["facts"]["census"]
        if key == "rows":
            census["rows"] |= value
        elif key == "extent":
            census["extent"] = value
        else:
            census["extent"][key] = value

    restamp(release, edit)
    assert any(message in line for line in complaints(release))


def test_documents_that_name_another_place_time_or_count_are_named(release: Path) -> None:
    def edit(document: dict[str, Any]) -> None:
        document["spatialCoverage"]["geo"]["box"] = "0 0 1 1"
        document["temporalCoverage"] = "1999-01-01/1999-12-31"
        (record_set,) = (item for item in document["recordSet"] if item["@id"] == "real")
        record_set["description"] = "Real tiles. Rows: train 1."

    edited(release, "croissant.json", edit)
    edited(release, ".zenodo.json", lambda value: value["locations"][0].update(lat=0.0))
    assert complaints(release) == [
        "croissant.json: its spatialCoverage is not that of manifest.json",
        "croissant.json: its temporalCoverage is not that of manifest.json",
        "croissant.json: record set real has other rows than manifest.json",
        ".zenodo.json: its locations are not those of manifest.json",
    ]


@pytest.mark.parametrize("text", [None, "{}", "no json", "box"])
def test_a_footer_that_does_not_fit_its_rows_is_named(release: Path, text: str | None) -> None:
    def edit(table: pa.Table) -> pa.Table:
        metadata = dict(table.schema.metadata)
        geo = json.loads(metadata.pop(b"geo"))
        if text == "box":
            geo["columns"]["geometry"]["bbox"][0] = -170.0
        new = {} if text is None else {"geo": json.dumps(geo) if text == "box" else text}
        return table.replace_schema_metadata({**metadata, **new})

    rewrite(release / LIGHT, edit)
    restamp(release)
    message = "has no key geo" if text is None else "key geo does not fit"
    (line,) = complaints(release)
    assert line.startswith(LIGHT)
    assert message in line


def test_an_older_release_without_footprints_is_read_all_the_same(release: Path) -> None:
    def edit(manifest: dict[str, Any]) -> None:
        for name in ("footprint", "crs", "pixel"):
            del manifest["facts"]["census"]["extent"][name]

    restamp(release, edit)
    without_columns(release, GEO_COLUMNS)
    assert violations(release) == []
    assert lacking_columns(release) == list(GEO_COLUMNS)
    assert read_manifest(release).facts.census.extent.footprint is None
