"""Scores of whatever stands in a caption column; what cannot be scored is missing, never zero."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from builder.captions.stage import load_backend
from builder.core.engine import Engine
from builder.core.store import Store
from builder.land.classes import count_pixels
from builder.land.columns import CAPTION, IMAGE
from builder.land.pictures import composition_columns, encode_png
from builder.land.prompts import Request
from builder.pipeline.project import Project
from builder.scores.near_duplicates import Repeats
from builder.scores.stage import Score
from builder.steps.plan import plan, run
from tests.makers import scene_like

MASK = np.zeros((16, 16), np.uint8)  # trees in the north, water in the south
MASK[9:] = 6
SCORE = Score("full")
TEXT = "Mostly forest in the north and water in the south."
NEED_COMPOSITION = {"grounding", "accuracy", "coverage", "chair_i", "f1", "tau_b", "leak"}


def scored(
    folder: Path,
    texts: list[str | None],
    masks: list[np.ndarray | None] | None = None,
    known: list[bool] | None = None,
    score: Score = SCORE,
) -> list[dict[str, Any]]:
    store = Store(folder / "work")
    n = len(texts)
    columns = composition_columns(np.tile(count_pixels(MASK), (n, 1)))
    given = [MASK] * n if masks is None else masks
    pictures = [
        None if mask is None else {"bytes": encode_png(mask), "path": "m"} for mask in given
    ]
    pixels = columns["pixels"].to_pylist()
    if known is not None:
        pixels = [counts if here else None for counts, here in zip(pixels, known, strict=True)]
    captions = [{"text": text, "error": None if text else "no answer"} for text in texts]
    table = {
        "id": pa.array([f"real/{i}" for i in range(n)], pa.string()),
        "mask": pa.array(pictures, IMAGE),
        "pixels": pa.array(pixels, columns["pixels"].type),
        "caption_full": pa.array(captions, CAPTION),
    }
    store.write("tiles", "real-0", pa.table(table), key="k")
    for stage in (score, Repeats("full")):
        assert not run(stage, store, Engine()).failed
    both = store.read("real-0", ["score_full", "repeat_full"]).to_pylist()
    return [{**row["score_full"], **row["repeat_full"]} for row in both]


def test_a_caption_that_fits_is_grounded(tmp_path: Path) -> None:
    (cell,) = scored(tmp_path, [TEXT])
    assert cell["grounding"] > 0.95
    assert cell["layout"] > 0.8
    assert cell["mentioned"] == ["Tree", "Water"]


def test_without_a_caption_every_score_is_missing(tmp_path: Path) -> None:
    missing, there = scored(tmp_path, [None, TEXT])
    assert {name: missing[name] for name in missing if missing[name] is not None} == {}
    assert there["n_words"] == 10


def test_without_a_composition_what_needs_it_is_missing(tmp_path: Path) -> None:
    without, whole = scored(tmp_path, [TEXT, TEXT], known=[False, True])
    assert all(without[name] is None for name in NEED_COMPOSITION)
    assert all(whole[name] is not None for name in NEED_COMPOSITION)
    assert without["n_words"] == whole["n_words"]


def test_without_a_mask_only_the_layout_is_missing(tmp_path: Path) -> None:
    without, whole = scored(tmp_path, [TEXT, TEXT], masks=[None, MASK])
    assert without["layout"] is None
    assert whole["layout"] is not None
    assert without["grounding"] > 0


def test_nuls_and_ten_thousand_words_are_read(tmp_path: Path) -> None:
    nul, long, plain = scored(
        tmp_path, [TEXT.replace(" and", "\0 and"), "forest and water " * 4000, TEXT]
    )
    assert nul["grounding"] == pytest.approx(plain["grounding"])
    assert long["n_words"] == 12_000
    assert long["coverage"] == pytest.approx(1)
    assert nul["near_duplicate_cluster"] == plain["near_duplicate_cluster"] == "real/0"
    assert long["near_duplicate_cluster"] is None


def test_an_empty_shard_has_no_scores(tmp_path: Path) -> None:
    assert scored(tmp_path, []) == []


RECIPE = """
[captions.full]
style = "full"
[captions.judged]
backend = "openai"
model = "any"
base_url = "http://127.0.0.1:1/v1"
sees = ["composition"]
prompt = "Describe {{ composition }}."
min_grounding = 0.5
[scores]
lexicon = "words/coast.toml"
"""
COAST = 'version = "coast-1"\n[classes]\nWater = ["wadi"]\n'


def project_with_lexicon(folder: Path) -> Project:
    (folder / "words").mkdir(parents=True)
    (folder / "words" / "coast.toml").write_text(COAST)
    (folder / "dataset.toml").write_text(RECIPE)
    return Project(folder)


def test_the_recipes_lexicon_is_laid_over_the_built_in_one(tmp_path: Path) -> None:
    score = next(
        stage for stage in project_with_lexicon(tmp_path).scores() if isinstance(stage, Score)
    )
    (cell,) = scored(tmp_path, ["Forest in the north, a wadi in the south."], score=score)
    assert cell["mentioned"] == ["Tree", "Water"]
    assert cell["layout"] > 0.8
    (without,) = scored(tmp_path / "plain", ["Forest in the north, a wadi in the south."])
    assert without["mentioned"] == ["Tree"]


def test_scores_are_stale_when_the_lexicon_says_something_else_not_when_it_moves(
    tmp_path: Path,
) -> None:
    project = project_with_lexicon(tmp_path)
    score = next(stage for stage in project.scores() if isinstance(stage, Score))
    scored(tmp_path, [TEXT], score=score)
    store = Store(tmp_path / "work")
    assert plan(score, store).stale == []
    file = tmp_path / "words" / "coast.toml"
    moved = file.rename(tmp_path / "moved.toml")
    assert plan(Score("full", lexicon=moved), store).stale == []
    moved.write_text(COAST.replace("wadi", "lough"))
    assert len(plan(Score("full", lexicon=moved), store).stale) == 1


def test_the_threshold_of_a_caption_stream_is_judged_with_the_recipes_lexicon(
    tmp_path: Path,
) -> None:
    project = project_with_lexicon(tmp_path)
    stage = project.caption("judged")
    before = stage.models()["lexicon"]
    backend: Any = load_backend(stage.stream, stage.backend, stage.ask, stage.running)
    water = Request(id="a", seed=0, pixels=np.array([0, 0, 0, 0, 0, 0, 9]), mask=None, image=None)
    assert [fit.grounding for fit in backend.score([water], ["A wadi."])] == [1]
    (tmp_path / "words" / "coast.toml").write_text(COAST.replace("wadi", "lough"))
    assert project.caption("judged").models()["lexicon"] != before


def test_a_constant_caption_tells_nothing_apart_in_its_dataset_of_either_kind(
    tmp_path: Path,
) -> None:
    store, text = Store(tmp_path / "work"), "Mostly grass in the north, some trees, no water."
    for kind, seed in (("real", 0), ("synthetic", 1)):
        tiles = scene_like.masks(40, seed=seed)
        if kind == "synthetic":
            tiles = [np.full_like(mask, 6) if i % 2 else mask for i, mask in enumerate(tiles)]
        pixels = np.array([count_pixels(mask) for mask in tiles])
        names = [f"{kind}/{i}" for i in range(40)]
        pictures = [{"bytes": encode_png(mask), "path": "m"} for mask in tiles]
        table = {
            "id": pa.array(names),
            "mask": pa.array(pictures, IMAGE),
            "pixels": composition_columns(pixels)["pixels"],
            "caption_full": pa.array([{"text": text, "error": None}] * 40, CAPTION),
        }
        store.write("tiles", f"{kind}-0", pa.table(table), key="k")
    assert not run(SCORE, store, Engine()).failed
    for shard in ("real-0", "synthetic-0"):
        cells = store.read(shard, ["score_full"]).column(0).to_pylist()
        assert np.mean([cell["discrimination"] for cell in cells]) == pytest.approx(0.5, abs=1e-3)
        assert len({cell["discrimination"] for cell in cells}) > 1
    store.write("tiles", "real-1", pa.table(table), key="k")
    assert len(plan(SCORE, store).stale) == 3  # another tile to rank among
