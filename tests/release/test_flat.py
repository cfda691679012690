"""A release without folders, as Zenodo holds it: usable as it is, and put back by manifest.json."""

import itertools
import re
import shutil
import subprocess
import sys
from pathlib import Path

import datasets
import mlcroissant
import pytest

from builder.core.errors import ArasError
from builder.core.files import sha256_file
from builder.core.manifest import UNLISTED, listed_files, read_manifest
from builder.pipeline.project import Project
from builder.release.card import flat_name, flat_text, flat_texts, folder_text, write_cards
from builder.release.check import violations
from tests.makers.damage import copy_of

HOW_TO = Path(__file__).parents[2] / "docs/how-to/publish-to-zenodo.md"


@pytest.fixture
def release(project: Project, tmp_path: Path) -> Path:
    """The release with a DOI in its cards, as it is when its files are sent to Zenodo."""
    copy = copy_of(project.releases / "0.1.0", tmp_path)
    write_cards(copy, doi="10.5281/zenodo.2", concept_doi="10.5281/zenodo.1")
    return copy


@pytest.fixture
def flat(release: Path, tmp_path: Path) -> Path:
    """What somebody has who downloaded all files of the record into one folder."""
    folder = tmp_path / "downloads"
    folder.mkdir()
    manifest = read_manifest(release)
    for name in [*listed_files(release), *UNLISTED]:
        shutil.copy(release / name, folder / flat_name(name))
    for name, content in flat_texts(release, manifest).items():
        (folder / name).write_bytes(content)
    return folder


def rows_of(release: Path, config: str) -> int:
    return sum(split.rows for split in read_manifest(release).configs[config].values())


@pytest.mark.parametrize("config", ["real", "augmented", "controls"])
def test_croissant_gives_every_row_of_a_flat_copy(flat: Path, config: str) -> None:
    dataset = mlcroissant.Dataset(jsonld=flat / "croissant.json")
    rows = rows_of(flat, config)
    assert len(list(itertools.islice(dataset.records(config), rows + 1))) == rows > 0


def test_datasets_loads_a_flat_copy(flat: Path, tmp_path: Path) -> None:
    for config in ("real", "synthetic", "metadata", "controls"):
        data = datasets.load_dataset(str(flat), config, cache_dir=str(tmp_path / "cache"))
        assert sum(split.num_rows for split in data.values()) == rows_of(flat, config)


def test_links_and_pictures_of_the_flat_card_are_there(flat: Path) -> None:
    card = (flat / "README.md").read_text(encoding="utf-8")
    targets = [target for target in re.findall(r"\]\(([^)]+)\)", card) if "://" not in target]
    files = [target for target in targets if not target.startswith("#")]
    assert len(files) >= 5
    assert [target for target in files if not (flat / target).is_file()] == []
    headings = re.findall(r"^#+ (.+)$", card, re.MULTILINE)
    anchors = {"#" + re.sub(r"[^\w -]", "", head.lower()).replace(" ", "-") for head in headings}
    assert set(targets) - set(files) <= anchors


def test_snippets_of_the_flat_card_still_name_the_repository_s_files(flat: Path) -> None:
    card = (flat / "README.md").read_text(encoding="utf-8")
    assert 'load_dataset("csv", data_files="hf://datasets/someone/tiny/subsets/mini.csv"' in card


def snippet(text: str) -> str:
    (code,) = [code for code in re.findall(r"```python\n(.*?)```", text, re.S) if "rename" in code]
    return code


def test_the_how_to_s_snippet_gives_the_release_back(release: Path, flat: Path) -> None:
    code = snippet(HOW_TO.read_text(encoding="utf-8"))
    subprocess.run([sys.executable, "-c", code], cwd=flat, check=True, timeout=60)
    assert violations(flat) == []
    for name in [*listed_files(release), *UNLISTED]:
        assert sha256_file(flat / name) == sha256_file(release / name), name
    assert listed_files(flat) == listed_files(release)
    subprocess.run([sys.executable, "-c", code], cwd=flat, check=True, timeout=60)
    assert violations(flat) == []


def test_the_card_of_a_published_release_holds_the_how_to_s_snippet(flat: Path) -> None:
    card = (flat / "README.md").read_text(encoding="utf-8")
    assert snippet(card) == snippet(HOW_TO.read_text(encoding="utf-8"))


def test_a_path_within_another_is_not_replaced_in_it() -> None:
    paths = ["a/b.csv", "x/a/b.csv"]
    text = '["x/a/b.csv", "a/b.csv"]'
    flat = flat_text("croissant.json", text, paths)
    assert flat == '["x-a-b.csv", "a-b.csv"]'
    assert folder_text(flat, paths) == text


def test_a_text_that_holds_a_flat_name_already_is_refused() -> None:
    with pytest.raises(ArasError, match=r"README\.md: holds 'a-b\.csv', the name of a/b\.csv"):
        flat_text("README.md", "See a-b.csv and [this](a/b.csv).", ["a/b.csv"])
