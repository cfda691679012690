"""Two releases compared, and the version step and changelog that follow."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from builder.cli.release import make_release
from builder.core.errors import ArasError
from builder.core.manifest import SplitFiles, read_manifest, write_manifest
from builder.land.pictures import decode_mask, encode_png
from builder.pipeline.project import Project
from builder.pipeline.stand_ins import make_project
from builder.release.changes import Changes, bump, parse_version
from builder.release.diff import compare, describe, entry, history
from builder.release.package import package
from tests.makers.damage import restamp, rewrite, rows_edited

ROWS, REAL, SHARD = 24, 12, 6


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project of 12 real and 12 synthetic rows, packaged as 0.1.0."""
    folder = tmp_path_factory.mktemp("filled")
    package(make_project(folder, ROWS, real=REAL, shard_rows=SHARD).inputs())
    return folder


@pytest.fixture
def folder(filled: Path, tmp_path: Path) -> Path:
    """A copy of it whose recipe says 0.2.0."""
    copy = tmp_path / "project"
    shutil.copytree(filled, copy)
    recipe = copy / "dataset.toml"
    recipe.write_text(recipe.read_text().replace('version = "0.1.0"', 'version = "0.2.0"'))
    return copy


def alter(
    folder: Path, stage: str, shard: str, column: str, change: Callable[[list[Any]], list[Any]]
) -> None:
    """Rewrite one column of a stage's shard."""
    store = Project(folder).store
    table = store.load(stage, shard)
    values = change(table.column(column).to_pylist())
    place = table.column_names.index(column)
    field = table.schema.field(column)
    footer = store.footer(stage, shard)
    assert footer is not None
    changed = table.set_column(place, field, pa.array(values, field.type))
    store.write(stage, shard, changed, key="another", counts=footer.counts)


def changes_of(folder: Path) -> Changes:
    package(Project(folder).inputs())
    return compare(folder / "release/0.1.0", folder / "release/0.2.0")


def test_the_version_alone_is_a_patch(folder: Path) -> None:
    changes = changes_of(folder)
    assert changes.rows == {"old": ROWS, "new": ROWS, "kept": ROWS}
    for what in (changes.added, changes.removed, changes.moved, changes.changed):
        assert what == {}
    assert (changes.step, changes.next_version) == ("patch", "0.1.1")
    assert describe(changes) == ["the rows and columns are the same"]


def grey(release: Path, *, but: str = "") -> None:
    """Write the masks as an earlier aras did; of the row ``but`` with other ids too."""

    def older(rows: list[dict[str, Any]]) -> None:
        for row in rows:
            ids = decode_mask(row["mask"]["bytes"], row["id"]).copy()
            ids[0, 0] = (ids[0, 0] + (row["id"] == but)) % 7
            row["mask"]["bytes"] = encode_png(ids)
            digests[row["id"]] = sha256(row["mask"]["bytes"]).hexdigest()

    def digested(rows: list[dict[str, Any]]) -> None:
        for row in rows:
            row["mask_sha256"] = digests[row["id"]]

    digests: dict[str, str] = {}
    for edit, configs in ((older, ("real", "synthetic")), (digested, ("metadata",))):
        for config in configs:
            for path in (release / config).glob("*.parquet"):
                rewrite(path, rows_edited(edit))
    restamp(release)


def test_masks_of_the_same_ids_in_another_encoding_are_no_changed_rows(
    filled: Path, tmp_path: Path
) -> None:
    new, old = filled / "release/0.1.0", tmp_path / "old"
    shutil.copytree(new, old)
    grey(old)
    changes = compare(old, new)
    assert (changes.changed, changes.reencoded) == ({}, {"mask": ROWS})
    assert changes.step == "minor"
    assert f"`mask`: same ids, other encoding in {ROWS} rows" in describe(changes)


def test_a_mask_with_other_ids_is_a_changed_row_in_any_encoding(
    filled: Path, tmp_path: Path
) -> None:
    new, old = filled / "release/0.1.0", tmp_path / "old"
    shutil.copytree(new, old)
    row = pq.read_table(next((new / "real").glob("*.parquet")), columns=["id"])["id"][0].as_py()
    grey(old, but=row)
    changes = compare(old, new)
    assert (changes.changed, changes.reencoded) == ({"mask": 1}, {"mask": ROWS - 1})
    assert changes.examples["mask"] == [row]


