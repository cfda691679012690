"""Result files of a model on a release: figures, ranks, comparisons."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from builder.core.errors import ArasError
from builder.core.files import read_json, write_json
from builder.retrieval import report
from builder.retrieval.benchmark import Model, run, write
from builder.retrieval.gallery import load
from builder.retrieval.protocol import Settings
from builder.retrieval.result import read
from tests.makers.bench_release import bench_release
from tests.makers.tiny_clip import tiny_clip

QUICK = Settings(resamples=50)


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    return load(bench_release(tmp_path_factory.mktemp("release"), train=6, synthetic=0, test=14))


def test_the_oracle_is_above_text_to_text_and_that_above_chance(rows):
    figures = {
        spec: run(rows, Model(spec, "numbers"), ["words"], QUICK).result.streams["words"].S.mR
        for spec in ("random", "composition", "bm25", "tfidf")
    }
    assert figures["composition"] > figures["tfidf"] > figures["random"]
    assert figures["composition"] > figures["bm25"] > figures["random"]


def test_a_result_says_what_it_takes_to_repeat_it(rows, tmp_path):
    outcome = run(rows, Model("composition"), settings=QUICK)
    result = write(outcome, tmp_path / "a.json", tmp_path / "vectors")
    assert result == read(tmp_path / "a.json")
    assert result.release == rows.facts
    assert set(result.streams) == {"numbers", "words", "all"}
    assert result.libraries["torch"]
    assert result.settings["seed"] == 0
    # The vectors it wrote are a model of their own, with the same figures.
    files = Model(
        "files",
        images=tmp_path / "vectors/images.parquet",
        texts=tmp_path / "vectors/texts.parquet",
    )
    assert run(rows, files, settings=QUICK).result.streams == result.streams
    again = write(run(rows, Model("composition"), settings=QUICK), tmp_path / "b.json")
    assert again.ranks_sha256 == result.ranks_sha256


def test_all_means_every_stream_of_the_release(rows):
    def names(model, *streams):
        return list(run(rows, model, streams, QUICK).result.streams)

    assert names(Model("composition"), "words") == ["words"]
    assert names(Model("composition"), "words", "numbers") == ["words", "numbers", "all"]
    wider = load(rows.release)
    wider.streams["short"] = wider.streams["words"]
    two = run(wider, Model("composition"), ["words", "numbers"], QUICK)
    assert list(two.result.streams) == ["words", "numbers"]


def test_numbers_are_removed_where_the_model_reads_text(rows):
    figures = run(rows, Model("tfidf", "words"), ["numbers"], QUICK).result.streams["numbers"]
    assert figures.L.change_of_mR == pytest.approx(figures.L.mR - figures.S.mR)
    oracle = run(rows, Model("composition"), ["numbers"], QUICK).result.streams["numbers"]
    assert oracle.L is None
    words = run(rows, Model("tfidf", "numbers"), ["words"], QUICK).result.streams["words"]
    assert words.L is None


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
    for name in ("words", "all"):
        assert result.streams[name].D_near.captions < result.streams[name].D.captions
    assert "D~" not in result.streams["numbers"].protocols
    assert "| words, near-duplicates merged |" in report.document(result).markdown()


def test_rows_without_a_caption_leave_the_gallery_of_that_stream(rows):
    gap = load(rows.release)
    gap.streams["words"][3] = None
    outcome = run(gap, Model("composition"), ["words"], QUICK)
    words = outcome.result.as_json()["streams"]["words"]
    assert (words["images"], words["images_without_caption"]) == (13, 1)
    assert outcome.ranks["words/owner"].max() == 12


def test_text_to_text_needs_a_proxy_of_another_stream(rows):
    with pytest.raises(ArasError, match=r"--proxy \(numbers, words\)"):
        run(rows, Model("bm25"), ["words"], QUICK)
    with pytest.raises(ArasError, match="no captions to ask with"):
        run(rows, Model("bm25", "words"), ["words"], QUICK)


def test_clip_runs_whole(rows, tmp_path):
    clip = tiny_clip(tmp_path / "clip", rows.texts(["words"]).texts)
    result = run(rows, Model(str(clip)), ["words"], QUICK).result
    assert result.model.architecture == "CLIPModel"
    assert result.model.name == "clip"
    assert "| words, strict |" in report.document(result).markdown()


def test_the_report_shows_lists_galleries_and_classes(rows):
    result = run(rows, Model("composition"), settings=QUICK).result
    text = report.document(result).markdown()
    words = result.streams["words"]
    means = (words.C.average_precision, words.C.ndcg)
    lists = [f"{mean:.2f}" for both in means for mean in (both.t2i, both.i2t)]
    assert f"| words, like composition counts | 1.0 | 1.0 | {' | '.join(lists)} |" in text
    curve = words.S.gallery.t2i["14"]
    assert " / ".join(f"{curve[k]:.2f}" for k in report.KS) in text
    assert "| R@1 / R@5 / R@10 among | 14 |" in text
    assert "## Strict R@10 by class that dominates the tile" in text


def test_a_model_above_the_ceiling_of_equal_captions_is_explained(rows):
    result = run(rows, Model("composition"), ["words"], QUICK).result
    assert result.streams["words"].S.of_ceiling["R@1"] > 101
    text = report.document(result).markdown()
    assert "its vectors distinguish equal captions" in text
    assert "% of that" not in text


def test_published_results_are_read_and_written_back_as_they_are(tmp_path):
    paths = sorted((Path(__file__).parents[2] / "docs/results/retrieval-scene").glob("*.json"))
    assert paths
    for path in paths:
        read(path).write(tmp_path / path.name)
        assert (tmp_path / path.name).read_bytes() == path.read_bytes()


def test_a_damaged_result_is_one_clear_error(rows, tmp_path):
    write(run(rows, Model("random"), ["words"], QUICK), tmp_path / "a.json")
    result = read_json(tmp_path / "a.json")
    result["streams"]["words"]["S"]["mR"] = "high"
    write_json(tmp_path / "a.json", result)
    with pytest.raises(ArasError, match=r"a\.json: streams words S mR: "):
        read(tmp_path / "a.json")
