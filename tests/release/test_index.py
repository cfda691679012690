"""Config metadata as the index: where each picture lies, found while writing and verified."""

import re
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import requests

from builder.core.arrow import options
from builder.core.errors import ArasError
from builder.core.files import read_json, write_json
from builder.core.manifest import read_manifest
from builder.land.columns import IMAGE, LOCATIONS, SPLITS, arrow_schema
from builder.land.pictures import image_column
from builder.pipeline.project import Project
from builder.release.check import lacking_columns, violations
from builder.release.diff import compare, describe
from builder.release.index import find_pictures
from tests.loopback.files import FileServer, file_server
from tests.makers.damage import copy_of, restamp, rewrite, rows_edited, without_columns

LIGHT = "metadata/train-00000-of-00001.parquet"
DRAWN = "synthetic/train-00000-of-00001.parquet"
TEST = "real/test-00000-of-00001.parquet"


@pytest.fixture
def release(project: Project, tmp_path: Path) -> Path:
    return copy_of(project.releases / "0.1.0", tmp_path)


@pytest.fixture
def server() -> Iterator[FileServer]:
    with file_server() as files:
        yield files


def rows_of(release: Path, config: str, *columns: str) -> list[dict[str, Any]]:
    files = sorted((release / config).glob("*.parquet"))
    tables = [pq.ParquetFile(path).read(list(columns) or None) for path in files]
    return [row for table in tables for row in table.to_pylist()]


def test_every_picture_lies_where_metadata_says(project: Project) -> None:
    release = project.releases / "0.1.0"
    pictures = {
        row["id"]: row
        for kind in ("real", "synthetic")
        for row in rows_of(release, kind, "id", "image", "mask")
    }
    rows = rows_of(release, "metadata")
    assert len(rows) == len(pictures) > 30
    for row in rows:
        assert row["shard"].split("/")[0] == row["id"].split("/")[0]
        assert f"/{SPLITS[row['split']]}-" in row["shard"]
        for name in ("image", "mask"):
            start, size = row[f"{name}_offset"], row[f"{name}_size"]
            data = (release / row["shard"]).read_bytes()[start : start + size]
            assert data == pictures[row["id"]][name]["bytes"]
            assert sha256(data).hexdigest() == row[f"{name}_sha256"]


def test_one_range_fetches_one_picture_from_a_server_and_from_a_folder(
    project: Project, server: FileServer
) -> None:
    release = project.releases / "0.1.0"
    row = rows_of(release, "metadata")[7]
    server.put(f"/{row['shard']}", (release / row["shard"]).read_bytes())
    first, last = row["image_offset"], row["image_offset"] + row["image_size"] - 1
    answer = requests.get(
        f"{server.url}/{row['shard']}", headers={"Range": f"bytes={first}-{last}"}, timeout=10
    )
    assert sha256(answer.content).hexdigest() == row["image_sha256"]
    assert server.log[-1].sent == row["image_size"]
    with fsspec.open(str(release / row["shard"])) as file:
        file.seek(row["mask_offset"])
        assert sha256(file.read(row["mask_size"])).hexdigest() == row["mask_sha256"]


def places_of(path: Path, cells: list[bytes | None]) -> list[tuple[int, int] | None]:
    """What is found of these images in two row groups, written as a release writes them."""
    images = [None if cell is None else {"bytes": cell, "path": "x.png"} for cell in cells]
    column = pa.array(images, IMAGE)
    table = pa.table({"id": [f"row {i}" for i in range(len(cells))], "image": column})
    table = table.cast(arrow_schema(("id", "image")))
    spans: list[tuple[int, int] | None] = []
    with pq.ParquetWriter(path, table.schema, **options(table.schema)) as writer:
        for group in (table.slice(0, 3), table.slice(3)):
            start = path.stat().st_size
            writer.write_table(group)
            places = find_pictures(path, start, group)
            for row in places.to_pylist():
                pair = row["image_offset"], row["image_size"]
                spans.append(None if None in pair else pair)
    return spans


def test_pictures_are_found_among_nulls_equals_and_ones_that_share_a_page(tmp_path: Path) -> None:
    png = b"\x89PNG\r\n\x1a\n" + bytes(range(200))
    cells = [png, png, None, png[:40], png * 30, None, png * 30, png + b"x", png[:40]]
    path = tmp_path / "x.parquet"
    places = places_of(path, cells)
    data = path.read_bytes()
    assert [place and data[place[0] : sum(place)] for place in places] == cells
    starts = [place[0] for place in places if place]
    assert starts == sorted(set(starts))


