"""Streams that give their source away are named while a release is packaged."""

import pyarrow as pa
import pytest

from builder.land.columns import CAPTIONS
from builder.release import source_leaks
from builder.release.source_leaks import SourceSample


def rows(kind: str, n: int, opening: str) -> pa.Table:
    words = ("forest", "grass", "fields", "water", "shrubs")
    captions = [
        [
            {"stream": "formula", "text": f"{opening} {words[i % 5]}."},
            {"stream": "plain", "text": f"There is {words[i % 5]} near {words[i % 3]}."},
            {"stream": "failed", "text": None},
        ]
        for i in range(n)
    ]
    ids = [f"{kind}/{i}" for i in range(n)]
    return pa.table({"id": pa.array(ids), "captions": pa.array(captions, CAPTIONS)})


def seen(*parts: tuple[str, pa.Table]) -> dict[str, str]:
    sample = SourceSample()
    for kind, table in parts:
        sample.see(kind, table)
    return sample.sentences()


REAL, SYNTHETIC = rows("real", 60, "The tile shows"), rows("synthetic", 60, "This image depicts")


def test_the_stream_whose_words_differ_is_named_with_its_words() -> None:
    said = seen(("real", REAL), ("synthetic", SYNTHETIC))
    assert list(said) == ["formula"]
    assert "AUC 1.00" in said["formula"]
    assert "“" in said["formula"]


def test_one_kind_alone_gives_nothing_away() -> None:
    assert seen(("real", REAL)) == {}
    assert seen(("real", REAL), ("synthetic", SYNTHETIC.slice(0, 0))) == {}


def test_the_sample_is_the_same_in_any_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source_leaks, "MOST", 20)
    parts = [("real", REAL.slice(30)), ("synthetic", SYNTHETIC), ("real", REAL.slice(0, 30))]
    samples = [SourceSample(), SourceSample()]
    for sample, order in zip(samples, (parts, parts[::-1]), strict=True):
        for kind, table in order:
            sample.see(kind, table)
    assert samples[0] == samples[1]
    assert [len(kept) for kept in samples[0].rows.values()] == [20, 20]
    assert samples[0].sentences()
