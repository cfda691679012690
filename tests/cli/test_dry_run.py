"""``aras generate --dry-run``: the plan, what is to be drawn, and what that costs."""

import json
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner

from builder.cli import cli
from builder.cli.make import duration
from tests.makers.project import built_project


@pytest.fixture
def directory(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    whole = built_project(tmp_path_factory.getbasetemp()).directory
    return Path(shutil.copytree(whole, tmp_path / "copy"))


def dry_run(directory: Path, *more: str) -> str:
    found = CliRunner().invoke(cli, ["-C", str(directory), "generate", "--dry-run", *more])
    assert found.exit_code == 0, found.output
    return found.stdout


def test_it_shows_shares_and_that_all_rows_are_there(directory: Path) -> None:
    told = dry_run(directory)
    assert told.splitlines()[0].split() == ["class", "natural", "target", "planned", "short"]
    assert "target natural is met" in told
    assert told.splitlines()[-1] == "nothing to draw: all rows are there"


def test_rows_to_draw_are_costed_by_the_last_run_that_drew_any(directory: Path) -> None:
    again = CliRunner().invoke(cli, ["-C", str(directory), "generate", "--engine", "serial"])
    assert "nothing to do" in again.stderr  # and yet the rate of the run before is kept
    sorted((directory / "work" / "generate").glob("*.parquet"))[0].unlink()
    told = json.loads(dry_run(directory, "--json"))
    assert told["steps"][-1] == {"stage": "generate", "shards": 2, "stale": 1}
    assert told["rows_to_draw"] == 5
    assert told["hours"] == pytest.approx(5 / told["tiles_per_second"] / 3600)
    assert "5 rows to draw: about " in dry_run(directory)


def test_changed_layouts_make_all_rows_stale(directory: Path) -> None:
    recipe = directory / "dataset.toml"
    recipe.write_text(recipe.read_text().replace("rows = 10", "rows = 12", 1))
    assert json.loads(dry_run(directory, "--json"))["rows_to_draw"] == 12


def test_without_a_rate_or_a_generator_it_says_what_is_missing(directory: Path) -> None:
    (directory / "reports" / "generate.json").unlink()
    shutil.rmtree(directory / "models" / "generator")
    told = dry_run(directory)
    assert "run `aras train generator` first" in told
    assert told.splitlines()[-1].startswith("10 rows to draw; the first")


@pytest.mark.parametrize(
    ("hours", "words"),
    [
        (0.01, "36 seconds"),
        (0.2, "12 minutes"),
        (3.5, "3.5 hours"),
        (30.0, "30 hours"),
        (100.0, "4.2 days"),
    ],
)
def test_durations_are_said_as_people_do(hours: float, words: str) -> None:
    assert duration(hours) == words