def test_a_release_differs_in_nothing_from_itself(filled: Path) -> None:
    release = filled / "release/0.1.0"
    changes = compare(release, release)
    assert (changes.step, changes.next_version, changes.texts) == ("none", "0.1.0", [])


def test_other_words_are_a_patch_and_are_counted(folder: Path) -> None:
    def reworded(cells: list[Any]) -> list[Any]:
        return [{**cells[0], "text": "Other words."}, *cells[1:]]

    alter(folder, "caption-full", "real-00000", "caption_full", reworded)
    changes = changes_of(folder)
    assert changes.changed == {"captions": 1}
    assert len(changes.examples["captions"]) == 1
    assert changes.step == "patch"
    assert "`captions` changed in 1 row" in describe(changes)


@pytest.mark.parametrize(
    ("changed", "step"),
    [
        (["captions", "caption_scores"], "patch"),  # the scores follow from the texts
        (["caption_scores"], "minor"),  # another lexicon
        (["mask_agreement", "realism", "sharpness", "nearest_real_ratio", "flags"], "minor"),
        (["captions", "caption_scores", "realism"], "minor"),
        (["realism", "mask_sha256"], "major"),
    ],
)
def test_the_step_is_the_largest_that_a_changed_column_asks_for(
    changed: list[str], step: str
) -> None:
    rows = {"old": 9, "new": 9, "kept": 9}
    assert Changes("1.0.0", "1.0.1", rows, changed=dict.fromkeys(changed, 3)).step == step


def test_another_judgement_is_a_minor_step(folder: Path) -> None:
    alter(folder, "segment", "synthetic-a-00001", "mask_agreement", lambda v: [0.5] * len(v))
    changes = changes_of(folder)
    assert changes.changed == {"mask_agreement": SHARD}
    assert (changes.step, changes.next_version) == ("minor", "0.2.0")


def test_other_pixels_under_the_same_id_are_a_major_step(folder: Path) -> None:
    def swapped(cells: list[Any]) -> list[Any]:
        first, second, *rest = cells
        return [
            {**first, "bytes": second["bytes"]},
            {**second, "bytes": first["bytes"]},
            *rest,
        ]

    alter(folder, "tiles", "real-00001", "image", swapped)
    changes = changes_of(folder)
    assert changes.changed == {"image": 2}
    assert (changes.step, changes.next_version) == ("major", "0.2.0")


def test_rows_moved_between_splits_are_a_major_step(folder: Path) -> None:
    before = Project(folder).store.load("split", "real-00000").column("split").to_pylist()
    alter(folder, "split", "real-00000", "split", lambda v: [2 if v[0] != 2 else 1, *v[1:]])
    changes = changes_of(folder)
    assert sum(changes.moved.values()) == 1
    assert (before[0] is not None, changes.removed, changes.step) == (True, {}, "major")


def test_rows_added_are_a_minor_step(folder: Path, tmp_path: Path) -> None:
    older = tmp_path / "older"
    shutil.copytree(folder, older)
    store = Project(older).store
    for stage in store.stages():
        if "synthetic-a-00001" in store.shards(stage):
            store.remove(stage, "synthetic-a-00001")
    package(Project(older).inputs())
    changes = compare(older / "release/0.2.0", folder / "release/0.1.0")
    assert changes.added == {"synthetic/train": SHARD}
    assert changes.step == "minor"


def test_a_caption_stream_that_is_gone_is_named_and_a_major_step(folder: Path) -> None:
    recipe = folder / "dataset.toml"
    text = recipe.read_text()
    less = re.sub(r"\[captions\.absence\]\n[^\[]*", "", text)
    assert less != text
    recipe.write_text(less)
    changes = changes_of(folder)
    assert changes.streams_removed == ["absence"]
    assert (changes.step, changes.next_version) == ("major", "0.2.0")
    assert "caption stream removed: `absence`" in describe(changes)
    line = entry(changes, "2026-02-01").splitlines()[2]
    assert line == "- since 0.1.0, a major step (MINOR before 1.0.0)"
    back = compare(folder / "release/0.2.0", folder / "release/0.1.0")
    assert back.streams_added == ["absence"]
    assert back.step == "minor"
    assert "caption stream added: `absence`" in describe(back)


