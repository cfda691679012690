"""Grounding: the worked examples, what is missing, masks, and what the scores do not depend on."""

import csv
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from builder.core.errors import ArasError
from builder.land.classes import CLASSES
from builder.scores.caption_scores import SCORES, score_captions
from builder.scores.leakage import NullGrounding, null_grounding

REAL = Path(__file__).parents[2].parent / "shared" / "data" / "aras400k_captions"

STEPPE = {"Grass": 79, "Tree": 15, "Crop": 4, "Built-up": 1, "Barren": 1}
FARMS = {"Crop": 57, "Built-up": 21, "Barren": 12, "Grass": 10}
MEADOW = {"Grass": 92, "Tree": 5, "Crop": 3}
OF_STEPPE = (
    "Dominantly grass-covered with a light woodland presence, this region shows limited "
    "cultivation and almost negligible urban or barren patches, nature largely untouched."
)
OF_FARMS = (
    "A predominantly agricultural landscape, where croplands dominate more than half the area, "
    "interspersed with urban development, open grasslands, and patches of barren land."
)
DESERT = (
    "A predominantly barren, arid desert landscape with sparse vegetation and no visible water."
)
NUMBERS = (
    "The scene is 79% grassland with 15% tree cover, 4% cropland, 1% built-up and 1% barren land."
)


def shares(percent):
    return [percent.get(name, 0) / 100 for name in CLASSES]


def score(text, percent, mask=None):
    return score_captions([text], [shares(percent)], [mask]).to_pylist()[0]


@pytest.mark.parametrize(
    ("text", "percent", "a", "v", "g", "chair", "leak", "f1", "tau"),
    [
        (OF_STEPPE, STEPPE, 1, 1, 1, 0, 0, 1, 0.949),
        (OF_FARMS, FARMS, 1, 1, 1, 0, 0, 1, 0.667),
        (OF_STEPPE, FARMS, 0.353, 1, 0.521, 0.2, 0, 0.889, -0.20),
        (OF_FARMS, STEPPE, 0.467, 0.85, 0.603, 0, 0, 0.889, 0.183),
        (DESERT, MEADOW, 0.167, 0, 0, 1, 0, 0, None),
        (NUMBERS, STEPPE, 1, 1, 1, 0, 1, 1, 0.949),
    ],
)
def test_worked_examples(text, percent, a, v, g, chair, leak, f1, tau):
    row = score(text, percent)
    values = [row[name] for name in ("accuracy", "coverage", "grounding", "chair_i", "leak", "f1")]
    assert values == pytest.approx([a, v, g, chair, leak, f1], abs=5e-4)
    assert row["tau_b"] == (None if tau is None else pytest.approx(tau, abs=5e-4))


def test_contradictions_name_the_class_its_share_and_the_words():
    assert score(DESERT, MEADOW)["contradictions"] == [
        "Barren 0 %, but “barren”",
        "vegetation 100 %, but “sparse”",
        "Barren 0 %, but “predominantly”",
    ]
    assert score(OF_STEPPE, STEPPE)["contradictions"] == []


def test_absence_is_judged_by_the_share_that_is_there():
    none, some, much = (
        score("No water.", {"Water": w, "Grass": 100 - w})["accuracy"] for w in (0, 2, 30)
    )
    assert (none, some, much) == pytest.approx((1, 0.6, 0))


def test_a_joint_dominance_is_right_when_both_lead():
    text = "Grassland and cropland dominate."
    assert score(text, {"Grass": 50, "Crop": 45, "Tree": 5})["accuracy"] == 1
    assert score(text, {"Grass": 50, "Tree": 45, "Crop": 5})["accuracy"] < 1


def test_rows_without_text_or_composition_are_missing_never_zero():
    texts = ["Forest.", None, "  \0\n", "Forest.", "It rains."]
    known = shares({"Tree": 100})
    table = score_captions(texts, [known, known, known, [np.nan] * 7, known])
    assert table["grounding"].to_pylist() == [1, None, None, None, 0]
    assert table["accuracy"].to_pylist() == [1, None, None, None, None]
    assert table["n_words"].to_pylist() == [1, None, None, 1, 2]
    assert table["mentioned"].to_pylist() == [["Tree"], None, None, ["Tree"], []]
    assert score_captions(texts, None)["grounding"].null_count == len(texts)


