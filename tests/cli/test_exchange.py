"""`aras import` and `aras export` as a user runs them."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result

from builder.cli import cli
from builder.release.check import violations
from tests.makers.official import Layout, official

ROOT = Path(__file__).parents[2]
ANY = [f"--md5={name}.zip=any" for name in ("train", "val", "test", "synth")]


def aras(folder: Path, *arguments: str) -> Result:
    return CliRunner().invoke(cli, ["-C", str(folder), *arguments])


def bring(folder: Path, *arguments: str, added: str = "") -> Result:
    """Import in this process, and let what follows run in it too; ``added`` goes to the recipe."""
    result = aras(folder, "import", *arguments, "--engine", "serial")
    assert result.exit_code == 0, result.output
    path = folder / "dataset.toml"
    path.write_text(path.read_text().replace('"processes"', '"serial"') + added)
    return result


def stages(result: Result) -> list[str]:
    """What a build ran, the scores of the imported captions aside."""
    names = [step["stage"] for step in json.loads(result.stdout)["steps"]]
    return [name for name in names if not name.startswith(("score-", "repeat-"))]


@pytest.fixture(scope="module")
def layout() -> Layout:
    return official(train=2, val=1, test=1, synth=2)


QUALITY = ("quality-real", "quality-synthetic")


@pytest.fixture
def zips(layout: Layout, tmp_path: Path) -> Path:
    layout.write_zips(tmp_path / "official")
    return tmp_path / "official"


def test_from_zips_to_a_checked_release_and_back_to_zips(zips: Path, tmp_path: Path) -> None:
    folder = tmp_path / "ds"
    result = bring(folder, "../official", *ANY)
    assert "6 rows in = 6 rows out + 0 rejects" in result.stderr
    recipe = (folder / "dataset.toml").read_text()
    assert 'sources = ["../official"]' in recipe
    assert '"train.zip" = "any"' in recipe
    result = aras(folder, "build", "--json")
    assert result.exit_code == 0, result.output
    assert stages(result) == ["import", *QUALITY, "realism", "duplicates", "package"]
    release = folder / "release" / "0.1.0"
    assert violations(release) == []
    card = (release / "README.md").read_text()
    assert "imported from official" in card
    assert str(tmp_path) not in "".join(
        path.read_text() for path in release.rglob("*") if path.suffix in (".md", ".json")
    )
    result = aras(folder, "export", "release/0.1.0", "--to", "out", "--zip", "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["rows"] == {"train": 2, "val": 1, "test": 1, "synth": 2}
    # The export vouches for itself by its MD5SUMS.
    result = aras(tmp_path / "again", "import", "../ds/out", "--engine", "serial", "--json")
    assert result.exit_code == 0, result.output
    first = json.loads((folder / "reports" / "import.json").read_text())
    assert json.loads(result.stdout)["digest"] == first["digest"]


def test_a_release_is_imported_and_packaged_again(zips: Path, tmp_path: Path) -> None:
    bring(tmp_path / "a", "../official", *ANY)
    assert aras(tmp_path / "a", "build").exit_code == 0
    bring(tmp_path / "b", "../a/release/0.1.0")
    assert aras(tmp_path / "b", "build").exit_code == 0
    assert violations(tmp_path / "b" / "release" / "0.1.0") == []


def test_zips_that_are_not_the_official_ones_are_refused_and_leave_no_recipe(
    zips: Path, tmp_path: Path
) -> None:
    result = aras(tmp_path / "ds", "import", "../official")
    assert result.exit_code == 2
    assert "record 18890661" in result.stderr
    assert not (tmp_path / "ds").exists()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    assert aras(tmp_path / "mine", "import", "../official").exit_code == 2
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["notes.txt"]


def test_a_dry_run_says_what_would_be_made_and_leaves_nothing(zips: Path, tmp_path: Path) -> None:
    result = aras(tmp_path / "ds", "import", "../official", *ANY, "--dry-run", "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout) == {
        "kind": "plan",
        "steps": [{"stage": "import", "shards": 4, "stale": 4}],
    }
    assert "written" not in result.stderr
    assert not (tmp_path / "ds").exists()


def test_without_recipe_and_source_the_way_in_is_named(tmp_path: Path) -> None:
    result = aras(tmp_path, "import")
    assert result.exit_code == 2
    assert "`aras import SOURCE…` writes a recipe" in result.stderr


def test_the_same_command_goes_on_and_another_is_refused(zips: Path, tmp_path: Path) -> None:
    arguments = ("import", "../official", *ANY, "--engine", "serial")
    assert aras(tmp_path / "ds", *arguments).exit_code == 0
    again = aras(tmp_path / "ds", *arguments)
    assert again.exit_code == 0
    assert "nothing to do" in again.stderr
    assert "nothing to do" in aras(tmp_path / "ds", "import").stderr
    other = aras(tmp_path / "ds", "import", "../official/test.zip", "--md5", "test.zip=any")
    assert other.exit_code == 2
    assert "does not import this" in other.stderr


def test_rejects_are_shown_by_reason_and_listed(layout: Layout, tmp_path: Path) -> None:
    spoilt = Layout(dict(layout.files), layout.lines)
    spoilt.spoil_mask("synth/masks/0001.png")
    spoilt.write_folder(tmp_path / "official")
    result = aras(tmp_path / "ds", "import", "../official", "--engine", "serial")
    assert result.exit_code == 0, result.output
    assert "6 rows in = 5 rows out + 1 reject\n" in result.stderr
    assert "1 mask colour outside the palette" in result.stderr
    assert "synth/masks/0001.png" in (tmp_path / "ds/reports/import-rejects.csv").read_text()


def test_entries_that_are_no_row_are_told_beside_the_account(
    layout: Layout, tmp_path: Path
) -> None:
    layout.write_zips(tmp_path / "official", captions="inside")
    result = aras(tmp_path / "ds", "import", "../official", *ANY, "--engine", "serial")
    assert result.exit_code == 0, result.output
    assert "6 rows in = 6 rows out + 0 rejects\n  3 other entries set aside\n" in result.stderr
    assert "3 repeats a table" in result.stderr


def test_one_of_anything_is_told_in_the_singular(tmp_path: Path) -> None:
    spoilt = official(train=1, val=0, test=1, synth=1)
    spoilt.spoil_mask("synth/masks/0000.png")
    spoilt.lines[0][-1] = "ERROR: Failed to generate caption"
    spoilt.lines[1][2:9] = ["100", *["0"] * 6]
    spoilt.files["train/readme.txt"] = b"read me"
    spoilt.write_folder(tmp_path / "official")
    result = aras(tmp_path / "ds", "import", "../official", "--engine", "serial")
    assert "3 rows in = 2 rows out + 1 reject\n" in result.stderr
    assert "1 caption error," in result.stderr
    assert "1 other entry set aside\n" in result.stderr
    assert "1 row was published with percentages that the mask does not have" in result.stderr


def test_without_captions_csv_the_recipe_says_so(layout: Layout, tmp_path: Path) -> None:
    layout.write_folder(tmp_path / "official", captions=False)
    result = aras(tmp_path / "ds", "import", "../official", "--engine", "serial")
    assert result.exit_code == 0, result.output
    assert "no captions inside" in result.stderr
    assert "captions = false" in (tmp_path / "ds" / "dataset.toml").read_text()


def test_blocks_replace_the_official_split_where_they_are_asked_for(
    layout: Layout, tmp_path: Path
) -> None:
    layout.write_folder(tmp_path / "official")
    bring(tmp_path / "ds", "../official", added="\n[split]\nblock = 0.02\nbuffer_km = 0\n")
    path = tmp_path / "ds" / "dataset.toml"
    path.write_text(path.read_text().replace('split = "official"', 'split = "blocks"'))
    result = aras(tmp_path / "ds", "build", "--json")
    assert result.exit_code == 0, result.output
    quality = ["quality-real", "split", "quality-synthetic"]
    assert stages(result) == ["import", *quality, "realism", "duplicates", "package"]
    release = tmp_path / "ds" / "release" / "0.1.0"
    assert violations(release) == []
    assert (release / "subsets" / "blocks.csv").is_file()


def test_captions_of_ones_own_stand_beside_the_imported_streams(
    layout: Layout, tmp_path: Path
) -> None:
    layout.write_folder(tmp_path / "official")
    bring(tmp_path / "ds", "../official", added='\n[captions.full]\nstyle = "full"\n')
    assert aras(tmp_path / "ds", "build").exit_code == 0
    (file,) = (tmp_path / "ds" / "release" / "0.1.0" / "synthetic").glob("*.parquet")
    for captions in pq.read_table(file).column("captions").to_pylist():
        assert [caption["stream"] for caption in captions][-1] == "full"
        assert len(captions) == 6
        assert all(caption["text"] for caption in captions)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[import]\nsource = ["x"]', "unknown key import.source; did you mean sources?"),
        ('[import]\nsources = ["x"]\n[generator]\nrows = 5', "rows of [generator] must be 0"),
        ('[import.md5]\n"a.zip" = "short"', "import.md5.a.zip = 'short'"),
        ('[imports]\nsources = ["x"]', "unknown key imports; did you mean import?"),
        ("", "no sources in [import]"),
        ('[import]\nsources = ["nowhere.zip"]', "nowhere.zip: no such zip"),
    ],
)
def test_a_wrong_recipe_names_the_key(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "dataset.toml").write_text(text)
    result = aras(tmp_path, "import")
    assert result.exit_code == 2
    assert message in result.stderr


def test_the_entry_point_knows_both_commands(tmp_path: Path) -> None:
    for command in ("import", "export"):
        shown = subprocess.run(
            [sys.executable, "-m", "builder", command, "--help"],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=True,
            timeout=120,
        )
        assert f"aras {command}" in shown.stdout
