"""A row that a stage cannot make fails alone: its shard is written, later stages skip it, the next
run tries it alone, and a release leaves it out."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from builder.captions.stage import Caption
from builder.core.engine import Engine
from builder.core.manifest import read_manifest
from builder.core.store import Store
from builder.land.columns import CAPTION, SPLITS
from builder.land.pictures import encode_png, image_bytes, image_column
from builder.models import segmenter
from builder.models.weights import Weights
from builder.pipeline.preview import preview
from builder.pipeline.project import Project
from builder.pipeline.run import run_steps
from builder.quality.duplicates import Duplicates, DuplicatesSection
from builder.quality.embed import Embed, Encode
from builder.quality.memorize import MemorizationSection, Memorize, Turned
from builder.quality.pixels import Quality
from builder.quality.realism import Realism
from builder.quality.segment import Segment
from builder.release.check import violations
from builder.release.package import package
from builder.release.rows import metadata
from builder.scores.stage import Score
from builder.steps.plan import Summary, plan, run
from builder.steps.stage import Stage, shards
from tests.makers.stages import by_default
from tests.makers.tiles import make_store
from tests.makers.tiny_clip import tiny_clip

SHARD = "real-X-000"
BROKEN = "real/001"


def spoil(store: Store, column: str, change: Callable[[bytes], bytes]) -> None:
    """Write the shard's tiles again with the picture of `BROKEN` changed."""
    table = store.load("tiles", SHARD)
    data = image_bytes(table.column(column))
    ids = table.column("id").to_pylist()
    data[ids.index(BROKEN)] = change(data[ids.index(BROKEN)])
    place = table.schema.get_field_index(column)
    table = table.set_column(place, column, image_column(data, ids))
    store.write("tiles", SHARD, table, key=f"{column} {hash(tuple(data))}")


