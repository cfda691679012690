"""A dataset whose rows, models, reports and releases are in a bucket, seen from two machines."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from builder.cli import cli
from builder.core.manifest import read_manifest
from builder.pipeline.preview import preview
from builder.pipeline.project import Project
from builder.pipeline.run import run_steps
from builder.release.check import violations
from tests.loopback import s3
from tests.makers.project import RECIPE, make_project

STORE = '\n[store]\nurl = "s3://tiles/tiny"\n'


@pytest.fixture(scope="module")
def server() -> Iterator[s3.S3]:
    with s3.serving() as running:
        yield running


@pytest.fixture(scope="module")
def first(server: s3.S3, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """The project as the machine that built it has it."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in server.environment.items():
            patch.setenv(name, value)
        made = make_project(tmp_path_factory.mktemp("first"), recipe=RECIPE + STORE)
        run_steps(made, made.steps(), made.engine())
        yield made


def elsewhere(project: Project, folder: Path) -> Project:
    """The project on a machine that has its recipe and inputs alone."""
    shutil.copytree(project.directory / "inputs", folder / "inputs")
    shutil.copy(project.directory / "dataset.toml", folder)
    return Project(folder)


def test_another_machine_finds_nothing_to_do(first: Project, tmp_path: Path) -> None:
    second = elsewhere(first, tmp_path)
    assert [step.stage for step in preview(second, second.steps()) if not step.is_done] == []
    assert second.last_made("tiles") == first.last_made("tiles")
    here, there = (p.models / "segmenter" for p in (second, first))
    assert (here / "model.safetensors").read_bytes() == (there / "model.safetensors").read_bytes()
    assert not list((second.directory / "work").rglob("*.parquet"))


def test_both_machines_package_the_release_that_a_folder_gives(
    first: Project, project: Project, tmp_path: Path, server: s3.S3
) -> None:
    from builder.cli.release import make_release

    second = elsewhere(first, tmp_path)
    release = make_release(second).release
    assert violations(release) == []
    local = read_manifest(project.releases / "0.1.0")
    assert read_manifest(release).content_sha256 == local.content_sha256
    sent = {path for method, path in server.requests if method == "PUT" and "release/" in path}
    files = [path for path in release.rglob("*") if path.is_file()]
    assert {f"tiny/release/0.1.0/{path.relative_to(release)}" for path in files} == sent
    server.requests.clear()
    make_release(second)
    assert not [path for method, path in server.requests if "release/" in path and method == "PUT"]


def test_a_third_machine_sees_the_release_and_gets_a_part_of_it(
    first: Project, tmp_path: Path
) -> None:
    third = elsewhere(first, tmp_path / "third")
    run = CliRunner().invoke(cli, ["-C", str(third.directory), "status"])
    assert run.exit_code == 0, run.output
    assert "aras get s3://tiles/tiny/release/0.1.0 OUT" in run.output
    command = ["get", "s3://tiles/tiny/release/0.1.0", str(tmp_path / "part"), "--limit", "3"]
    run = CliRunner().invoke(cli, command)
    assert run.exit_code == 0, run.output
    assert violations(tmp_path / "part") == []
    run = CliRunner().invoke(cli, ["get", "s3://tiles/tiny/release/0.2.0", str(tmp_path / "x")])
    assert run.exit_code == 2
    assert "0.2.0: not a release of aras (there is no manifest.json)" in run.output
