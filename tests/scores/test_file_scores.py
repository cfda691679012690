"""Scoring whole files: the summary, the rows, and what they do not depend on."""

import csv
import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from builder.core.errors import ArasError
from builder.land.classes import CLASSES
from builder.scores import file_scores
from builder.scores.file_scores import score_file

TEXTS = {
    "Tree": "Dense forest covers the whole scene and no water is visible.",
    "Grass": "The scene is predominantly grassland.",
    "Water": "A desert of sand with a single village in it.",
}


def make(path, copies=4):
    with path.open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["filename", *CLASSES, "own", "same"])
        for i in range(copies):
            for name, text in TEXTS.items():
                shares = [100 if k == name else 0 for k in CLASSES]
                rows.writerow([f"{name}{i}.png", *shares, f"{text} Tile {i}.", "A landscape."])
    return path


def test_the_summary_counts_and_averages_each_stream_and_all(tmp_path):
    summary = score_file(make(tmp_path / "c.csv"), text=("own", "same")).as_json()
    own, same, both = (summary["streams"][name] for name in ("own", "same", "all"))
    assert summary["composition"] == "percent"
    assert (own["n"], own["unique"], own["redundancy"]) == (12, 12, 0)
    assert own["normalised_redundancy"]["words_without_numbers"] == pytest.approx(1 - 3 / 12)
    assert same["redundancy"] == same["near_duplicate_redundancy"] == pytest.approx(1 - 1 / 12)
    assert both["n"] == 24
    assert both["unique"] == 13
    assert own["means"]["grounding"] == pytest.approx(2 / 3, abs=1e-6)
    assert same["means"]["accuracy"] is None
    assert own["null_grounding"]["own"] == pytest.approx(own["means"]["grounding"], abs=1e-6)
    assert own["means"]["digit_rate"] == 1
    assert own["means"]["percentage_rate"] == 0
    json.dumps(summary, allow_nan=False)


def test_one_row_per_caption_with_its_id_and_stream(tmp_path):
    out = tmp_path / "scores.parquet"
    score_file(make(tmp_path / "c.csv"), text=("own", "same"), out=out)
    rows = pq.read_table(out).to_pylist()
    assert [row["caption"] for row in rows] == list(range(24))
    assert [row["stream"] for row in rows[:4]] == ["own", "same"] * 2
    assert rows[4]["filename"] == "Water0.png"
    assert (rows[0]["grounding"], rows[4]["grounding"]) == (1, 0)
    assert rows[4]["contradictions"][0].startswith("Barren 0 %")
    assert {row["near_duplicate_of"] for row in rows if row["stream"] == "same"} == {1}


def test_batches_and_workers_make_no_difference(tmp_path, monkeypatch):
    file = make(tmp_path / "c.csv", copies=10)
    single = score_file(file, text=("own",), out=tmp_path / "one.csv").as_json()
    monkeypatch.setattr(file_scores, "BATCH", 7)
    many = score_file(file, text=("own",), out=tmp_path / "many.csv", workers=2).as_json()
    assert (tmp_path / "one.csv").read_bytes() == (tmp_path / "many.csv").read_bytes()
    assert single["streams"]["own"]["unique"] == many["streams"]["own"]["unique"]
    assert single["streams"]["own"]["means"] == pytest.approx(many["streams"]["own"]["means"])


def test_without_class_columns_only_the_words_are_scored(tmp_path):
    file = tmp_path / "c.jsonl"
    file.write_text('{"text": "Forest (86%)."}\n{"text": "forest (86%)"}\n{"text": null}\n')
    summary = score_file(file, out=tmp_path / "s.jsonl").as_json()
    stream = summary["streams"]["text"]
    assert (stream["n"], stream["missing"], stream["scored"]) == (2, 1, 0)
    assert stream["near_duplicate_redundancy"] == 0.5
    assert stream["means"]["grounding"] is None
    assert stream["means"]["percentage_rate"] == 1
    rows = [json.loads(line) for line in (tmp_path / "s.jsonl").read_text().splitlines()]
    assert [row["grounding"] for row in rows] == [None] * 3
    assert [row["percentages"] for row in rows] == [1, 1, None]


