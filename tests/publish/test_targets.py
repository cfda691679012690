"""A publishing target is one file and one line: command, help, status, card and check follow."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from builder.cli import cli
from builder.publish.targets import TARGETS, load_target, status_lines
from builder.release.check import violations
from builder.release.published import Publication, publications, record_publication
from tests.makers.project import built_project
from tests.makers.tiny_release import digest_tree
from tests.makers.toy import ROOT, environment

URL = "https://data.example.org/tiles"
ADDRESS = f"{URL}/0.1.0"


@pytest.fixture(autouse=True)
def _registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(TARGETS, "folder", "tests.makers.folder_target:FOLDER")


@pytest.fixture
def project(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of a built project, free to be changed."""
    built = built_project(tmp_path_factory.getbasetemp())
    return Path(shutil.copytree(built.directory, tmp_path / "copy", symlinks=True))


def aras(project: Path, *arguments: str) -> Result:
    return CliRunner().invoke(cli, ["-C", str(project), *arguments])


def publish(project: Path, *options: str) -> Result:
    to = ("--to", str(project / "served"), "--url", URL)
    return aras(project, "publish", "folder", "release/0.1.0", *to, *options)


def test_a_new_target_is_a_command_with_its_own_options_and_the_shared_ones() -> None:
    assert "folder  Publish RELEASE as a folder" in aras(Path(), "publish", "--help").output
    text = aras(Path(), "publish", "folder", "--help").output
    for option in ("--to PATH", "--url TEXT", "--dry-run", "--json"):
        assert option in text
    assert aras(Path(), "publish", "cellar", "release").exit_code == 2


def test_a_dry_run_of_a_new_target_changes_nothing(project: Path) -> None:
    before = digest_tree(project / "release")
    result = publish(project, "--dry-run")
    assert (result.exit_code, result.stdout) == (0, f"planned: {ADDRESS}\n")
    assert digest_tree(project / "release") == before
    assert not (project / "served").exists()


def test_what_a_new_target_publishes_is_named_by_the_card_passes_the_check_and_is_listed(
    project: Path,
) -> None:
    result = publish(project, "--json")
    assert result.exit_code == 0, result.output
    outcome = {"release": "release/0.1.0", "status": "published", "url": ADDRESS}
    assert json.loads(result.stdout) == outcome
    release, served = project / "release/0.1.0", project / "served/0.1.0"
    assert digest_tree(served) == digest_tree(release)
    assert f"Also published at <{ADDRESS}>.\n" in (served / "README.md").read_text("utf-8")
    assert violations(release) == violations(served) == []
    status = aras(project, "status")
    assert status.stdout.splitlines()[-1] == f"  folder               files at {ADDRESS}"
    [place] = publications(release)
    assert (place.kind, place.destination) == ("folder", ADDRESS)


def test_a_release_that_fails_the_check_is_not_published(project: Path) -> None:
    (project / "release/0.1.0/LICENSE").write_text("mine")
    result = publish(project)
    assert result.exit_code == 2
    assert "fails `aras check`" in result.output
    assert not (project / "served").exists()


def test_a_target_that_this_version_of_aras_does_not_know_is_still_listed(tmp_path: Path) -> None:
    place = Publication(kind="moon", destination="crater 7", doi="10.1/1")
    record_publication(tmp_path / "0.1.0", place)
    assert status_lines(tmp_path / "0.1.0") == [("moon", "crater 7")]


def test_targets_are_loaded_without_a_client_or_a_data_library() -> None:
    heavy = "{'requests', 'huggingface_hub', 'zenodo_client', 'pyarrow', 'pydantic', 'numpy'}"
    program = (
        "import sys\nfrom builder.publish.targets import TARGETS, load_target\n"
        f"print([load_target(name).help for name in TARGETS] and {heavy} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=environment(),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout == "set()\n"


@pytest.mark.parametrize("name", ["hub", "zenodo"])
def test_every_target_says_what_it_does_in_its_first_line(name: str) -> None:
    first = load_target(name).help.splitlines()[0]
    assert first.startswith("Publish RELEASE ")
    assert first.endswith(".")
