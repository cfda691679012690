"""Both splits of an imported dataset are files of ids, whichever the release follows."""

import re
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest

from builder.core.manifest import read_manifest
from builder.release.check import violations
from builder.release.rows import real_rows
from builder.tiles import subsets
from builder.tiles.split import block_names
from tests.makers.official import Layout, official, release

ROOT = Path(__file__).parents[2]
SUBSETS = '\n[subsets.small]\nrows = 15\n[subsets.even]\nrows = 15\nbalance = "uniform"\n'
SPLIT = "\n[split]\nblock = 0.125\nbuffer_km = 0\n"
NAMES = {"train": "train", "val": "validation", "test": "test"}


@pytest.fixture(scope="module")
def layout() -> Layout:
    files = official(train=30, val=5, test=5, synth=1)
    name = next(line[0] for line in files.lines if line[1] == "train")
    files.rename("train", name[:-4], "somewhere")
    return files


@pytest.fixture(scope="module")
def as_published(layout: Layout, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return release(layout, tmp_path_factory.mktemp("official"), added=SUBSETS + SPLIT)


@pytest.fixture(scope="module")
def by_blocks(layout: Layout, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("blocks")
    return release(layout, folder, added=SPLIT, split="blocks")


def published(layout: Layout) -> dict[str, str]:
    """Id → split of every real line of captions.csv."""
    return {f"real/{name[:-4]}": NAMES[split] for name, split, *_ in layout.lines if split in NAMES}


def test_one_tile_without_a_place_takes_no_file_away(as_published: Path, layout: Layout) -> None:
    assert violations(as_published) == []
    held = read_manifest(as_published).subsets
    assert list(held) == ["official", "blocks", "small", "even"]
    whole = subsets.read(as_published / "subsets/official.csv")
    assert whole == published(layout)
    assert "real/somewhere" in whole
    assert held["official"].as_json() == {
        "rows": 40,
        "digest": subsets.digest(whole.items()),
        "balance": "natural",
    }
    card = (as_published / "README.md").read_text()
    assert "1 tile has no known place; the distances are those of the others" in card


def test_a_release_with_the_official_split_brings_the_blocks_along(as_published: Path) -> None:
    blocks = subsets.read(as_published / "subsets/blocks.csv")
    assert set(blocks.values()) == {"train", "validation", "test"}
    assert "real/somewhere" not in blocks
    rows = subsets.apply(real_rows(as_published), blocks)
    of_block = defaultdict(set)
    for name, split in zip(block_names(rows.places, 0.125), rows.splits, strict=True):
        of_block[name].add(split)
    assert all(len(splits) == 1 for splits in of_block.values())


def test_a_release_by_blocks_brings_the_official_split_along(
    by_blocks: Path, as_published: Path, layout: Layout
) -> None:
    assert violations(by_blocks) == []
    assert list(read_manifest(by_blocks).subsets) == ["blocks", "official"]
    own = subsets.read(by_blocks / "subsets/blocks.csv")
    assert own == subsets.read(as_published / "subsets/blocks.csv")
    kept = subsets.read(by_blocks / "subsets/official.csv")
    assert kept.keys() == own.keys()
    assert kept == {row: published(layout)[row] for row in own}
    assert kept != own


def test_the_official_split_is_still_there_after_a_release_by_blocks_is_imported(
    by_blocks: Path, tmp_path: Path
) -> None:
    (tmp_path / "again").mkdir()
    again = release(Layout(), tmp_path / "again", sources=[str(by_blocks)])
    for name in ("official", "blocks"):
        file = f"subsets/{name}.csv"
        assert (again / file).read_bytes() == (by_blocks / file).read_bytes()


def test_a_part_without_train_rows_has_the_official_split_all_the_same(tmp_path: Path) -> None:
    layout = official(train=0, val=0, test=3, synth=0)
    part = release(
        layout,
        tmp_path,
        added="\n[split]\nshares = { train = 0.1, validation = 0.2, test = 0.7 }\n",
    )
    splits = subsets.read(part / "subsets/official.csv")
    assert set(splits.values()) == {"test"}
    assert len(splits) == 3


def test_subsets_have_exactly_their_rows_and_say_what_their_balance_could_not_have(
    as_published: Path,
) -> None:
    held = read_manifest(as_published).subsets
    rows = real_rows(as_published)
    for name in ("small", "even"):
        part = subsets.apply(rows, subsets.read(as_published / f"subsets/{name}.csv"))
        assert held[name].rows == len(part.ids) == 15
    assert held["small"].notes == {}
    notes = held["even"].notes
    absent = {split: note.absent for split, note in notes.items() if note.absent}
    assert absent
    card = (as_published / "README.md").read_text()
    for split, names in absent.items():
        assert f"- `even`, {split}: no tile holds {', '.join(names)}, so the other" in card


def test_a_change_of_the_blocks_makes_another_release(layout: Layout, tmp_path: Path) -> None:
    keys = set()
    for block in ("0.125", "0.25"):
        folder = tmp_path / block
        folder.mkdir()
        packaged = release(layout, folder, added=f"\n[split]\nblock = {block}\n")
        keys.add(read_manifest(packaged).key)
    assert len(keys) == 2


def test_the_how_to_loads_a_file_s_split_as_it_is_written(
    as_published: Path, tmp_path: Path
) -> None:
    text = (ROOT / "docs/how-to/use-the-official-release.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert all(f"subsets/{name}.csv" in text for name in ("mini", "10k", "10k-balanced"))
    code = code.replace("10k-balanced", "blocks") + "\nprint(*sorted(test['id']))\n"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=as_published.parents[1],
        env={"HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "1", "PATH": ""},
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert done.returncode == 0, done.stderr
    blocks = subsets.read(as_published / "subsets/blocks.csv")
    assert done.stdout.split() == sorted(row for row, split in blocks.items() if split == "test")
