"""The config embeddings: made by a build, checked, and read by everybody who benchmarks."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from builder.cli import cli
from builder.core import manifest
from builder.core.engine import Engine
from builder.core.errors import ArasError
from builder.pipeline.project import Project
from builder.pipeline.run import run_steps
from builder.release.check import violations
from builder.release.package import package
from builder.retrieval.gallery import load
from builder.retrieval.vectors import from_release
from tests.makers.damage import copy_of, restamp, rewrite, rows_edited

FILE = "embeddings/test-00000-of-00001.parquet"
RECIPE = """
[retriever]
steps = 2
batch = 4
size = 32
[bench]
embeddings = "retriever"
splits = ["test"]
"""


@pytest.fixture(scope="module")
def directory(tmp_path_factory, project: Project) -> Path:
    """The tiny project, built again with vectors of its own retriever."""
    folder = tmp_path_factory.mktemp("embedded") / "tiny"
    shutil.copytree(project.directory, folder, ignore=shutil.ignore_patterns("release"))
    with (folder / "dataset.toml").open("a") as recipe:
        recipe.write(RECIPE)
    embedded = Project(folder)
    run_steps(embedded, embedded.steps(), Engine("serial"))
    package(embedded.inputs())
    return folder


@pytest.fixture(scope="module")
def release(directory: Path) -> Path:
    return directory / "release/0.1.0"


def test_every_test_tile_and_caption_has_a_vector(release: Path) -> None:
    from datasets import load_dataset

    rows = load_dataset(str(release), "embeddings", split="test")
    tiles = load(release, min_km=0.2)
    images = [row["id"] for row in rows if row["owner"] is None]
    texts = [row["id"] for row in rows if row["owner"] is not None]
    assert sorted(images) == sorted(tiles.ids)
    assert sorted(texts) == sorted(tiles.texts(list(tiles.streams)).ids)
    vectors = np.array(rows["vector"])
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    record = manifest.read_manifest(release).facts.embeddings
    assert record
    assert record.model == "retriever"
    assert record.revision
    assert len(record.revision) == 64
    assert list(manifest.read_manifest(release).configs["embeddings"]) == ["test"]


def test_a_release_with_vectors_is_right_and_its_card_tells_them(release: Path) -> None:
    assert violations(release) == []
    card = (release / "README.md").read_text()
    assert "| `embeddings` | – | – |" in card
    assert "`retriever`" in card


def test_the_benchmark_scores_them_as_the_model_itself(directory: Path) -> None:
    figures = []
    for model in ("embeddings", str(directory / "models/retriever")):
        result = CliRunner().invoke(
            cli,
            ["-C", str(directory), "bench", "retrieval", "release/0.1.0", "--model", model,
             "--min-km", "0.2", "--stream", "full", "--json"],
        )  # fmt: skip
        assert result.exit_code == 0, result.output
        figures.append(json.loads(result.stdout)["streams"]["full"]["S"])
    for way in ("t2i", "i2t"):
        assert figures[0][way] == pytest.approx(figures[1][way])


def test_one_file_is_images_texts_and_owners(release: Path) -> None:
    path = str(release / FILE)
    words = ["bench", "embeddings", "--images", path, "--texts", path, "--owner", path, "--json"]
    result = CliRunner().invoke(cli, words)
    assert result.exit_code == 0, result.output
    assert 0 <= json.loads(result.stdout)["mR"] <= 100


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"vector": [2.0] * 128}, "is not of unit length"),
        ({"vector": [float("nan")] * 128}, "is not of unit length"),
        ({"vector": [1.0]}, "its vector has 1 numbers, others 128"),
        ({"owner": None}, "has only one of owner and stream"),
        ({"id": "real/nobody"}, "holds ids that no row of the split has"),
    ],
)
def test_each_fault_is_named(release: Path, tmp_path: Path, change, message: str) -> None:
    bad = copy_of(release, tmp_path)
    rewrite(bad / FILE, rows_edited(lambda rows: rows[5].update(change)))
    restamp(bad)
    assert any(message in line for line in violations(bad))


def test_a_release_without_vectors_says_so(project: Project) -> None:
    tiles = load(project.releases / "0.1.0", min_km=0.2)
    with pytest.raises(ArasError, match=r"no embeddings of split test; \[bench\]"):
        from_release(tiles, tiles.texts(["full"]))