def test_compressed_pictures_have_no_place_and_are_refused(tmp_path: Path) -> None:
    column = image_column([b"\x89PNG" + bytes(5000)], ["x.png"])
    table = pa.table({"image": column}).cast(arrow_schema(("image",)))
    pq.write_table(table, tmp_path / "x.parquet", compression="zstd")
    with pytest.raises(ArasError, match=r"x\.parquet: a picture is not stored plainly"):
        find_pictures(tmp_path / "x.parquet", 4, table)


def test_moving_pictures_changes_no_content_digest_and_no_row(release: Path) -> None:
    other = copy_of(release, release.parent / "other")
    shift = rows_edited(lambda rows: [row.update(image_offset=1) for row in rows])
    rewrite(other / LIGHT, shift)
    restamp(other)
    changes = compare(release, other)
    assert describe(changes) == ["the rows and columns are the same"]
    problems = violations(other)
    assert any("its image is not at byte 1 of" in problem for problem in problems)
    assert not any("content digest" in problem for problem in problems)


BROKEN = [
    ({"image_offset": 5}, "its image is not at byte 5 of synthetic/train"),
    ({"mask_size": 3}, r"its mask is not at byte \d+ of"),
    ({"mask_offset": None}, "mask_offset or mask_size is missing"),
    ({"image_size": -1}, "image_offset or image_size is missing"),
    ({"image_size": 10**9}, r"its image is not at byte \d+ of"),
    ({"shard": TEST}, "shard 'real/test-.*' is not a file of synthetic rows of its split"),
    ({"shard": "../secret"}, r"shard '\.\./secret' is not a file of synthetic rows"),
    ({"shard": None}, "shard None is not a file"),
]


@pytest.mark.parametrize(("change", "rule"), BROKEN, ids=[str(c) for c, _ in BROKEN])
def test_check_names_a_row_whose_place_is_wrong(
    release: Path, change: dict[str, Any], rule: str
) -> None:
    (release.parent / "secret").write_bytes(b"never opened")
    rewrite(release / LIGHT, rows_edited(lambda rows: rows[-1].update(change)))
    restamp(release)
    problem, *more = violations(release)
    assert more == []
    assert problem.startswith(f"{LIGHT}: synthetic/")
    assert re.search(rule, problem)


def test_an_older_release_is_checked_and_the_columns_it_lacks_are_named(release: Path) -> None:
    assert lacking_columns(release) == []
    without_columns(release, LOCATIONS)
    assert violations(release) == []
    assert lacking_columns(release) == list(LOCATIONS)
    for name in ("README.md", "croissant.json"):
        assert "image_offset" not in (release / name).read_text()


def test_a_file_that_lacks_what_others_have_is_named(release: Path) -> None:
    older = copy_of(release, release.parent / "older")
    without_columns(older, LOCATIONS)
    (release / LIGHT).write_bytes((older / LIGHT).read_bytes())
    restamp(release)
    assert f"{LIGHT}: lacks column shard, which metadata/" in "\n".join(violations(release))


def test_diff_names_the_columns_that_an_older_release_lacks(release: Path) -> None:
    older = copy_of(release, release.parent / "older")
    without_columns(older, LOCATIONS)
    changes = compare(older, release)
    assert list(changes.columns_added) == list(LOCATIONS)
    assert changes.step == "minor"
    assert "column added: `shard` (string)" in describe(changes)
    assert not changes.changed


HOSTILE = ["../outside.parquet", "/etc/hostname", "real/../../x.parquet", "C:\\x", "real\\x", ""]


@pytest.mark.parametrize("path", HOSTILE)
def test_a_manifest_that_leads_out_of_its_folder_is_refused(release: Path, path: str) -> None:
    def files(value: dict[str, Any]) -> None:
        value["configs"]["real"]["test"]["files"] = [path]

    def listed(value: dict[str, Any]) -> None:
        value["files"][0]["path"] = path

    def subset(value: dict[str, Any]) -> None:
        value["subsets"][path] = {"rows": 1, "digest": ""}

    original = read_json(release / "manifest.json")
    edits: list[Callable[[dict[str, Any]], None]] = [files, listed, subset]
    for edit in edits:
        value = read_json(release / "manifest.json")
        edit(value)
        write_json(release / "manifest.json", value)
        with pytest.raises(ArasError, match="does not lead to a file of the release"):
            read_manifest(release)
        write_json(release / "manifest.json", original)
