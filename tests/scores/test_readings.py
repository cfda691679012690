"""The claims of a caption come out as columns: what the reader took the text to say."""

import csv
import json

import pyarrow.parquet as pq
import pytest

from builder.land.classes import CLASSES
from builder.land.score_columns import scores_of
from builder.scores.caption_scores import score_captions
from builder.scores.file_scores import score_file

TEXT = (
    "Predominantly cropland, with about 20 % trees in the upper left, no water. The southern half "
    "has no buildings. Trees and shrubs together cover 30 %."
)
SHARES = [0.2, 0.1, 0, 0.7, 0, 0, 0]


def read(text):
    return score_captions([text], None).to_pylist()[0]


def test_a_caption_comes_out_as_what_it_says():
    row = read(TEXT)
    assert row["present"] == row["mentioned"] == ["Crop", "Tree", "Shrub"]
    assert row["absent"] == ["Water"]
    assert row["dominant"] == "Crop"
    shares = {item["class"]: (item["low"], item["high"]) for item in row["quantities"]}
    assert shares["Crop"] == pytest.approx((0.4, 1))
    assert shares["Tree"][0] < 0.2 < shares["Tree"][1] < 0.3
    assert shares["Tree+Shrub"][0] < 0.3 < shares["Tree+Shrub"][1] < 0.4
    assert row["places"] == [
        {"class": "Tree", "region": "upper left", "absent": False},
        {"class": "Built-up", "region": "lower", "absent": True},
    ]


def test_two_classes_that_dominate_together_are_no_dominant_class():
    row = read("Trees and grass dominate.")
    assert row["dominant"] is None
    assert "Tree+Grass" in [item["class"] for item in row["quantities"]]


def test_no_text_has_no_reading_and_a_text_that_says_nothing_an_empty_reading():
    missing, empty = score_captions([None, "A quiet morning."], None).to_pylist()
    names = ("present", "absent", "quantities", "places")
    assert [missing[name] for name in names] == [None] * 4
    assert [empty[name] for name in names] == [[]] * 4
    assert missing["dominant"] is empty["dominant"] is None


def test_a_denied_group_denies_each_of_its_classes():
    assert read("There is no vegetation.")["absent"] == ["Tree", "Shrub", "Grass", "Crop"]


def test_every_format_of_the_file_holds_the_reading(tmp_path):
    source = tmp_path / "c.csv"
    with source.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([["text", *CLASSES], [TEXT, *SHARES]])
    for suffix in ("parquet", "jsonl", "csv"):
        score_file(source, out=tmp_path / f"s.{suffix}")
    table = pq.read_table(tmp_path / "s.parquet")
    for name in ("present", "absent", "dominant", "quantities", "places", "contradictions"):
        assert table.schema.field(name).type == scores_of("score")[name].type
    assert table["places"].to_pylist()[0] == read(TEXT)["places"]
    line = json.loads((tmp_path / "s.jsonl").read_text(encoding="utf-8"))
    assert {"class": "Crop", "low": 0.4, "high": 1.0} in line["quantities"]
    with (tmp_path / "s.csv").open(newline="", encoding="utf-8") as file:
        (row,) = csv.DictReader(file)
    assert "Crop 0.4 1.0" in row["quantities"].split("; ")
    assert row["places"] == "Tree upper left; Built-up lower absent"
    assert row["present"] == "Crop; Tree; Shrub"