@pytest.mark.parametrize(
    ("part", "rows", "digest", "step"),
    [
        ("embeddings/test", 6, "a", "none"),
        ("embeddings/test", 6, "b", "minor"),
        ("embeddings/test", 5, "b", "major"),
        ("controls/test", 6, "b", "patch"),
        ("controls/test", 5, "b", "major"),
    ],
)
def test_vectors_and_control_captions_are_compared_by_what_the_manifests_tell(
    filled: Path, tmp_path: Path, part: str, rows: int, digest: str, step: str
) -> None:
    config, split = part.split("/")
    for name, content in (("old", (6, "a")), ("new", (rows, digest))):
        shutil.copytree(filled / "release/0.1.0", tmp_path / name)
        manifest = read_manifest(tmp_path / name)
        entry = SplitFiles(rows=content[0], bytes=1, files=(), content_sha256=content[1] * 64)
        manifest.configs[config] = {split: entry}
        write_manifest(tmp_path / name, manifest)
    changes = compare(tmp_path / "old", tmp_path / "new")
    assert changes.step == step
    assert changes.beside == ({} if step == "none" else {part: {"old": 6, "new": rows}})
    line = f"`{part}` has other content: {rows} rows, it had 6"
    assert (line in describe(changes)) == (step != "none")


def test_rows_that_come_go_and_move_are_told_by_part(folder: Path, filled: Path) -> None:
    store = Project(folder).store
    for stage in store.stages():
        if "synthetic-a-00001" in store.shards(stage):
            store.remove(stage, "synthetic-a-00001")
    before = store.load("split", "real-00000").column("split").to_pylist()
    alter(folder, "split", "real-00000", "split", lambda v: [2 if v[0] != 2 else 1, *v[1:]])
    changes = changes_of(folder)
    assert changes.removed == {"synthetic/train": SHARD}
    assert changes.added == {}
    names = ("train", "validation", "test")
    to = "test" if before[0] != 2 else "validation"
    assert changes.moved == {f"real/{names[before[0]]} → real/{to}": 1}
    assert changes.step == "major"
    back = compare(folder / "release/0.2.0", filled / "release/0.1.0")
    assert back.added == {"synthetic/train": SHARD}


def test_a_column_less_is_a_major_step_and_one_more_a_minor(filled: Path, tmp_path: Path) -> None:
    older, newer = filled / "release/0.1.0", tmp_path / "0.2.0"
    shutil.copytree(older, newer)
    for path in newer.glob("*/*-of-*.parquet"):
        pq.write_table(pq.read_table(path).drop_columns(["saturated"]), path)
    changes = compare(older, newer)
    assert changes.columns_removed == {"saturated": "float"}
    assert changes.step == "major"
    back = compare(newer, older)
    assert back.columns_added == {"saturated": "float"}
    assert back.step == "minor"


def test_other_classes_under_the_same_numbers_are_a_major_step(
    filled: Path, tmp_path: Path
) -> None:
    older, newer = filled / "release/0.1.0", tmp_path / "0.2.0"
    shutil.copytree(older, newer)
    for path in newer.glob("*/*-of-*.parquet"):
        table = pq.read_table(path)
        metadata = table.schema.metadata
        renamed = metadata[b"huggingface"].replace(b'"Shrub"', b'"Scrub"')
        pq.write_table(table.replace_schema_metadata({**metadata, b"huggingface": renamed}), path)
    changes = compare(older, newer)
    was, now = changes.columns_changed["dominant"]
    assert was.startswith("class: Tree, Shrub, ")
    assert now.startswith("class: Tree, Scrub, ")
    assert changes.step == "major"


def test_pictures_without_digests_are_told_and_a_patch_at_least(
    filled: Path, tmp_path: Path
) -> None:
    release, bare = filled / "release/0.1.0", tmp_path / "0.1.0"
    shutil.copytree(release, bare)
    for path in bare.glob("*/*-of-*.parquet"):
        held = [
            column
            for column in ("image_sha256", "mask_sha256")
            if column in pq.read_schema(path).names
        ]
        pq.write_table(pq.read_table(path).drop_columns(held), path)
    changes = compare(bare, release)
    assert changes.not_compared == ["image", "mask"]
    assert "`image` was not compared: a release has no digests of it" in describe(changes)
    uncompared = Changes(old="0.1.0", new="0.1.0", rows={}, not_compared=["image"])
    assert uncompared.step == "patch"


