"""Texts and compositions that nobody meant to score: counted for what they are, never as wrong."""

import csv
import json
import math

import numpy as np
import pytest

from builder.core.errors import ArasError
from builder.land.classes import CLASSES
from builder.scores.caption_scores import score_captions
from builder.scores.file_scores import score_file

GRASS = [0, 0, 1, 0, 0, 0, 0]
UNREAD = {
    "German": "Ein dichter Wald mit einem Fluss im Norden.",
    "French": "Une forêt dense avec une rivière dans la vallée.",
    "Spanish": "El bosque y los cultivos del norte.",
    "Turkish": "Yoğun orman ve tarım alanları.",
    "Arabic": "غابة كثيفة ونهر في الشمال",
    "Hebrew": "יער צפוף ונהר בצפון",
    "Chinese": "北部有茂密的森林和一条河",
    "digits": "79 15 4 1 1",
    "emoji": "🌲🌲🌊🏙️",
    "signs": "— … !!",
}


def score(text, shares=GRASS):
    return score_captions([text], [shares]).to_pylist()[0]


@pytest.mark.parametrize("text", UNREAD.values(), ids=UNREAD)
def test_what_is_no_english_is_unread_and_not_wrong(text):
    row = score(text)
    assert row["unread"]
    assert [row[name] for name in ("grounding", "accuracy", "coverage", "recall")] == [None] * 4
    assert row["discrimination"] is None
    assert not row["contradictions"]


@pytest.mark.parametrize("text", ["A quiet morning.", "The scene is calm.", "Grass", "Wald, grass"])
def test_english_without_land_cover_is_read_and_so_is_a_class_name_alone(text):
    row = score(text)
    assert not row["unread"]
    assert row["grounding"] == (1 if "grass" in text.lower() else 0)


def test_a_class_name_alone_claims_that_it_is_there():
    row = score("Water")
    assert row["present"] == ["Water"]
    assert row["grounding"] == 0
    assert row["discrimination"] < 0.5


def test_ten_thousand_words_are_read():
    row = score("The grass is green and wide. " * 1_700)
    assert row["n_words"] == 10_200
    assert row["grounding"] == 1


def test_signs_around_english_change_nothing():
    assert score("🌾 Grass \u202eeverywhere\u202c 🌾")["present"] == ["Grass"]


@pytest.mark.parametrize("shares", [[0.5] * 7, [0] * 7, [-0.5, 0, 1.5, 0, 0, 0, 0]])
def test_a_composition_that_is_none_is_refused_with_its_row(shares):
    with pytest.raises(ArasError, match="row 1: the class shares sum to"):
        score_captions(["Grass.", "Grass."], [GRASS, shares])


def test_a_file_counts_what_was_not_read_and_leaves_it_out_of_the_means(tmp_path):
    file = tmp_path / "c.csv"
    texts = ["The tile is all grass.", *UNREAD.values()]
    with file.open("w", newline="", encoding="utf-8") as out:
        csv.writer(out).writerows([["text", *CLASSES], *([text, *GRASS] for text in texts)])
    summary = score_file(file, text=("text",), out=tmp_path / "s.jsonl")
    means = summary.streams["text"].means
    lines = (tmp_path / "s.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    read = [row for row in rows if row["unread"] is False]
    assert len(read) == 1
    unread = sum(bool(row["unread"]) for row in rows)
    assert unread >= 8  # a reader of tables may take signs alone for no caption
    assert math.isclose(means["unread"], unread / (unread + 1))
    assert means["grounding"] == 1
    assert np.isclose(summary.streams["text"].null_grounding.own, 1)
