"""Scores of whatever stands in a caption column; what cannot be scored is missing, never zero."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from builder.engine import Engine
from builder.landcover import count_pixels
from builder.pictures import composition_columns, encode_png
from builder.plan import run
from builder.schema import CAPTION, IMAGE
from builder.stages.repeats import Repeats
from builder.stages.score import Score
from builder.store import Store

MASK = np.zeros((16, 16), np.uint8)  # trees in the north, water in the south
MASK[9:] = 6
TEXT = "Mostly forest in the north and water in the south."
NEED_COMPOSITION = {"grounding", "accuracy", "coverage", "chair_i", "f1", "tau_b", "leak"}


def scored(
    folder: Path,
    texts: list[str | None],
    masks: list[np.ndarray | None] | None = None,
    known: list[bool] | None = None,
) -> list[dict[str, Any]]:
    store = Store(folder / "work")
    n = len(texts)
    columns = composition_columns(np.tile(count_pixels(MASK), (n, 1)))
    given = [MASK] * n if masks is None else masks
    pictures = [None if one is None else {"bytes": encode_png(one), "path": "m"} for one in given]
    pixels = columns["pixels"].to_pylist()
    if known is not None:
        pixels = [one if here else None for one, here in zip(pixels, known, strict=True)]
    captions = [{"text": text, "error": None if text else "no answer"} for text in texts]
    table = {
        "id": pa.array([f"real/{i}" for i in range(n)], pa.string()),
        "mask": pa.array(pictures, IMAGE),
        "pixels": pa.array(pixels, columns["pixels"].type),
        "caption_full": pa.array(captions, CAPTION),
    }
    store.write("tiles", "real-0", pa.table(table), key="k")
    for stage in (Score("full"), Repeats("full")):
        assert not run(stage, store, Engine()).failed
    both = store.read("real-0", ["score_full", "repeat_full"]).to_pylist()
    return [{**one["score_full"], **one["repeat_full"]} for one in both]


def test_a_caption_that_fits_is_grounded(tmp_path: Path) -> None:
    (one,) = scored(tmp_path, [TEXT])
    assert one["grounding"] > 0.95
    assert one["layout"] > 0.8
    assert one["mentioned"] == ["Tree", "Water"]


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
