"""Packaging: all or nothing, the same bytes again, and a release that `datasets` simply opens."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from builder.core import manifest
from builder.core.errors import ArasError
from builder.core.files import sha256_file
from builder.land import columns
from builder.land.classes import CLASSES, count_pixels
from builder.land.columns import CONTROLS, SPLITS, arrow_schema, features, names_of
from builder.pipeline.project import Project
from builder.pipeline.stand_ins import make_project
from builder.release.check import violations
from builder.release.package import package
from builder.steps.plan import plan
from builder.steps.stage import Stage, shards
from tests.makers.project import RECIPE

ROOT = Path(__file__).parents[2]


@pytest.fixture
def release(project: Project) -> Path:
    return project.releases / "0.1.0"


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where `datasets` keeps what it prepares."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    datasets.disable_progress_bars()
    yield tmp_path / "cache"
    datasets.enable_progress_bars()


@pytest.fixture
def copied(project: Project, tmp_path: Path) -> Project:
    """The built project without its release."""
    ignore = shutil.ignore_patterns("release", "inputs", ".cache")
    shutil.copytree(project.directory, tmp_path / "copy", ignore=ignore)
    return Project(tmp_path / "copy")


def splits_of(project: Project, kind: str) -> dict[str, str | None]:
    """id → split name of every row in the store."""
    return {
        row["id"]: None if row["split"] is None else SPLITS[row["split"]]
        for shard in shards(project.store, (kind,))
        for row in project.store.read(shard, ("id", "split")).to_pylist()
    }


def files_of(release: Path) -> dict[str, str]:
    return {
        p.relative_to(release).as_posix(): sha256_file(p) for p in release.rglob("*") if p.is_file()
    }


def test_a_new_score_makes_the_score_stages_stale_and_is_never_packaged_as_nulls(
    project: Project, copied: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    wider = pa.struct([*columns.CAPTION_SCORE, pa.field("humour", pa.float32())])
    monkeypatch.setitem(columns._BY_PREFIX, columns.SCORE_PREFIX, wider)
    stale = {
        step.name
        for step in project.steps()
        if isinstance(step, Stage) and plan(step, project.store).stale
    }
    assert stale == {f"score-{stream}" for stream in copied.streams()}
    with pytest.raises(ArasError, match=r"column score_.* has a type of an earlier aras"):
        package(copied.inputs())
    assert not (copied.releases / "0.1.0").exists()


def test_a_release_holds_every_row_with_a_split_and_drops_those_set_aside(
    project: Project, release: Path
) -> None:
    configs = manifest.read_manifest(release).configs
    for kind in ("real", "synthetic"):
        expected = splits_of(project, kind)
        for split, entry in configs[kind].items():
            packaged = [
                row
                for name in entry.files
                for row in pq.read_table(release / name, columns=["id"]).column("id").to_pylist()
            ]
            assert packaged == [row for row, where in expected.items() if where == split]
            assert entry.rows == len(packaged) > 0
    assert None in splits_of(project, "real").values()


def test_augmented_lists_files_of_the_others_and_copies_nothing(release: Path) -> None:
    configs = manifest.read_manifest(release).configs
    assert not (release / "augmented").exists()
    assert configs["augmented"]["train"].files == (
        *configs["real"]["train"].files,
        *configs["synthetic"]["train"].files,
    )
    for split in ("validation", "test"):
        own, again = configs["real"][split], configs["augmented"][split]
        assert (again.rows, again.bytes, again.files) == (own.rows, own.bytes, own.files)


def test_a_release_without_synthetic_rows_has_no_config_augmented(tmp_path: Path) -> None:
    alone = make_project(tmp_path, 6, real=6, shard_rows=6)
    release = package(alone.inputs()).release
    assert list(manifest.read_manifest(release).configs) == ["real", "metadata"]
    for name in ("README.md", "croissant.json", "manifest.json"):
        assert "augmented" not in (release / name).read_text(encoding="utf-8")
    problems = [line for line in violations(release) if "README.md" in line or "config" in line]
    assert problems == []


def test_every_footer_carries_the_published_schema_and_features(release: Path) -> None:
    paths = sorted(release.glob("*/*-of-*.parquet"))
    assert len(paths) == 8
    for path in paths:
        names = names_of(path.parent.name)
        schema = pq.read_schema(path)
        assert schema.equals(arrow_schema(names))
        assert datasets.Features.from_arrow_schema(schema) == features(names)


def test_packaging_twice_gives_the_same_bytes(copied: Project, release: Path) -> None:
    packaged = package(copied.inputs())
    assert packaged.is_new
    assert files_of(copied.releases / "0.1.0") == files_of(release)


def test_packaging_again_leaves_the_release_alone(project: Project, release: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in release.rglob("*")}
    packaged = package(project.inputs())
    assert not packaged.is_new
    assert packaged.rows["real"]["train"] > 0
    assert before == {path: path.stat().st_mtime_ns for path in release.rglob("*")}


def test_other_content_under_the_same_version_is_refused_and_nothing_changes(
    copied: Project,
) -> None:
    package(copied.inputs())
    before = files_of(copied.releases)
    changed = RECIPE.replace("The testers", "Somebody else")
    (copied.directory / "dataset.toml").write_text(changed)
    with pytest.raises(ArasError, match=r"with other content.*Raise version in \[dataset\]"):
        package(Project(copied.directory).inputs())
    assert files_of(copied.releases) == before
    raised = changed.replace('name = "tiny"', 'name = "tiny"\nversion = "0.2.0"')
    (copied.directory / "dataset.toml").write_text(raised)
    assert package(Project(copied.directory).inputs()).is_new
    assert sorted(p.name for p in copied.releases.iterdir()) == ["0.1.0", "0.2.0"]


@pytest.mark.parametrize("moment", ["DataWriter.close", "write_cards"])
def test_a_kill_in_the_middle_leaves_no_release_and_the_next_run_makes_it(
    copied: Project, release: Path, moment: str
) -> None:
    code = (
        "import os, signal, sys, pathlib\n"
        "from builder.pipeline.project import Project\n"
        "from builder.release import package\n"
        f"package.{moment} = lambda *_: os.kill(os.getpid(), signal.SIGKILL)\n"
        "package.package(Project(pathlib.Path(sys.argv[1])).inputs())\n"
    )
    command = [sys.executable, "-c", code, str(copied.directory)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, env=environment, capture_output=True, timeout=200)
    assert done.returncode == -signal.SIGKILL, done.stderr
    leftovers = list(copied.releases.iterdir())
    assert [path.name[:7] for path in leftovers] == [".0.1.0."]
    assert package(copied.inputs()).is_new
    assert [path.name for path in copied.releases.iterdir()] == ["0.1.0"]
    assert files_of(copied.releases / "0.1.0") == files_of(release)


def test_a_failure_in_the_middle_leaves_nothing(
    copied: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("builder.release.package.write_cards", full)
    with pytest.raises(OSError, match="No space left"):
        package(copied.inputs())
    assert not list(copied.releases.iterdir())


def test_without_shards_there_is_nothing_to_package(tmp_path: Path) -> None:
    (tmp_path / "dataset.toml").write_text(RECIPE)
    with pytest.raises(ArasError, match="no shards to package"):
        package(Project(tmp_path).inputs())
    assert not (tmp_path / "release").exists()


@pytest.mark.usefixtures("cache")
@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("config", ["real", "synthetic", "augmented", "metadata"])
def test_load_dataset_gives_pictures_and_class_names(
    release: Path, config: str, streaming: bool
) -> None:
    data = datasets.load_dataset(str(release), config, streaming=streaming)
    entries = manifest.read_manifest(release).configs[config]
    assert set(data) == set(entries)
    for split, entry in entries.items():
        rows: list[dict[str, Any]] = list(data[split])
        assert len(rows) == entry.rows
        kinds = {data[split].features["kind"].int2str(row["kind"]) for row in rows}
        assert kinds <= {"real", "synthetic"}
        assert data[split].features["dominant"].names == list(CLASSES)
        assert {data[split].features["split"].int2str(row["split"]) for row in rows} == {split}
        for row in rows[:3]:
            assert [caption["stream"] for caption in row["captions"]] == [
                "dominant",
                "composition",
                "layout",
                "full",
                "absence",
            ]
            if config != "metadata":
                check_pictures(row)
    if config == "augmented":
        assert kinds_of(data["train"]) == {"real", "synthetic"}
        assert kinds_of(data["test"]) == {"real"}
    if config == "metadata":
        assert not {"image", "mask"} & set(data["train"].features)


@pytest.mark.usefixtures("cache")
@pytest.mark.parametrize("streaming", [False, True])
def test_load_dataset_gives_the_control_captions(release: Path, streaming: bool) -> None:
    data = datasets.load_dataset(str(release), "controls", split="test", streaming=streaming)
    rows = list(data)
    real = datasets.load_dataset(str(release), "real", split="test")
    texts = {
        (row["id"], caption["stream"]): caption["text"]
        for row in real
        for caption in row["captions"]
    }
    assert len(rows) == manifest.read_manifest(release).configs["controls"]["test"].rows
    assert {(row["id"], row["stream"]) for row in rows} == set(texts)
    written = {row["control"] for row in rows}
    assert written == set(CONTROLS) - {"digits_masked"}  # these captions hold no digit
    for row in rows:
        own = texts[row["id"], row["stream"]]
        if row["control"] == "shuffled":
            others = {text for (owner, stream), text in texts.items() if stream == row["stream"]}
            assert row["text"] in others
        assert row["text"] != own


def check_pictures(row: dict[str, Any]) -> None:
    assert isinstance(row["image"], Image.Image)
    assert (row["image"].mode, row["image"].size) == ("RGB", (64, 64))
    assert row["mask"].mode == "P"
    counts = count_pixels(np.asarray(row["mask"]))
    assert counts.tolist() == [row["pixels"][name] for name in CLASSES]


def kinds_of(data: Any) -> set[str]:
    return {data.features["kind"].int2str(row["kind"]) for row in data}


@pytest.mark.usefixtures("cache")
def test_real_is_the_default_config(release: Path) -> None:
    data = datasets.load_dataset(str(release), split="test")
    assert kinds_of(data) == {"real"}
