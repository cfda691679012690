"""An export format is one file and one line: the command takes, runs and reports it."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from builder.cli import cli
from builder.core.manifest import read_manifest
from builder.pipeline.project import Project
from builder.release.exports import FORMATS, Format, Options, export

TOY = '''
from builder.release.exports import Written
from builder.release.rows import metadata


def write(release, folder, options):
    """The id of every row, one to a line, a file per split."""
    rows = {}
    for split, table in metadata(release, ["id"]):
        ids = table.column("id").to_pylist()
        (folder / f"{split}.txt").write_text("".join(f"{row}\\n" for row in ids))
        rows[split] = len(ids)
    return Written(rows)
'''


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "ids_format.py").write_text(TOY)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setitem(FORMATS, "ids", Format("ids alone", "ids_format:write"))


@pytest.mark.usefixtures("toy")
def test_a_new_format_is_one_file_and_one_line(project: Project, tmp_path: Path) -> None:
    release = project.releases / "0.1.0"
    to = tmp_path / "out"
    arguments = ["export", str(release), "--layout", "ids", "--to", str(to), "--json"]
    result = CliRunner().invoke(cli, ["-C", str(tmp_path), *arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    exported = json.loads(result.stdout)
    expected = {
        split: part.rows for split, part in read_manifest(release).configs["metadata"].items()
    }
    assert (exported["kind"], exported["layout"]) == ("export", "ids")
    assert exported["rows"] == expected
    assert {path.stem: len(path.read_text().split()) for path in to.iterdir()} == expected
    assert exported["bytes"] == sum(path.stat().st_size for path in to.iterdir())


@pytest.mark.usefixtures("toy")
def test_an_unknown_format_is_refused_with_those_that_exist(tmp_path: Path) -> None:
    result = CliRunner().invoke(cli, ["export", "x", "--layout", "geo", "--to", "y"])
    assert result.exit_code == 2
    assert f"'geo' is not one of {', '.join(FORMATS)}" in result.stderr
    assert "zenodo" in result.stderr
    assert "ids" in result.stderr


def test_the_help_describes_every_format() -> None:
    text = " ".join(CliRunner().invoke(cli, ["export", "--help"]).stdout.split())
    for name, layout in FORMATS.items():
        assert f"{name}: {layout.description}" in text


def test_a_format_that_fails_leaves_nothing_behind(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken_format.py").write_text(
        "def write(release, folder, options):\n"
        "    (folder / 'half.txt').write_text('half')\n"
        "    raise OSError('disk full')\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setitem(FORMATS, "broken", Format("half of it", "broken_format:write"))
    with pytest.raises(OSError, match="disk full"):
        export(project.releases / "0.1.0", tmp_path / "to" / "out", "broken", Options())
    assert not list((tmp_path / "to").iterdir())