def test_a_source_column_lets_the_source_leak_show(tmp_path):
    rows = ["id,kind,text"]
    rows += [f"{i},synthetic,This satellite image shows forest {i % 7}" for i in range(30)]
    rows += [f"{i},real,A forest {i % 7} on a hill" for i in range(30)]
    file = tmp_path / "c.csv"
    file.write_text("\n".join(rows) + "\n")
    leak = score_file(file).as_json()["streams"]["text"]["source_leak"]
    assert leak["auc"] == 1
    assert (leak["n_real"], leak["n_synthetic"]) == (30, 30)


def test_captions_of_one_tile_stand_in_one_fold(tmp_path):
    """Each tile has a word of its own in its five captions: it tells the tile, not its cover."""
    draw = np.random.default_rng(0)
    rows = []
    for i in range(100):
        shares = dict(zip(CLASSES, draw.dirichlet(np.full(7, 0.3)).tolist(), strict=True))
        word = f"{chr(97 + i // 26)}{chr(97 + i % 26)}" * 3
        kind = "synthetic" if i % 2 else "real"
        rows += [{"filename": f"{i}.png", "kind": kind, "text": f"Scene {word}", **shares}] * 5
    file = tmp_path / "c.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    apart = score_file(file).as_json()["streams"]["text"]
    file.write_text("".join(json.dumps({**row, "filename": None}) + "\n" for row in rows))
    mixed = score_file(file).as_json()["streams"]["text"]
    assert mixed["structural_leakage"]["r2_text"] > 0.9
    assert apart["structural_leakage"]["r2_text"] < 0.1
    assert mixed["source_leak"]["auc"] > 0.95
    assert apart["source_leak"]["auc"] < 0.65


def test_the_input_is_not_overwritten_and_nothing_to_score_is_an_error(tmp_path):
    file = make(tmp_path / "c.csv")
    with pytest.raises(ArasError, match="is the input"):
        score_file(file, text=("own",), out=file)
    blank = tmp_path / "blank.csv"
    blank.write_text('text,x\n" ",1\n')
    with pytest.raises(ArasError, match="every caption is blank"):
        score_file(blank)


def test_streams_that_appear_late_are_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr(file_scores, "BATCH", 1)
    file = tmp_path / "c.jsonl"
    first, second = ({"stream": name, "text": "a"} for name in ("one", "two"))
    file.write_text(
        f"{json.dumps({'captions': [first]})}\n{json.dumps({'captions': [first, second]})}\n"
    )
    with pytest.raises(ArasError, match="more caption streams"):
        score_file(file)


HUMAN = Path(__file__).parents[3] / "shared" / "data" / "human_captions"


@pytest.mark.skipif(not HUMAN.is_dir(), reason="the shared captions by people are not here")
@pytest.mark.parametrize(
    ("name", "images", "captions", "empty", "unique", "redundancy"),
    [
        ("RSICD.csv", 10_921, 54_605, 3, 18_190, 0.6669),
        ("UCM_captions.csv", 2_100, 10_500, 0, 2_038, 0.8059),
    ],
)
def test_captions_by_people_give_their_known_figures(
    name, images, captions, empty, unique, redundancy
):
    summary = score_file(HUMAN / name)
    (stream,) = summary.streams.values()
    assert (summary.images, summary.text_columns) == (images, ("sentence",))
    assert (stream.n, stream.empty, stream.missing, stream.unique) == (captions, empty, 0, unique)
    assert stream.redundancy == pytest.approx(redundancy, abs=5e-5)
    assert (summary.failed_captions, summary.cut) == (0, {})  # nothing a person wrote is cut
