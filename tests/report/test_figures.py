"""Figures of caption streams and of image measures, on rows made up for the purpose."""

from collections import Counter

import numpy as np
import pytest

from builder.report import page
from builder.report import streams as image_figures
from builder.report import streams as stream_figures
from builder.report.measure import examples
from builder.report.streams import CLIP, MEASURES, SCORES, Images, Stream


def stream(texts: list[str | None], clusters: list[str | None] | None = None) -> Stream:
    n = len(texts)
    rng = np.random.default_rng(0)
    scored = [None if text is None else i / n for i, text in enumerate(texts)]
    return Stream(
        ids=[f"real/{i:03d}" for i in range(n)],
        texts=texts,
        kinds=[i % 2 for i in range(n)],
        dominant=[i % 7 for i in range(n)],
        shares=list(rng.dirichlet(np.ones(7), n)),
        clusters=clusters or [None] * n,
        scores=dict.fromkeys(SCORES, scored) | {name: [None] * n for name in CLIP},
    )


def test_near_duplicates_count_a_cluster_once_and_loners_each() -> None:
    repeated = stream(["a", "b", "c", "d", None], ["x", "x", None, "y", "y"])
    assert stream_figures.near_duplicates(repeated) == 1 - 3 / 4
    assert stream_figures.near_duplicates(stream([None])) is None


def test_missing_captions_and_scores_are_missing_not_zero() -> None:
    figures = stream_figures.figures(stream([None, "trees", None, "water"]))
    assert (figures.captions, figures.failed) == (2, 2)
    assert figures.means["real"]["grounding"] is None
    assert figures.means["synthetic"]["grounding"] == pytest.approx(0.5)
    assert sum(figures.histograms["grounding"]["synthetic"]) == 2
    assert sum(figures.histograms["grounding"]["real"]) == 0
    assert figures.grounding_by_class["synthetic"]["Shrub"] == 0.25
    assert set(figures.grounding_by_class["real"].values()) == {None}
    assert "clip" not in figures.as_json()


def test_the_commonest_contradictions_are_reported_by_kind() -> None:
    contradicted = stream(["trees"])
    contradicted.contradictions = {
        "real": Counter({"Water, but “lake”": 2, "Crop, but “fields”": 2, "a": 9})
    }
    assert stream_figures.figures(contradicted).contradictions == {
        "real": [("a", 9), ("Crop, but “fields”", 2), ("Water, but “lake”", 2)],
        "synthetic": [],
    }


def test_a_stream_without_any_caption_goes_through() -> None:
    figures = stream_figures.figures(stream([None, None])).as_json()
    assert figures["redundancy"]["raw"]["redundancy"] is None
    assert figures["null_grounding"]["own"] is None
    assert figures["source_leak"]["auc"] is None


def test_structural_leakage_is_compared_with_that_of_the_image() -> None:
    """The image is the composition itself; the words have nothing to do with it."""
    words = stream([f"word{i % 5} here" for i in range(200)])
    seen = {name: np.float32(share) for name, share in zip(words.ids, words.shares, strict=True)}
    leakage = stream_figures.figures(words, seen).as_json()["structural_leakage"]
    assert leakage["r2_image"] > 0.99
    assert leakage["r2_text"] < 0.1


def test_the_sample_is_of_the_same_rows_in_every_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream_figures, "SAMPLE", 7)
    a, b = stream([f"a{i}" for i in range(40)]), stream([f"b{i}" for i in range(40)])
    assert stream_figures.sample(a) == stream_figures.sample(b)
    assert len(stream_figures.sample(a)) == 7


def test_examples_take_each_stream_in_its_turn() -> None:
    given = {"s": stream(["one", "two", None]), "t": stream(["three", "four", "five"])}
    by_end = examples(given)
    assert [(caption.stream, caption.text) for caption in by_end["lowest"]] == [
        ("s", "one"),
        ("t", "three"),
        ("s", "two"),
        ("t", "four"),
        ("t", "five"),
    ]
    assert [caption.text for caption in by_end["highest"]][:2] == ["two", "five"]
    assert by_end["highest"][1].grounding == pytest.approx(2 / 3)


def test_streams_without_scores_are_drawn_too() -> None:
    figures = {"s": stream_figures.figures(stream([None, None]))}
    for draw in (page.scores, page.grounding_by_class):
        assert draw(figures).startswith("data:image/png;base64,")


def images(**measures: list[float | None]) -> Images:
    n = len(next(iter(measures.values())))
    parts = ["real test", "synthetic train"] * (n // 2) + ["real train"] * (n % 2)
    rows = Images([f"r{i}" for i in range(n)], parts, [None] * n)
    rows.measures.update({name: [None] * n for name in MEASURES} | measures)
    return rows


def test_distributions_show_real_test_beside_synthetic_and_leave_missing_out() -> None:
    measures = image_figures.distributions(images(sharpness=[1.0, 5.0, 2.0, None, 1e9]))
    assert list(measures) == ["sharpness"]
    parts = measures["sharpness"].parts
    assert parts["real test"].mean == 1.5
    assert parts["synthetic"].as_json() == {
        "images": 1, "mean": 5.0, "histogram": [0] * 23 + [1]
    }  # fmt: skip
    assert measures["sharpness"].bins[0] == 1.0


def test_one_value_has_a_distribution_too() -> None:
    measures = image_figures.distributions(images(contrast=[0.5, 0.5]))
    assert sum(measures["contrast"].parts["synthetic"].histogram) == 1


def test_the_ends_are_of_synthetic_tiles_and_do_not_overlap() -> None:
    ends = image_figures.ends(images(realism=[9.0, 1.0, 9.0, 2.0, 9.0, 3.0]))
    assert [tile.id for tile in ends["realism"]["lowest"]] == ["r1", "r3"]
    assert [tile.id for tile in ends["realism"]["highest"]] == ["r5", "r3"]
    assert image_figures.ends(images(sharpness=[1.0, 1.0])) == {}


def test_clusters_are_shown_by_two_of_their_members() -> None:
    rows = images(sharpness=[1.0] * 6)
    rows.clusters = ["b", "a", "b", "b", "alone", "a"]
    assert image_figures.repeated(rows) == [["r0", "r2"], ["r1", "r5"]]
