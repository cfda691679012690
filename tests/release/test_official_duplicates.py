"""Duplicates across the splits of the official layout are reported, and nothing is moved."""

from pathlib import Path

from builder.core.manifest import read_manifest
from builder.release.check import violations
from builder.release.rows import metadata
from tests.makers.official import official, release


def test_an_official_split_that_repeats_itself_is_told_and_kept(tmp_path: Path) -> None:
    layout = official(train=2, test=1, synth=1)
    (train, _), (test,), (synth,) = (
        [path for path in layout.files if path.startswith(f"{split}/images/")]
        for split in ("train", "test", "synth")
    )
    for path in (train, synth):
        layout.files[path] = layout.files[test]
    packaged = release(layout, tmp_path)
    assert violations(packaged) == []
    census = read_manifest(packaged).facts.census
    assert census.duplicates.as_json() == {
        "clusters": 1,
        "rows": 3,
        "spans": {
            "real/test and real/train": 1,
            "real/test and synthetic/train": 1,
            "real/train and synthetic/train": 1,
        },
    }
    assert all(n == 0 for out in census.left_out.values() for n in out.values())
    columns = ("split", "duplicate_cluster")
    rows = [row for _, table in metadata(packaged, columns) for row in table.to_pylist()]
    assert len(rows) == 5
    assert len({row["duplicate_cluster"] for row in rows} - {None}) == 1
    card = " ".join((packaged / "README.md").read_text().split())
    assert "3 rows are in 1 cluster of equal pixels, of which 1 span real/test and" in card
    assert "clusters that span splits are reported, not removed" in card


def test_the_card_of_an_imported_release_shows_its_captions_and_no_zeros(tmp_path: Path) -> None:
    packaged = release(official(train=2, test=1, synth=1), tmp_path)
    card = (packaged / "README.md").read_text(encoding="utf-8")
    census = read_manifest(packaged).facts.census
    assert census.streams
    section = card.split("\n## Captions\n")[1].split("\n## ")[0]
    for name, stream in census.streams.items():
        assert f"| {name} | {stream.n} | " in section
        assert f"| `{name.split('/')[1]}` | unknown | " in section
    assert "The rows were imported from official. All 5 rows there were taken." in card
    assert "were incomplete" not in card
    assert "rows were published" not in card
    assert "| split | asked |" not in card