def damaged(data: bytes) -> bytes:
    """Cut in its samples."""
    return data[: len(data) // 2]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return make_store(tmp_path / "work", ["train", "train", "test", "train"])


def values(store: Store, stage: Stage) -> dict[str, list[Any]]:
    table = store.read(SHARD, ("id", *stage.adds))
    ids = table.column("id").to_pylist()
    return {
        row: [table.column(name)[i].as_py() for name in stage.adds] for i, row in enumerate(ids)
    }


def fails_alone(store: Store, stage: Stage) -> Summary:
    summary = run(stage, store, Engine())
    assert not summary.failed
    assert list(summary.failed_rows) == [BROKEN]
    made = values(store, stage)
    assert all(value is None for value in made.pop(BROKEN))
    assert len(made) == 3
    assert all(row[0] is not None for row in made.values())
    return summary


def test_an_image_that_is_cut_short_fails_its_row_of_the_measures(store: Store) -> None:
    spoil(store, "image", damaged)
    summary = fails_alone(store, Quality("real"))
    assert "not a whole PNG" in summary.failed_rows[BROKEN]
    assert any(BROKEN in line for line in summary.lines())
    assert summary.as_json()["failed_rows"] == summary.failed_rows


@pytest.mark.parametrize("change", [damaged, lambda data: encode_png(np.zeros((8, 8), np.uint8))])
def test_a_mask_that_is_broken_or_small_fails_its_row_before_any_training(
    store: Store, change: Callable[[bytes], bytes]
) -> None:
    spoil(store, "mask", change)
    reason = fails_alone(store, Quality("real")).failed_rows[BROKEN]
    assert "not a whole PNG" in reason or "its mask (8, 8)" in reason


def test_only_failed_rows_are_tried_again(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = make_store(store.root.parent / "whole", ["train", "train", "test", "train"])
    run(Quality("real"), whole, Engine())
    spoil(store, "image", damaged)
    fails_alone(store, Quality("real"))
    tried: list[int] = []
    usual = Quality.open

    def counting(self: Quality, *given: Any) -> Any:
        make = usual(self, *given)
        return lambda table: (tried.append(table.num_rows), make(table))[1]

    monkeypatch.setattr(Quality, "open", counting)
    todo = plan(Quality("real"), Store(store.root))
    assert list(todo.failed) == [BROKEN]
    fails_alone(Store(store.root), Quality("real"))
    assert tried == [1]
    assert values(store, Quality("real")).keys() == values(whole, Quality("real")).keys()
    rows, expected = (values(some, Quality("real")) for some in (store, whole))
    assert {row: rows[row] for row in rows if row != BROKEN} == {
        row: expected[row] for row in expected if row != BROKEN
    }


def test_a_mended_picture_gives_the_columns_of_a_store_that_was_never_broken(store: Store) -> None:
    stages = [Quality("real"), by_default(Duplicates, DuplicatesSection())]
    expected = {stage.name: run(stage, store, Engine()).digest for stage in stages}
    original = store.load("tiles", SHARD)
    spoil(store, "image", damaged)
    for stage in stages:
        assert not run(stage, store, Engine()).failed
    store.write("tiles", SHARD, original, key="k")
    assert {stage.name: run(stage, store, Engine()).digest for stage in stages} == expected


def test_stages_after_it_are_not_handed_a_failed_row(store: Store) -> None:
    spoil(store, "image", damaged)
    run(Quality("real"), store, Engine())
    seen: list[str] = []
    for _, table in store.scan([SHARD], ("phash",)):
        seen += map(str, table.column("phash").to_pylist())
    assert len(seen) == 3
    assert "None" not in seen
    duplicates = by_default(Duplicates, DuplicatesSection())
    assert not run(duplicates, store, Engine()).failed
    assert store.failed(SHARD, ["phash"]).keys() == {BROKEN}
    assert not store.failed(SHARD, ["image"])


@pytest.mark.parametrize("column", ["image", "mask"])
def test_a_broken_picture_fails_its_row_of_the_segmenters_view(
    store: Store, project: Project, column: str
) -> None:
    spoil(store, column, damaged)
    segment = Segment(model=project.models / "segmenter", batch=3)
    fails_alone(store, segment)


@pytest.mark.parametrize("column", ["image", "mask"])
def test_a_broken_picture_does_not_reach_what_is_usual(store: Store, column: str) -> None:
    spoil(store, column, damaged)
    fails_alone(store, Quality("real"))
    assert not run(Realism(), store, Engine()).failed
    assert store.failed(SHARD, ["realism"]).keys() == {BROKEN}


def test_a_mask_of_another_size_fails_its_row_of_the_segmenters_view(
    store: Store, project: Project
) -> None:
    spoil(store, "mask", lambda _: encode_png(np.zeros((32, 64), np.uint8)))
    summary = fails_alone(store, Segment(model=project.models / "segmenter"))
    assert "differ in size" in summary.failed_rows[BROKEN]


def test_features_that_are_not_numbers_fail_their_row(
    store: Store, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual = segmenter.look
    order = iter(range(100))

    def broken(model: Any, images: Any) -> Any:
        classes, features = usual(model, images)
        return classes, np.where([next(order) == 1], np.nan, features)

    monkeypatch.setattr(segmenter, "look", broken)
    summary = fails_alone(store, Segment(model=project.models / "segmenter", batch=1))
    assert "not finite" in summary.failed_rows[BROKEN]


def test_a_broken_test_tile_fails_alone_where_copies_are_sought(
    store: Store, project: Project
) -> None:
    model = project.models / "segmenter"
    splits = pa.table({"split": pa.array([0, 2, 2, 0], pa.int64())})
    store.write("split", SHARD, splits, key="k")
    spoil(store, "image", damaged)
    for stage in (Quality("real"), Segment(model=model), Turned("real", model)):
        assert list(run(stage, store, Engine()).failed_rows) == [BROKEN]
    drawn = store.load("tiles", SHARD)
    store.write("layouts", "synthetic-a-00000", drawn, key="k")
    for stage in (Quality("synthetic"), Segment(model=model), Turned("synthetic", model)):
        assert BROKEN in run(stage, store, Engine()).failed_rows
    summary = run(by_default(Memorize, MemorizationSection()), store, Engine())
    assert not summary.failed
    assert summary.rows == 4


def test_a_broken_mask_fails_its_row_of_the_caption_scores(store: Store) -> None:
    texts = [{"text": "Forest.", "error": None}] * 4
    store.write("caption-a", SHARD, pa.table({"caption_a": pa.array(texts, CAPTION)}), key="k")
    spoil(store, "mask", damaged)
    fails_alone(store, Score("a"))


def test_a_broken_picture_is_an_error_of_its_caption(store: Store) -> None:
    spoil(store, "mask", damaged)
    summary = run(Caption(stream="a"), store, Engine())
    cells = store.read(SHARD, ("caption_a",)).column(0).to_pylist()
    assert (summary.failed, summary.row_errors) == ({}, 1)
    assert "not a whole PNG" in cells[1]["error"]
    assert all(cell["text"] for i, cell in enumerate(cells) if i != 1)


@pytest.mark.parametrize("stage", ["embed", "encode"])
def test_a_broken_picture_fails_its_row_of_the_vectors(
    store: Store, stage: str, tmp_path: Path
) -> None:
    spoil(store, "image", damaged)
    folder = tiny_clip(tmp_path / "clip", ["trees"])
    if stage == "embed":
        fails_alone(store, Embed(splits=SPLITS, model=str(folder)))
    else:
        fails_alone(store, Encode("clip", Weights("clip", path=folder), 2))


@pytest.mark.parametrize("column", ["image", "mask"])
def test_a_build_ends_without_the_broken_row_and_says_so(
    project: Project, tmp_path: Path, column: str
) -> None:
    """Pictures that were sound when they were stored: the build goes through, and `aras status`,
    the manifest and the card count the row."""
    shutil.copytree(project.directory, tmp_path / "copy", ignore=shutil.ignore_patterns("release"))
    copied = Project(tmp_path / "copy")
    shard = shards(copied.store, ("real",))[0]
    table = copied.store.load("tiles", shard)
    ids, data = table.column("id").to_pylist(), image_bytes(table.column(column))
    data[0] = damaged(data[0])
    place = table.schema.get_field_index(column)
    table = table.set_column(place, column, image_column(data, ids))
    footer = copied.store.footer("tiles", shard)
    assert footer is not None
    copied.store.write("tiles", shard, table, key=footer.key, counts=footer.counts)
    steps = copied.steps()
    run_steps(copied, steps, copied.engine())
    release = package(copied.inputs()).release
    manifest = read_manifest(release)
    assert manifest.facts.census.left_out["real"]["failed"] == 1
    assert "1 real tile that could not be read or judged" in (release / "README.md").read_text()
    assert violations(release) == []
    kept = {row for _, table in metadata(release, ["id"]) for row in table["id"].to_pylist()}
    assert ids[0] not in kept
    failing = {step.stage: step for step in preview(copied, steps) if step.failed}
    assert list(failing["quality-real"].failed) == [ids[0]]
    assert f"1 failed row to try again, first {ids[0]}" in str(failing["quality-real"])
