"""Figures of caption streams and of image measures, on rows made up for the purpose."""

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from builder.core.seeds import seed
from builder.report import images as image_figures
from builder.report import page
from builder.report import streams as stream_figures
from builder.report.images import MEASURES, Images
from builder.report.measure import examples
from builder.report.streams import CLIP, SCORES, Captions, Stream


def captions(
    texts: list[str | None],
    clusters: list[str | None] | None = None,
    contradictions: list[list[str] | None] | None = None,
) -> Captions:
    n = len(texts)
    scored = np.array([np.nan if text is None else i / n for i, text in enumerate(texts)])
    ids = [f"real/{i:03d}" for i in range(n)]
    return Captions(
        ids=ids,
        seeds=[seed("report", id_) for id_ in ids],
        texts=texts,
        kinds=np.arange(n) % 2,
        dominant=np.arange(n) % 7,
        shares=np.random.default_rng(0).dirichlet(np.ones(7), n),
        clusters=clusters or [None] * n,
        scores=dict.fromkeys(SCORES, scored) | {name: np.full(n, np.nan) for name in CLIP},
        contradictions=contradictions or [None] * n,
    )


def stream(texts: list[str | None], *more: Any, batch: int = 1000) -> Stream:
    """A stream that was given the captions so many at a time."""
    whole, made = captions(texts, *more), Stream()
    for start in range(0, len(texts), batch):
        rows = slice(start, start + batch)
        values = {name: value[rows] for name, value in vars(whole).items() if name != "scores"}
        scores = {name: value[rows] for name, value in whole.scores.items()}
        made.add(Captions(**values, scores=scores))
    return made


def test_near_duplicates_count_a_cluster_once_and_loners_each() -> None:
    repeated = stream(["a", "b", "c", "d", None], ["x", "x", None, "y", "y"])
    assert repeated.near_duplicates == 1 - 3 / 4
    assert stream([None]).near_duplicates is None


def test_captions_that_come_in_batches_give_the_same_figures() -> None:
    texts = [None if i % 5 == 0 else f"words {i % 9} of trees" for i in range(60)]
    clusters = [f"c{i % 4}" if i % 3 else None for i in range(60)]
    whole, pieces = stream(texts, clusters), stream(texts, clusters, batch=7)
    assert stream_figures.figures(whole) == stream_figures.figures(pieces)
    assert (whole.lowest, whole.highest) == (pieces.lowest, pieces.highest)


def test_what_is_kept_of_captions_does_not_grow_with_their_number(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(stream_figures, "SAMPLE", 10)
    many = stream([f"text {i}" for i in range(500)], batch=10)
    assert len(many._kept) <= 20
    assert len(many.lowest) == len(many.highest) == stream_figures.WORST


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
    claims = [
        ["a", "Water 3 %, but “lake”"],
        ["b"],
        ["a", "Water 1 %, but “lake”", "Crop, but “fields”"],
    ]
    claims += [None, ["a", "Crop, but “fields”"]]
    contradicted = stream(["trees"] * 5, None, claims)
    assert stream_figures.figures(contradicted).contradictions == {
        "real": [("a", 3), ("Crop, but “fields”", 2), ("Water, but “lake”", 2)],
        "synthetic": [("b", 1)],
    }


def test_a_stream_without_any_caption_goes_through() -> None:
    figures = stream_figures.figures(stream([None, None])).as_json()
    assert figures["redundancy"]["raw"]["redundancy"] is None
    assert figures["null_grounding"]["own"] is None
    assert figures["source_leak"]["auc"] is None


def test_structural_leakage_is_compared_with_that_of_the_image() -> None:
    """The image is the composition itself; the words have nothing to do with it."""
    texts: list[str | None] = [f"word{i % 5} here" for i in range(200)]
    whole = captions(texts)
    seen = {name: np.float32(share) for name, share in zip(whole.ids, whole.shares, strict=True)}
    leakage = stream_figures.figures(stream(texts), seen).as_json()["structural_leakage"]
    assert leakage["r2_image"] > 0.99
    assert leakage["r2_text"] < 0.1


def test_the_sample_is_of_the_same_rows_in_every_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream_figures, "SAMPLE", 7)
    a, b = stream([f"a{i}" for i in range(40)]), stream([f"b{i}" for i in range(40)])
    assert a.sample().ids == b.sample().ids
    assert len(a.sample().ids) == 7


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


def images(clusters: list[str | None] | None = None, **measures: list[float | None]) -> Images:
    """Rows in turn real test and synthetic; an odd last one is real train."""
    n, rows = len(next(iter(measures.values()))), Images()
    columns = {name: [None] * n for name in MEASURES} | measures
    table = pa.table(
        {
            "id": [f"r{i}" for i in range(n)],
            "kind": [i % 2 for i in range(n)],
            "near_duplicate_cluster": pa.array(clusters or [None] * n, pa.string()),
            **{name: pa.array(values, pa.float64()) for name, values in columns.items()},
        }
    )
    even = n - n % 2
    rows.add("test", table.slice(0, even))
    rows.add("train", table.slice(even))
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
    rows = images(["b", "a", "b", "b", "alone", "a"], sharpness=[1.0] * 6)
    assert image_figures.repeated(rows) == [["r0", "r2"], ["r1", "r5"]]
