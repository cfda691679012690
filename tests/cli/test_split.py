"""`aras split report` as a user runs it, on an imported release."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from PIL import Image

from builder.cli import cli
from builder.tiles import subsets
from tests.makers.official import official, release

ADDED = "\n[split]\nblock = 0.125\nbuffer_km = 0\n[subsets.mini]\nrows = 15\n"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    layout = official(train=30, val=5, test=5, synth=0)
    layout.rename("train", layout.lines[0][0][:-4], "somewhere")
    folder = tmp_path_factory.mktemp("ds")
    release(layout, folder, added=ADDED)
    return folder


def report(folder: Path, *arguments: str) -> Result:
    return CliRunner().invoke(cli, ["-C", str(folder), "split", "report", *arguments])


def test_the_text_says_what_is_known_and_what_is_not(folder: Path) -> None:
    result = report(folder, "release/0.1.0")
    assert result.exit_code == 0, result.output
    first, second, *lines = result.stdout.splitlines()
    assert first == "40 real tiles"
    assert second == "  1 tile without a place is not judged"
    assert lines[0].endswith("of test tiles touch a train tile")
    assert "  blocks in several splits: –" in lines
    assert [line.split()[:3] for line in lines[-3:]] == [
        ["train", "30", "tiles,"],
        ["validation", "5", "tiles,"],
        ["test", "5", "tiles,"],
    ]
    assert "None" not in result.stdout


def test_json_holds_the_distances_that_are_asked_for(folder: Path) -> None:
    result = report(folder, "release/0.1.0", "--km", "5", "--km", "0.5", "--json")
    values = json.loads(result.stdout)
    assert values["kind"] == "split-report"
    assert list(values["test_near_train"]) == ["0.5", "5"]
    assert (values["tiles"], values["without_place"]) == (40, 1)
    assert values["blocks_in_several_splits"] is None


def test_ids_are_looked_up_here_and_in_the_release(folder: Path) -> None:
    inside = report(folder, "release/0.1.0", "--ids", "subsets/mini.csv", "--json")
    assert inside.exit_code == 0, inside.output
    assert json.loads(inside.stdout)["tiles"] == 15
    (folder / "here.csv").write_bytes((folder / "release/0.1.0/subsets/mini.csv").read_bytes())
    here = report(folder, "release/0.1.0", "--ids", "here.csv", "--json")
    assert json.loads(here.stdout) == json.loads(inside.stdout)
    missing = report(folder, "release/0.1.0", "--ids", "subsets/nano.csv")
    assert missing.exit_code == 2
    assert "subsets/nano.csv: cannot be read" in missing.stderr


def test_an_empty_split_is_told_as_empty(folder: Path) -> None:
    ids = subsets.read(folder / "release/0.1.0/subsets/official.csv")
    names = [id_ for id_, split in ids.items() if split == "test"]
    subsets.write(folder / "test.csv", names, [2] * len(names))
    result = report(folder, "release/0.1.0", "--ids", "test.csv", "--km", "0")
    assert result.stdout.splitlines()[1] == f"  {'–':>8} of test tiles touch a train tile"
    assert [line.strip() for line in result.stdout.splitlines()[-3:-1]] == [
        "train             0 tiles",
        "validation        0 tiles",
    ]


def test_the_map_is_a_picture_that_shows_the_tiles_of_no_split(folder: Path) -> None:
    arguments = ("release/0.1.0", "--ids", "subsets/blocks.csv", "--map", "maps/split.png")
    result = report(folder, *arguments)
    assert result.exit_code == 0, result.output
    assert "map: maps/split.png" in result.stderr
    with Image.open(folder / "maps" / "split.png") as picture:
        assert picture.format == "PNG"
        assert len(picture.convert("RGB").getcolors(1 << 24)) > 20
    wrong = report(folder, "release/0.1.0", "--map", "dataset.toml/map.png")
    assert wrong.exit_code == 2
    assert "dataset.toml/map.png: cannot write the map" in wrong.stderr
    assert "Traceback" not in wrong.output
