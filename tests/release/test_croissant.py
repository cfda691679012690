"""croissant.json: valid by mlcroissant's own word, and its records are those of the release."""

import itertools
import json
import subprocess
import sys
from pathlib import Path

import mlcroissant
import pyarrow.parquet as pq
import pytest

from builder.core.manifest import read_manifest
from builder.pipeline.project import Project
from builder.release.card import write_cards


@pytest.fixture(scope="module")
def release(project: Project) -> Path:
    return project.releases / project.recipe.dataset.version


def test_the_validator_accepts_it(release: Path) -> None:
    command = [sys.executable, "-m", "mlcroissant.scripts.validate"]
    ended = subprocess.run(
        [*command, "--jsonld", str(release / "croissant.json")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    dataset = mlcroissant.Dataset(jsonld=release / "croissant.json")
    issues = dataset.metadata.ctx.issues
    assert not issues.errors
    assert not issues.warnings


@pytest.mark.parametrize("config", ["real", "synthetic", "metadata", "augmented"])
def test_records_are_the_rows(release: Path, config: str) -> None:
    dataset = mlcroissant.Dataset(jsonld=release / "croissant.json")
    manifest = read_manifest(release)
    rows = sum(split.rows for split in manifest.configs[config].values())
    records = list(itertools.islice(dataset.records(config), rows + 1))
    assert len(records) == rows
    wanted = {
        row
        for split in manifest.configs[config].values()
        for name in split.files
        for row in pq.read_table(release / name, columns=["id"]).column("id").to_pylist()
    }
    assert {record[f"{config}/id"].decode() for record in records} == wanted


def test_records_of_the_control_captions_are_their_rows(release: Path) -> None:
    dataset = mlcroissant.Dataset(jsonld=release / "croissant.json")
    (name,) = read_manifest(release).configs["controls"]["test"].files
    columns = ["id", "stream", "control", "text"]
    records = {
        tuple(record[f"controls/{column}"].decode() for column in columns)
        for record in dataset.records("controls")
    }
    table = pq.read_table(release / name, columns=columns)
    assert records == {tuple(row.values()) for row in table.to_pylist()}
    assert len(records) == table.num_rows > 0


def test_every_shard_is_named_with_its_sum_and_size(release: Path) -> None:
    document = json.loads((release / "croissant.json").read_text())
    objects = {
        entry["contentUrl"]: entry
        for entry in document["distribution"]
        if entry["@type"] == "cr:FileObject"
    }
    shards = {file.path: file for file in read_manifest(release).files}
    shards = {path: file for path, file in shards.items() if path.endswith(".parquet")}
    assert objects.keys() == shards.keys()
    for path, file in shards.items():
        assert objects[path]["sha256"] == file.sha256
        assert objects[path]["contentSize"] == f"{file.bytes} B"


def test_a_doi_stands_in_it_when_there_is_one(release: Path, tmp_path: Path) -> None:
    import shutil

    copy = tmp_path / "release"
    shutil.copytree(release, copy)
    write_cards(copy, doi="10.5281/zenodo.1", concept_doi="10.5281/zenodo.0")
    document = json.loads((copy / "croissant.json").read_text())
    assert document["identifier"] == "https://doi.org/10.5281/zenodo.1"
    assert document["isVersionOf"] == "https://doi.org/10.5281/zenodo.0"
    assert "doi = {10.5281/zenodo.1}" in document["citeAs"]
