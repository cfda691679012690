"""init and status."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from builder.cli import cli
from builder.core.files import write_json
from builder.core.manifest import read_manifest
from builder.pipeline.project import Project
from builder.pipeline.recipe import FILE, load
from builder.publish.zenodo_client import PRODUCTION, SANDBOX
from builder.publish.zenodo_plan import Record
from builder.publish.zenodo_steps import ZenodoJournal
from builder.release.published import Publication, record_publication
from tests.makers.project import built_project
from tests.makers.shards import digests
from tests.makers.toy import environment


def aras(*arguments: object) -> Result:
    return CliRunner().invoke(
        cli, [str(argument) for argument in arguments], catch_exceptions=False
    )


def test_init_writes_a_commented_recipe_that_loads(tmp_path: Path) -> None:
    result = aras("-C", tmp_path, "init", "new/data")
    assert result.exit_code == 0
    path = tmp_path / "new" / "data" / FILE
    assert result.stdout == ""
    assert "fetch inputs --bbox" in result.stderr
    assert load(path.parent).dataset.name == "data"
    comments = [line for line in path.read_text().splitlines() if "#" in line]
    assert len(comments) > 20


def test_init_makes_the_current_directory_a_dataset(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    result = aras("init")
    assert result.exit_code == 0
    assert load(tmp_path / "here").dataset.name == "here"


def test_the_commands_that_init_names_work_from_where_it_was_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    _, fetch, build = aras("-C", "a", "init", "b").stderr.splitlines()
    words = build.partition("#")[0].split()
    assert words == ["aras", "-C", "a/b", "build", "--dry-run"]
    assert fetch.split()[:5] == ["aras", "-C", "a/b", "fetch", "inputs"]
    result = aras(*words[1:])
    assert result.exit_code == 2
    assert "a/b/dataset.toml: tiles.composites: no file matches" in result.stderr


def test_init_never_overwrites(tmp_path: Path) -> None:
    (tmp_path / FILE).write_text("mine")
    result = aras("init", tmp_path)
    assert result.exit_code == 2
    assert "already exists; not changed" in result.stderr
    assert (tmp_path / FILE).read_text() == "mine"


def inputs(directory: Path) -> Path:
    """A project with a recipe whose inputs hold no data: enough to plan with."""
    from tests.makers.toy import write_rasters

    aras("init", directory)
    write_rasters(directory / "inputs")
    return directory


def status(directory: Path) -> dict[str, Any]:
    result = aras("-C", directory, "status", "--json")
    assert result.exit_code == 0
    assert result.stdout.count("\n") == 1
    values: dict[str, Any] = json.loads(result.stdout)
    return values


def test_status_tells_what_is_stale_and_what_cannot_be_known_yet(tmp_path: Path) -> None:
    values = status(inputs(tmp_path))
    assert values["releases"] == []
    lines = {line["stage"]: line for line in values["steps"]}
    assert lines["tiles"] == {"stage": "tiles", "shards": 4, "stale": 4}
    assert lines["train-segmenter"]["waits_for"] == ["tiles", "split"]
    assert "caption-full" in lines["score-full"]["waits_for"]
    waiting = len(lines) - 1
    *shown, disk, free = aras("-C", tmp_path, "status").stdout.splitlines()
    assert shown == [
        "tiles                  4 of 4 shards to make",
        f"waiting                {waiting} of {len(lines)} steps: for those above",
        f"time                   not known and {len(lines)} steps never measured",
    ]
    assert disk.startswith("disk                   inputs ")
    assert free.startswith("free                   ")
    assert aras("-C", tmp_path, "tiles", "--engine", "serial").exit_code == 0
    lines = {line["stage"]: line for line in status(tmp_path)["steps"]}
    assert lines["tiles"] == {"stage": "tiles", "shards": 4, "stale": 0}
    plain = aras("-C", tmp_path, "status").stdout
    assert plain.count("nothing") == 1
    fresh = sum(line.get("stale") == 0 for line in lines.values())
    assert f"fresh                  {fresh} of {len(lines)} steps: nothing to do" in plain


def test_status_tells_what_packaging_would_do(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    built = built_project(tmp_path_factory.getbasetemp())
    shutil.copytree(built.directory, tmp_path / "copy")
    recipe = (tmp_path / "copy" / FILE).read_text()

    def package(old: str, new: str) -> str:
        (tmp_path / "copy" / FILE).write_text(recipe.replace(old, new))
        todo: str = status(tmp_path / "copy")["steps"][-1]["todo"]
        return todo

    assert package("", "") == "nothing: release/0.1.0 has this content"
    assert package("Tiny:", "Small:").startswith("release/0.1.0 exists with other content")
    raised = package("[dataset]", '[dataset]\nversion = "0.2.0"')
    assert raised == "release/0.2.0 is to be written"


def test_an_idle_build_is_one_line_once_its_release_was_checked(
    tmp_path: Path, project: Project
) -> None:
    shutil.copytree(project.directory, tmp_path / "copy")
    first, again = (aras("-C", tmp_path / "copy", "build", "--engine", "serial") for _ in range(2))
    assert first.exit_code == again.exit_code == 0
    assert "check: every invariant holds" in first.stderr  # the copy was never checked
    assert f"next: aras -C {tmp_path / 'copy'} explore " in first.stderr
    (line,) = again.stderr.splitlines()
    assert line.startswith("nothing to do: ")
    known = " steps are fresh, release/0.1.0 is checked ("
    assert known in line


def test_a_build_that_would_change_a_release_is_refused_before_anything_is_made(
    tmp_path: Path, project: Project
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(project.directory, copy)
    recipe = (copy / FILE).read_text()
    (copy / FILE).write_text(recipe.replace('style = "full"', 'style = "layout"'))
    before = {path: path.stat().st_mtime_ns for path in copy.glob("work/*/*.parquet")}
    result = aras("-C", copy, "build", "--engine", "serial")
    assert result.exit_code == 2
    assert (
        "release/0.1.0: exists already, and what was changed since (caption-full" in result.stderr
    )
    assert "Raise version in [dataset]" in result.stderr
    assert {path: path.stat().st_mtime_ns for path in copy.glob("work/*/*.parquet")} == before
    lost = next((copy / "work" / "caption-layout").glob("*.parquet"))
    (copy / FILE).write_text(recipe)
    lost.unlink()  # a shard that is missing is made again as it was
    assert aras("-C", copy, "build", "--engine", "serial").exit_code == 0


def test_status_changes_nothing(tmp_path: Path) -> None:
    """But for the memory of what the inputs hold, which may be deleted."""
    inputs(tmp_path)
    before = {path for path in tmp_path.rglob("*") if path.is_file()}
    status(tmp_path)
    after = {path for path in tmp_path.rglob("*") if path.is_file()}
    assert {path.name for path in after - before} == {".inputs.json", ".rasters-refuse.json"}


READ_ONLY = """
mount --bind "$1" "$1" && mount -o remount,ro,bind "$1" && exec "$2" -m builder -C "$1" status
"""
NAMESPACE = ["unshare", "--user", "--map-root-user", "--mount"]


def may_mount() -> bool:
    """Whether this process may mount folders that only it sees."""
    try:
        return not subprocess.run([*NAMESPACE, "true"], capture_output=True).returncode
    except OSError:
        return False


@pytest.mark.skipif(not may_mount(), reason="this system lets us mount nothing")
def test_status_works_on_a_read_only_copy_whose_times_are_others(
    project: Project, tmp_path: Path
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(project.directory, copy, copy_function=shutil.copyfile)
    ended = subprocess.run(
        [*NAMESPACE, "sh", "-c", READ_ONLY, "sh", str(copy), sys.executable],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert ended.returncode == 0, ended.stderr
    assert "nothing to do" in ended.stdout


def test_two_whole_builds_at_once_on_one_directory_do_no_harm(
    project: Project, tmp_path: Path
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(project.directory, copy)
    remade = ["caption-*", "score-*", "repeat-*", "quality-*", "split", "duplicates"]
    for folder in [path for name in remade for path in (copy / "work").glob(name)]:
        shutil.rmtree(folder)
    shutil.rmtree(copy / "release")
    both = [
        subprocess.Popen(
            [sys.executable, "-m", "builder", "-C", str(copy), "build", "--engine", "serial"],
            env=environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    for process in both:
        _, errors = process.communicate(timeout=200)
        assert process.returncode == 0, errors
    assert digests(Project(copy).store) == digests(project.store)
    version = project.recipe.dataset.version
    manifests = [read_manifest(folder / version) for folder in (copy / "release", project.releases)]
    assert manifests[0].content_sha256 == manifests[1].content_sha256
    assert list(copy.rglob(".*.tmp")) == []


def test_status_tells_where_each_release_can_be_found_and_what_is_a_draft_still(
    tmp_path: Path,
) -> None:
    release = inputs(tmp_path) / "release" / "0.1.0"
    manifest = {
        "format": 1,
        "version": "0.1.0",
        "content_sha256": "c0ffee" * 10,
        "configs": {},
        "files": [],
        "facts": {"census": {"rows": {"real/train": 1200, "synthetic/train": 34}}},
    }
    write_json(release / "manifest.json", manifest)
    hub = "https://huggingface.co/datasets/lab/tiles"
    facts = {"repo": "lab/tiles", "tag": "0.1.0", "commit": "0123456789ab", "url": hub}
    record_publication(release, Publication(kind="hub", destination=hub, **facts))
    dois = {"doi": "10.5281/zenodo.8", "concept_doi": "10.5281/zenodo.7"}
    page = {"html": "https://zenodo.org/records/8"}
    records = {"main": {"id": "8", **dois, **page}}
    place = Publication(kind="zenodo", destination=PRODUCTION, **dois, records=records)
    record_publication(release, place)
    main = {"main": Record(**records["main"])}
    ZenodoJournal(release, PRODUCTION, "published", records=main).save()
    draft = Record(id="9", doi="10.5072/zenodo.9", html=f"{SANDBOX}/deposit/9")
    ZenodoJournal(release, SANDBOX, "ready", records={"main": draft}).save()

    result = aras("-C", tmp_path, "status")
    assert result.exit_code == 0
    assert result.stdout.splitlines()[-5:] == [
        "release 0.1.0          1,234 rows, c0ffeec0ffee",
        "  verdict              nothing stands out",
        f"  hub                  lab/tiles@0.1.0 at commit 01234567, {hub}",
        "  zenodo               DOI 10.5281/zenodo.8 (all versions 10.5281/zenodo.7), "
        "https://zenodo.org/records/8",
        "  zenodo draft         not published: DOI 10.5072/zenodo.9 reserved, "
        "https://sandbox.zenodo.org/deposit/9",
    ]
    (values,) = status(tmp_path)["releases"]
    assert [entry["kind"] for entry in values["published"]] == ["hub", "zenodo"]
    assert [entry["state"] for entry in values["unfinished"]] == ["ready"]


def test_status_needs_no_input_rasters_and_says_how_long_what_is_left_takes(
    tmp_path: Path, project: Project
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(project.directory, copy)
    for stage in ("caption-full", "score-full"):
        write_json(
            copy / "reports" / f"{stage}.json",
            {
                "kind": "stage",
                "stage": stage,
                "made": 1,
                "shards": 1,
                "rows_made": 9,
                "seconds": 60,
            },
        )
    recipe = (copy / FILE).read_text()
    (copy / FILE).write_text(recipe.replace('style = "full"', 'style = "layout"'))
    shutil.rmtree(copy / "inputs")
    values = status(copy)
    first, *others = values["steps"]
    assert first["todo"].startswith("cannot be planned: ")
    assert next(step for step in others if step["stage"] == "quality-real")["stale"] == 0
    stale = next(step for step in others if step["stage"] == "caption-full")["stale"]
    assert stale > 0
    minutes = stale + 1  # each shard as long as the last; the scores wait, and had one shard
    assert 0 <= values["seconds"] - 60 * minutes < 60  # what else is stale took seconds
    assert values["disk"]["work"] > 0
    assert "inputs" not in values["disk"]


@pytest.fixture
def unbuilt(tmp_path: Path, project: Project) -> Path:
    """A project whose steps are all still to do."""
    shutil.copytree(project.directory / "inputs", tmp_path / "new" / "inputs")
    shutil.copy(project.directory / FILE, tmp_path / "new" / FILE)
    return tmp_path / "new"


def test_a_build_without_enough_blocks_is_refused_at_second_0(unbuilt: Path) -> None:
    recipe = (unbuilt / FILE).read_text()
    (unbuilt / FILE).write_text(recipe.replace("block = 0.016", "block = 5.0"))
    result = aras("-C", unbuilt, "build")
    assert result.exit_code == 2
    assert " of 5°, and 3 splits need at least 3; write for example block = " in result.stderr
    assert not list(unbuilt.glob("work/*/*.parquet"))


def test_a_build_without_what_trains_is_refused_at_second_0(
    unbuilt: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from builder.pipeline import refusals

    monkeypatch.setattr(refusals, "has", lambda library: library != "torch")
    result = aras("-C", unbuilt, "build")
    assert result.exit_code == 2
    assert "train-segmenter needs aras[make]" in result.stderr
    assert "pip install 'aras[make]'" in result.stderr
    assert not list(unbuilt.glob("work/*/*.parquet"))


def test_a_build_whose_release_no_disk_can_hold_is_refused_at_second_0(
    tmp_path: Path, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    from builder.pipeline import refusals

    copy = tmp_path / "copy"
    shutil.copytree(project.directory, copy)
    shutil.rmtree(copy / "release")
    full = shutil.disk_usage(copy)._replace(free=1000)
    monkeypatch.setattr(refusals.shutil, "disk_usage", lambda path: full)
    result = aras("-C", copy, "build")
    assert result.exit_code == 2
    assert "the release needs at least" in result.stderr
    assert not (copy / "release").exists()


def test_release_may_be_left_out_and_a_wrong_one_names_what_there_is(
    tmp_path: Path, project: Project
) -> None:
    checked = aras("-C", project.directory, "check")
    assert checked.exit_code == 0
    assert "check: release/0.1.0: every invariant holds" in checked.stderr
    wrong = aras("-C", project.directory, "check", "release/9.9.9")
    assert wrong.exit_code == 2
    assert f"there are {project.directory}/release/0.1.0" in wrong.stderr
    alone = aras("-C", tmp_path, "check")
    assert alone.exit_code == 2
    assert "Missing argument" in alone.stderr