def test_layout_counts_only_where_there_is_a_mask():
    mask = np.full((256, 256), 2, dtype=np.uint8)
    mask[:64, :64] = 6
    percent = {"Grass": 94, "Water": 6}
    right = "Grassland with a small lake in the upper left corner."
    wrong = "Grassland with a small lake in the lower right corner."
    assert score(right, percent)["layout"] is None
    assert score(right, percent, mask)["layout"] == 1
    assert score(right, percent, mask)["accuracy"] == 1
    row = score(wrong, percent, mask)
    assert row["layout"] == 0
    assert row["contradictions"] == ["Water 0 % of it there, but “in the lower right corner”"]
    everywhere = np.full((64, 64), 6, dtype=np.uint8)
    chance = score("A lake in the upper left corner.", {"Water": 100}, everywhere)
    assert chance["layout"] == 0.5


def test_leak_counts_numerals_that_equal_a_present_class():
    row = score("About 79 parts grass, 20% trees and 15% something.", STEPPE)
    assert row["leak"] == pytest.approx(2 / 5)
    assert row["percentages"] == 2
    assert row["fabricated"] == 1
    assert row["digits"]
    assert score("Half of it is grass.", STEPPE)["fraction_words"] == 1


def test_exact_shares_and_their_rounded_percentages_agree_on_what_is_present():
    exact = np.array([[0.0044, 0, 0.9956, 0, 0, 0, 0]])
    row = score_captions(["Grass and trees."], exact).to_pylist()[0]
    assert row["chair_i"] == 0.5
    assert row["recall"] == 1


def test_the_table_has_the_published_schema_also_without_rows():
    assert score_captions([], np.zeros((0, 7))).schema == SCORES
    assert score_captions(["Forest."], [shares({"Tree": 100})]).schema == SCORES
    assert isinstance(score_captions([None], None), pa.Table)


def test_scores_do_not_depend_on_the_neighbours():
    texts = [OF_STEPPE, OF_FARMS, DESERT, NUMBERS, None, "No water."] * 5
    rows = [shares(STEPPE), shares(FARMS), shares(MEADOW)] * 10
    whole = score_captions(texts, rows).to_pylist()
    parts = [score_captions(texts[i : i + 7], rows[i : i + 7]) for i in range(0, 30, 7)]
    assert whole == [row for part in parts for row in part.to_pylist()]


def test_shares_that_are_no_composition_name_their_row():
    with pytest.raises(ArasError, match=r"row 1: the class shares sum to 100"):
        score_captions(["a", "b"], [shares(STEPPE), [100, 0, 0, 0, 0, 0, 0]])
    with pytest.raises(ArasError, match="shape"):
        score_captions(["a"], np.zeros((2, 7)))


def test_nulls_are_below_the_own_tile_and_the_same_class_null_is_the_harder_one():
    texts = [OF_STEPPE, OF_FARMS] * 10
    tilted = [{**STEPPE, "Grass": 79 - i, "Tree": 15 + i} for i in range(10)]
    rows = [shares(p) for steppe in tilted for p in (steppe, FARMS)]
    nulls = null_grounding(texts, rows, seed=3)
    assert nulls.own > nulls.shuffled_same_dominant - 0.01 > nulls.shuffled
    assert nulls == null_grounding(texts, rows, seed=3)
    alone = null_grounding(["Forest."], [shares({"Tree": 100})])
    assert alone == NullGrounding(own=1.0, shuffled=None, shuffled_same_dominant=None)


@pytest.mark.skipif(not REAL.is_dir(), reason="the shared caption rows are not here")
def test_real_streams_that_saw_the_composition_are_better_grounded_than_those_that_did_not():
    rows = [r for f in sorted(REAL.glob("*.csv")) for r in csv.DictReader(f.open(encoding="utf-8"))]
    composition = [[int(row[name]) / 100 for name in CLASSES] for row in rows]
    mean = {}
    for stream in ("text_qwen3-4b", "hybrid_qwen3-vl-8b", "vision_qwen3-vl-8b"):
        texts = [row[stream] for row in rows]
        nulls = null_grounding(texts, composition)
        mean[stream] = nulls.own
        assert nulls.own > nulls.shuffled_same_dominant
    assert min(mean["text_qwen3-4b"], mean["hybrid_qwen3-vl-8b"]) > 0.9
    assert mean["vision_qwen3-vl-8b"] < 0.7