def test_an_id_that_stands_twice_is_named(filled: Path, tmp_path: Path) -> None:
    release, twice = filled / "release/0.1.0", tmp_path / "0.1.0"
    shutil.copytree(release, twice)
    shard = next((twice / "metadata").glob("train-*.parquet"))
    table = pq.read_table(shard)
    pq.write_table(pa.concat_tables([table, table.slice(0, 1)]), shard)
    with pytest.raises(ArasError, match=r"an id occurs twice; `aras check .*` names it"):
        compare(release, twice)


def test_what_cannot_be_compared_is_told(filled: Path, tmp_path: Path) -> None:
    release = filled / "release/0.1.0"
    with pytest.raises(ArasError, match=r"manifest\.json"):
        compare(release, tmp_path)
    damaged = tmp_path / "damaged"
    shutil.copytree(release, damaged)
    shard = next((damaged / "metadata").glob("train-*.parquet"))
    shard.write_bytes(shard.read_bytes()[:-9])
    with pytest.raises(ArasError, match=r"00001\.parquet: pyarrow \S+ cannot decode it"):
        compare(release, damaged)
    shard.unlink()
    with pytest.raises(ArasError, match=r"\.parquet: missing; `aras check"):
        compare(release, damaged)


def test_an_entry_of_the_changelog_and_the_history(folder: Path) -> None:
    alter(folder, "segment", "real-00000", "mask_agreement", lambda v: [0.5] * len(v))
    changes = changes_of(folder)
    text = entry(changes, "2026-02-01")
    assert text.startswith("## 0.2.0 (2026-02-01)\n\n- since 0.1.0, a minor step\n")
    release = folder / "release/0.2.0"
    assert [entry.version for entry in history(release, read_manifest(release))] == [
        "0.2.0",
        "0.1.0",
    ]
    assert f"`mask_agreement` changed in {SHARD} rows" in (release / "CHANGELOG.md").read_text()


def test_the_command_prints_an_entry_a_version_or_one_object(filled: Path) -> None:
    def run(*options: str) -> str:
        release = "release/0.1.0"
        command = [sys.executable, "-m", "builder", "-C", str(filled), "diff", release, release]
        ended = subprocess.run(
            [*command, *options], capture_output=True, text=True, check=True, env=os.environ
        )
        return ended.stdout

    assert run().startswith("## 0.1.0 (2026-01-31)")
    assert run("--bump") == "0.1.0\n"
    assert json.loads(run("--json"))["step"] == "none"


@pytest.mark.parametrize(
    ("step", "after"),
    [("none", "1.2.3"), ("patch", "1.2.4"), ("minor", "1.3.0"), ("major", "2.0.0")],
)
def test_versions_step_as_semver_has_it(step: str, after: str) -> None:
    assert bump("1.2.3", step) == after


def test_before_1_0_0_a_major_step_raises_minor() -> None:
    assert bump("0.2.3", "major") == bump("0.2.3", "minor") == "0.3.0"


@pytest.mark.parametrize(("version", "warned"), [("0.1.1", True), ("0.2.0", False)])
def test_a_version_that_steps_less_than_the_changes_imply_is_told(
    folder: Path, version: str, warned: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = folder / "dataset.toml"
    recipe.write_text(recipe.read_text().replace('"0.2.0"', f'"{version}"'))
    alter(folder, "segment", "real-00000", "mask_agreement", lambda v: [0.5] * len(v))
    for _ in range(2):  # written, and there already
        make_release(Project(folder))
        warning = "WARNING: the changes since the previous release require version 0.2.0 or later"
        assert (warning in capsys.readouterr().err) == warned


@pytest.mark.parametrize("text", ["1.2", "v1.2.3", "1.2.3-rc1", ""])
def test_what_is_no_version_is_named(text: str) -> None:
    with pytest.raises(ArasError, match=r"MAJOR\.MINOR\.PATCH"):
        parse_version(text)
