"""benchmark/: what mteb makes of a release's test tiles is what `aras bench retrieval` makes."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml

from builder.core.files import read_json
from builder.core.manifest import read_manifest
from builder.pipeline.project import Project
from builder.release import benchmark
from builder.release.check import violations
from builder.retrieval.benchmark import Model, run
from builder.retrieval.gallery import load
from builder.retrieval.result import Evaluation
from tests.makers.bench_release import bench_release, caption
from tests.makers.damage import copy_of, restamp, rewrite, rows_edited
from tests.makers.tiny_clip import tiny_clip

PROGRAM = Path(__file__).with_name("run_mteb.py")
ROOT = Path(__file__).parents[2]
TOYS = ("colours", "hashed")
MODELS = (*TOYS, "clip")
WAYS = ("t2i", "i2t")

Scores = dict[str, dict[str, dict[str, Any]]]
"""Task → subset → column → value, of mteb."""


def with_benchmark(folder: Path, **sizes: int) -> Path:
    release = bench_release(folder, **sizes)
    assert benchmark.write_benchmark(release, read_manifest(release))
    benchmark.write_texts(release, read_manifest(release))
    return release


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return with_benchmark(tmp_path_factory.mktemp("benchmark"), test=40)


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    words = [caption(name, row) for name in ("numbers", "words") for row in _compositions()]
    return tiny_clip(tmp_path_factory.mktemp("clip"), words)


def _compositions() -> Any:
    import numpy as np

    return np.random.default_rng(0).dirichlet([0.4] * 7, 20)


@pytest.fixture(scope="module")
def by_mteb(
    release: Path, clip: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Scores]:
    """Model → what mteb, offline, gives for every task and subset."""
    folder = tmp_path_factory.mktemp("mteb")
    specs = [f"tests.makers.toy_encoders:{name}" for name in TOYS]
    offline = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "HF_HOME": str(folder / "hf")}
    command = [sys.executable, str(PROGRAM), str(release), str(folder / "cache"), *specs, str(clip)]
    answer = subprocess.run(
        command,
        env={**os.environ, **offline, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert answer.returncode == 0, answer.stderr[-3000:]
    scores: dict[str, Scores] = {name: {} for name in MODELS}
    for path in folder.glob("cache/**/*Retrieval.json"):
        value = json.loads(path.read_text())
        model = next(name for name in MODELS if f"toy__{name}" in path.parts)
        subsets = {each["hf_subset"]: each for each in value["scores"]["test"]}
        scores[model][value["task_name"]] = subsets
    return scores


@pytest.fixture(scope="module")
def by_aras(release: Path, clip: Path) -> dict[str, dict[str, Evaluation]]:
    specs = {name: f"tests.makers.toy_encoders:{name}" for name in TOYS} | {"clip": str(clip)}
    rows = load(release, near="leave-out")
    return {name: run(rows, Model(spec)).result.streams for name, spec in specs.items()}


def test_mteb_gives_the_recalls_of_aras_for_each_protocol_stream_and_direction(
    release: Path, by_mteb: dict[str, Scores], by_aras: dict[str, dict[str, Evaluation]]
) -> None:
    compared = 0
    for task in read_json(release / benchmark.FACTS)["tasks"]:
        for model in MODELS:
            for stream in ("numbers", "words", "all"):
                own = getattr(by_aras[model][stream], task["protocol"])
                theirs = by_mteb[model][task["name"]][stream]
                for k in (1, 5, 10):
                    ours = getattr(own, task["way"])[f"R@{k}"] / 100
                    assert theirs[f"R_at_{k}"] == pytest.approx(ours, abs=1e-4), (task, stream)
                    compared += 1
                if task["protocol"] == "C":
                    ours = getattr(own.graded, task["way"]) / 100
                    assert theirs["main_score"] == pytest.approx(ours, abs=1e-4), (task, stream)
    assert compared == 6 * 3 * 3 * 3


def test_mtebs_own_columns_are_these_figures_where_no_scores_tie(
    release: Path, by_mteb: dict[str, Scores]
) -> None:
    """``numbers`` hardly repeats itself: hit rates are recalls, and recall_at_10 of all is not."""
    for name, protocol in (("Striped", "S"), ("StripedMerged", "D")):
        for way in ("T2I", "I2T"):
            scores = by_mteb["hashed"][f"{name}{way}Retrieval"]
            if (way, protocol) != ("I2T", "S"):  # there equal captions tie
                for k in (1, 5, 10):
                    own = scores["numbers"][f"hit_rate_at_{k}"]
                    assert own == pytest.approx(scores["numbers"][f"R_at_{k}"], abs=1e-4)
    graded = by_mteb["hashed"]["StripedGradedT2IRetrieval"]["words"]
    assert graded["ndcg_at_10"] == pytest.approx(graded["expected_ndcg_at_10"], abs=1e-4)
    several = by_mteb["hashed"]["StripedMergedI2TRetrieval"]["all"]
    assert several["recall_at_10"] < several["hit_rate_at_10"]


def test_the_task_file_is_short_and_the_folder_holds_no_picture(release: Path) -> None:
    assert len((release / benchmark.FOLDER / "task.py").read_text().splitlines()) < 60
    schema = pq.read_schema(release / benchmark.CAPTIONS)
    assert schema.names == ["id", "tile", "stream", "text", "merged", "merged_of_all"]
    assert {path.suffix for path in (release / benchmark.FOLDER).iterdir()} == {
        *(".md", ".py", ".json", ".parquet")
    }


def test_the_hubs_file_names_each_task_and_stream(release: Path) -> None:
    about = yaml.safe_load((release / benchmark.EVAL).read_text())
    assert about["evaluation_framework"] == "mteb"
    assert len(about["tasks"]) == 6 * (1 + 3)
    whole, part = about["tasks"][:2]
    assert whole == {"id": "StripedT2IRetrieval"}
    assert part == {
        "id": "StripedT2IRetrieval_numbers_test",
        "config": "numbers",
        "split": "test",
    }


def test_chance_is_exact(release: Path) -> None:
    facts = read_json(release / benchmark.FACTS)["streams"]
    assert facts["words"]["chance"]["S"]["t2i"]["R@10"] == pytest.approx(25)
    assert facts["all"]["chance"]["S"]["i2t"]["R@1"] == pytest.approx(100 * 2 / 80)
    distinct = facts["words"]["distinct_captions"]
    assert distinct < facts["words"]["captions"]
    assert facts["words"]["chance"]["D"]["i2t"]["R@1"] == pytest.approx(100 / distinct)


def test_tiles_near_train_tiles_are_left_out(tmp_path: Path) -> None:
    release = bench_release(tmp_path, test=10, test_west=30.08)
    assert benchmark.write_benchmark(release, read_manifest(release))
    facts = read_json(release / benchmark.FACTS)["release"]
    assert 0 < facts["left_out_near_train"] < 10
    rows = load(release, near="leave-out")
    assert facts["ids_sha256"] == rows.facts.ids_sha256
    assert facts["rows"] + facts["left_out_near_train"] == 10


def test_a_packaged_release_holds_it_and_check_names_other_captions(
    project: Project, tmp_path: Path
) -> None:
    release = copy_of(project.releases / "0.1.0", tmp_path)
    if not (release / benchmark.FACTS).is_file():
        pytest.fail("the tiny project has no fair test tile")
    assert violations(release) == []

    def edit(rows: list[dict[str, Any]]) -> None:
        rows[0]["text"] += "."

    rewrite(release / benchmark.CAPTIONS, rows_edited(edit))
    restamp(release)
    assert violations(release) == [
        "benchmark/: its captions and facts are not those of the test rows"
    ]
