"""The reader of captions on free text: its figures on captions with gold claims do not fall."""

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
GOLD = Path(__file__).parent / "gold"
LOCKED = "23f3670ebd7f22520fd4fa29ded2d2556047562bb3111ede7084a5f354222f60"
CAPTIONS = {"dev": 310, "kinds": 891, "locked": 150, "second": 152}
AT_LEAST = {
    "dev": {
        "presence_f1": 99,
        "absence_f1": 95,
        "places_f1": 96.5,
        "dominance_recall": 90,
        "dominance_precision": 97,
        "quantities_overlapping": 93,
    },
    "kinds": {
        "presence_f1": 99,
        "absence_f1": 93.5,
        "places_f1": 97.5,
        "dominance_recall": 98,
        "dominance_precision": 97.5,
        "quantities_overlapping": 97.5,
    },
    "locked": {
        "presence_f1": 98,
        "absence_f1": 88,
        "places_f1": 82.5,
        "dominance_recall": 80,
        "dominance_precision": 97,
        "quantities_overlapping": 86,
    },
    "second": {
        "presence_f1": 98.5,
        "absence_f1": 92,
        "places_f1": 93.5,
        "dominance_recall": 99,
        "dominance_precision": 78.5,
        "quantities_overlapping": 96.5,
    },
}
AT_MOST = {
    "dev": {"false_contradictions": 1, "true_that_score_0": 0},
    "kinds": {"false_contradictions": 1.3, "true_that_score_0": 2.3},
    "locked": {"false_contradictions": 4.3, "true_that_score_0": 1},
    "second": {"false_contradictions": 1, "true_that_score_0": 1.5},
}


def measured(name):
    script = ROOT / "scripts" / "measure_reader.py"
    command = [sys.executable, script, GOLD / f"{name}.jsonl"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    return json.loads(done.stdout)


@pytest.mark.parametrize("name", AT_LEAST)
def test_the_reader_reads_free_text_as_well_as_it_did(name):
    figures = measured(name)
    assert figures["captions"] == CAPTIONS[name]
    assert {
        key: figures[key] for key, least in AT_LEAST[name].items() if figures[key] < least
    } == {}
    assert {key: figures[key] for key, most in AT_MOST[name].items() if figures[key] > most} == {}


def test_the_locked_captions_are_those_that_were_locked():
    assert hashlib.sha256((GOLD / "locked.jsonl").read_bytes()).hexdigest() == LOCKED


def test_each_gold_claim_is_about_a_class_that_the_caption_says_is_there_or_is_not():
    for name in CAPTIONS:
        for line in (GOLD / f"{name}.jsonl").read_text(encoding="utf-8").splitlines():
            row = json.loads(line)
            assert abs(sum(row["shares"].values()) - 1) < 1e-6
            assert not set(row["present"]) & set(row["absent"])
            assert {key for key, _ in row["places"]} <= set(row["present"])
            assert row["reads"] or not row["present"]
