"""Result files of a model on a release: figures, ranks, comparisons."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from builder.core.errors import ArasError
from builder.retrieval import report
from builder.retrieval.gallery import load
from builder.retrieval.models import Model, Settings
from builder.retrieval.result import run, write
from tests.makers.bench_release import bench_release
from tests.makers.tiny_clip import tiny_clip

QUICK = Settings(resamples=50)


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    return load(bench_release(tmp_path_factory.mktemp("release"), train=6, synthetic=0, test=14))


def test_the_oracle_is_above_text_to_text_and_that_above_chance(rows):
    found = {
        spec: run(rows, Model(spec, "numbers"), ["words"], QUICK).result["streams"]["words"]["S"]
        for spec in ("random", "composition", "bm25", "tfidf")
    }
    assert found["composition"]["mR"] > found["tfidf"]["mR"] > found["random"]["mR"]
    assert found["composition"]["mR"] > found["bm25"]["mR"] > found["random"]["mR"]


def test_a_result_says_what_it_takes_to_repeat_it(rows, tmp_path):
    found = run(rows, Model("composition"), settings=QUICK)
    result = write(found, tmp_path / "a.json", tmp_path / "vectors")
    assert result == json.loads((tmp_path / "a.json").read_text())
    assert result["release"]["content_sha256"] == rows.facts["content_sha256"]
    assert set(result["streams"]) == {"numbers", "words", "all"}
    assert result["libraries"]["torch"]
    assert result["settings"]["seed"] == 0
    # The vectors it wrote are a model of their own, with the same figures.
    files = Model(
        "files",
        images=tmp_path / "vectors/images.parquet",
        texts=tmp_path / "vectors/texts.parquet",
    )
    assert run(rows, files, settings=QUICK).result["streams"] == result["streams"]
    again = write(run(rows, Model("composition"), settings=QUICK), tmp_path / "b.json")
    assert again["ranks_sha256"] == result["ranks_sha256"]


def test_all_means_every_stream_of_the_release(rows):
    def names(model, *streams):
        return list(run(rows, model, streams, QUICK).result["streams"])

    assert names(Model("composition"), "words") == ["words"]
    assert names(Model("composition"), "words", "numbers") == ["words", "numbers", "all"]
    wider = load(rows.release)
    wider.streams["short"] = wider.streams["words"]
    two = run(wider, Model("composition"), ["words", "numbers"], QUICK)
    assert list(two.result["streams"]) == ["words", "numbers"]


def test_numbers_are_removed_where_the_model_reads_text(rows):
    found = run(rows, Model("tfidf", "words"), ["numbers"], QUICK).result["streams"]["numbers"]
    assert found["L"]["change_of_mR"] == pytest.approx(found["L"]["mR"] - found["S"]["mR"])
    oracle = run(rows, Model("composition"), ["numbers"], QUICK).result["streams"]["numbers"]
    assert "L" not in oracle
    words = run(rows, Model("tfidf", "numbers"), ["words"], QUICK).result["streams"]["words"]
    assert "L" not in words


def test_near_duplicates_of_the_release_are_merged(tmp_path):
    release = bench_release(tmp_path, train=6, synthetic=0, test=14)
    path = release / "metadata/test.parquet"
    table = pq.read_table(path)
    first = table["id"][0].as_py()
    scores = [
        [
            {"stream": "words", "near_duplicate_cluster": first if i < 5 else None},
            {"stream": "numbers", "near_duplicate_cluster": None},
        ]
        for i in range(14)
    ]
    place = table.column_names.index("caption_scores")
    kind = table.schema.field(place)
    pq.write_table(table.set_column(place, kind, pa.array(scores, kind.type)), path)
    result = run(load(release), Model("composition"), settings=QUICK).result
    words, both = result["streams"]["words"], result["streams"]["all"]
    assert words["D~"]["captions"] < words["D"]["captions"]
    assert both["D~"]["captions"] < both["D"]["captions"]
    assert "D~" not in result["streams"]["numbers"]
    assert "| words, near-duplicates merged |" in report.document(result).markdown()


def test_rows_without_a_caption_leave_the_gallery_of_that_stream(rows):
    gap = load(rows.release)
    gap.streams["words"][3] = None
    found = run(gap, Model("composition"), ["words"], QUICK)
    words = found.result["streams"]["words"]
    assert (words["images"], words["images_without_caption"]) == (13, 1)
    assert found.ranks["words/owner"].max() == 12


def test_text_to_text_needs_a_proxy_of_another_stream(rows):
    with pytest.raises(ArasError, match=r"--proxy \(numbers, words\)"):
        run(rows, Model("bm25"), ["words"], QUICK)
    with pytest.raises(ArasError, match="no captions to ask with"):
        run(rows, Model("bm25", "words"), ["words"], QUICK)


def test_clip_runs_whole(rows, tmp_path):
    clip = tiny_clip(tmp_path / "clip", rows.texts(["words"]).texts)
    result = run(rows, Model(str(clip)), ["words"], QUICK).result
    assert result["model"]["architecture"] == "CLIPModel"
    assert result["model"]["name"] == "clip"
    assert "| words, strict |" in report.document(result).markdown()


def test_the_report_shows_lists_galleries_and_classes(rows):
    result = run(rows, Model("composition"), settings=QUICK).result
    text = report.document(result).markdown()
    words = result["streams"]["words"]
    lists = [f"{words['C'][key][way]:.2f}" for key in ("mAP@R", "nDCG@10") for way in report.WAYS]
    assert f"| words, like composition counts | 1.0 | 1.0 | {' | '.join(lists)} |" in text
    curve = words["S"]["gallery"]["t2i"]["14"]
    assert " / ".join(f"{curve[k]:.2f}" for k in report.KS) in text
    assert "| R@1 / R@5 / R@10 among | 14 |" in text
    assert "## Strict R@10 by class that dominates the tile" in text


def test_a_model_above_the_ceiling_of_equal_captions_is_explained(rows):
    result = run(rows, Model("composition"), ["words"], QUICK).result
    assert result["streams"]["words"]["S"]["of_ceiling"]["R@1"] > 101
    text = report.document(result).markdown()
    assert "its vectors tell equal captions apart" in text
    assert "% of that" not in text
