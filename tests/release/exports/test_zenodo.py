"""A release in the official layout: what code written against the official files expects."""

import csv
import hashlib
import os
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from builder.core.arrow import table_digests
from builder.core.errors import ArasError
from builder.core.manifest import read_manifest
from builder.land.classes import CLASSES, PALETTE
from builder.official.names import HEADER, STREAMS
from builder.pipeline.project import Project
from builder.release.exports import Exported, Options, export
from tests.makers.official import Layout, official, release

CARRIED = (
    *("id", "split", "image", "mask", "pixels", "percent", "dominant", "gen_layout", "captions"),
    *("crs", "transform", "longitude", "latitude"),
)
"""Columns that the official layout can carry."""


def export_zenodo(source: Path, to: Path, zipped: bool, streams: dict[str, str]) -> Exported:
    return export(source, to, "zenodo", Options(zipped, streams))


@pytest.fixture(scope="module")
def layout() -> Layout:
    files = official(train=3, val=1, test=2, synth=3, generated=1)
    files.line("0001")[-1] = "ERROR: Failed to generate caption"
    return files


@pytest.fixture(scope="module")
def source(layout: Layout, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return release(layout, tmp_path_factory.mktemp("source"))


@pytest.fixture(scope="module")
def folder(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    to = tmp_path_factory.mktemp("exported") / "official"
    export_zenodo(source, to, False, {})
    return to


def table(path: Path) -> pa.Table:
    """All rows of a release, ordered by id."""
    configs = read_manifest(path).configs
    files = [
        name
        for kind in ("real", "synthetic")
        for entry in configs.get(kind, {}).values()
        for name in entry.files
    ]
    return pa.concat_tables([pq.read_table(path / name) for name in files]).sort_by("id")


def carried(path: Path) -> dict[str, str]:
    return table_digests(table(path).select(CARRIED))


def test_the_files_are_those_that_were_imported(layout: Layout, folder: Path) -> None:
    for path, data in layout.files.items():
        assert (folder / path).read_bytes() == data, path
    written = {picture.relative_to(folder).as_posix() for picture in folder.rglob("*.png")}
    assert written == set(layout.files)


def test_captions_csv_is_the_one_that_was_imported(layout: Layout, folder: Path) -> None:
    assert (folder / "captions.csv").read_bytes() == layout.captions


def test_captions_csv_has_14_columns_lf_ends_and_percentages_that_sum_to_100(
    folder: Path,
) -> None:
    data = (folder / "captions.csv").read_bytes()
    assert b"\r" not in data
    header, *lines = csv.reader(data.decode().splitlines())
    assert tuple(header) == HEADER
    assert len(header) == 14
    assert {line[1] for line in lines} == {"train", "val", "test", "synth"}
    for line in lines:
        assert sum(map(int, line[2:9])) == 100


def test_a_per_colour_loop_as_users_write_it_decodes_the_masks(folder: Path) -> None:
    with (folder / "class_percentages" / "train.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            mask = np.array(Image.open(folder / "train" / "masks" / row["filename"]))
            assert mask.shape == (256, 256, 3)
            counts = [(mask == colour).all(axis=-1).sum() for colour in PALETTE]
            assert sum(counts) == 256 * 256
            for name, count in zip(CLASSES, counts, strict=True):
                assert abs(100 * count / 256**2 - int(row[name])) < 1


def test_import_of_export_is_what_was_exported(source: Path, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "again").mkdir()
    exported = Layout({}, [])
    for path in folder.rglob("*.png"):
        exported.files[path.relative_to(folder).as_posix()] = path.read_bytes()
    exported.table = (folder / "captions.csv").read_bytes()
    again = release(exported, tmp_path / "again")
    assert carried(again) == carried(source)


@pytest.mark.parametrize("zipped", [False, True])
def test_streams_of_a_release_from_maps_come_back_under_their_names_with_their_provenance(
    project: Project, tmp_path: Path, zipped: bool
) -> None:
    packaged = project.releases / "0.1.0"
    chosen = {"text_qwen3-4b": "composition", "vision_gemma3-4b": "full"}
    export_zenodo(packaged, tmp_path / "out", zipped, chosen)
    (tmp_path / "again").mkdir()
    run = project.recipe.generator.run
    added = "\n[tiles]\nsize = 64\n"
    again = release(Layout(), tmp_path / "again", added=added, sources=["../out"], run=run)
    before = {
        row["id"]: row["captions"] for row in table(packaged).select(["id", "captions"]).to_pylist()
    }
    after = {
        row["id"]: row["captions"] for row in table(again).select(["id", "captions"]).to_pylist()
    }
    assert after == {
        row_id: [
            {**caption, "seed": None}
            for name in chosen.values()
            for caption in captions
            if caption["stream"] == name
        ]
        for row_id, captions in before.items()
    }
    assert {caption["model"] for row in after.values() for caption in row} == {"aras-template"}


def test_a_column_without_a_stream_is_no_stream_when_it_comes_back(tmp_path: Path) -> None:
    layout = official(train=1, val=0, test=1, synth=1)
    (tmp_path / "plain").mkdir()
    export_zenodo(release(layout, tmp_path / "plain", captions=False), tmp_path / "out", False, {})
    (tmp_path / "again").mkdir()
    again = release(Layout(), tmp_path / "again", sources=["../out"])
    assert table(again).column("captions").to_pylist() == [[]] * 3


def test_zips_hold_the_same_files_and_their_sums(
    source: Path, folder: Path, tmp_path: Path
) -> None:
    exported = export_zenodo(source, tmp_path / "zips", True, {})
    assert exported.rows == {"train": 3, "val": 1, "test": 2, "synth": 3, "generated": 1}
    for split in ("train", "val", "test", "synth"):
        with zipfile.ZipFile(tmp_path / "zips" / f"{split}.zip") as archive:
            for name in archive.namelist():
                wanted = (folder / name.removeprefix("ARAS400k/")).read_bytes()
                assert archive.read(name) == wanted
    sums = (tmp_path / "zips" / "MD5SUMS").read_text().splitlines()
    assert len(sums) == 4
    for line in sums:
        value, name = line.split("  ")
        data = (tmp_path / "zips" / name).read_bytes()
        assert hashlib.md5(data, usedforsecurity=False).hexdigest() == value


def test_equal_releases_give_equal_zips(source: Path, tmp_path: Path) -> None:
    for name in ("a", "b"):
        export_zenodo(source, tmp_path / name, True, {})
    for path in (tmp_path / "a").rglob("*"):
        if path.is_file():
            assert (
                path.read_bytes()
                == (tmp_path / "b" / path.relative_to(tmp_path / "a")).read_bytes()
            )


def test_a_stream_may_fill_another_column(source: Path, tmp_path: Path) -> None:
    export_zenodo(source, tmp_path / "out", False, {"vision_gemma3-4b": "text_qwen3-4b"})
    with (tmp_path / "out" / "captions.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert all(row["vision_gemma3-4b"] == row["text_qwen3-4b"] for row in rows)


def test_a_stream_that_a_release_does_not_have_is_told_in_every_row(tmp_path: Path) -> None:
    layout = official(train=1, val=0, test=1, synth=1)
    (tmp_path / "plain").mkdir()
    plain = release(layout, tmp_path / "plain", captions=False)
    exported = export_zenodo(plain, tmp_path / "out", False, {})
    assert set(exported.streams.values()) == {None}
    with (tmp_path / "out" / "captions.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            for stream in STREAMS:
                assert row[stream] == f"ERROR: this release has no stream {stream}"


@pytest.mark.parametrize(
    ("streams", "message"),
    [
        ({"text": "text_qwen3-4b"}, "text: not a stream of the official layout"),
        ({"text_qwen3-4b": "full"}, "has no stream full; it has hybrid"),
    ],
)
def test_a_stream_that_neither_side_has_is_an_error(
    source: Path, tmp_path: Path, streams: dict[str, str], message: str
) -> None:
    with pytest.raises(ArasError, match=message):
        export_zenodo(source, tmp_path / "out", False, streams)
    assert not (tmp_path / "out").exists()


def test_what_is_there_already_stays(source: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("mine")
    with pytest.raises(ArasError, match="already exists; not changed"):
        export_zenodo(source, tmp_path / "out", False, {})
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["mine.txt"]


def test_a_file_that_is_cut_short_is_named_and_nothing_written(
    source: Path, tmp_path: Path
) -> None:
    damaged = tmp_path / "damaged"
    shutil.copytree(source, damaged)
    shard = next((damaged / "real").glob("test-*.parquet"))
    os.truncate(shard, shard.stat().st_size - 100)
    with pytest.raises(ArasError, match=rf"{shard.name}: pyarrow \S+ cannot decode it"):
        export_zenodo(damaged, tmp_path / "to", False, {})
    assert not (tmp_path / "to").exists()


def test_a_directory_without_a_release_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ArasError, match="not a release directory"):
        export_zenodo(tmp_path, tmp_path / "out", False, {})


def test_exact_percentages_are_written_where_others_were_published(tmp_path: Path) -> None:
    layout = official(train=1, val=0, test=1, synth=0)
    line = layout.lines[0]
    exact, line[2:9] = line[2:9], ["100", *["0"] * 6]
    (tmp_path / "ds").mkdir()
    export_zenodo(release(layout, tmp_path / "ds"), tmp_path / "out", False, {})
    with (tmp_path / "out" / "captions.csv").open(newline="") as file:
        row = next(
            line_of_csv
            for line_of_csv in csv.DictReader(file)
            if line_of_csv["filename"] == line[0]
        )
    assert [row[name] for name in CLASSES] == exact
