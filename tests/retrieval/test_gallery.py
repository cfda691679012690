"""Which rows of a release a benchmark asks about, and which it refuses."""

import numpy as np
import pytest

from builder.core.errors import ArasError
from builder.land.pictures import decode_png
from builder.retrieval.gallery import captions_by_stream, load, pictures
from builder.retrieval.result import RuleCount
from tests.makers.bench_release import SIZE, bench_release, table

TOUCHING = 30.0 + 24 * SIZE * 1e-4
"""Longitude of a tile whose edge is that of the last train tile."""


@pytest.fixture(scope="module")
def release(tmp_path_factory):
    return bench_release(tmp_path_factory.mktemp("release"))


def test_real_test_tiles_come_with_captions_and_compositions(release):
    rows = load(release)
    assert rows.ids == [f"real/test-{i:04d}" for i in range(10)]
    np.testing.assert_allclose(rows.shares.sum(1), 1)
    asked = rows.texts(["words", "numbers"])
    assert len(asked.texts) == 20
    assert asked.ids[:2] == ["real/test-0000#words", "real/test-0000#numbers"]
    assert asked.owner.tolist()[:3] == [0, 0, 1]
    assert rows.facts.checks.near == RuleCount(rows=0, rule="refuse")


def test_test_tiles_beside_train_tiles_are_refused_unless_asked_for(tmp_path):
    near = bench_release(tmp_path, test_west=TOUCHING)
    with pytest.raises(ArasError, match=r"4 of 10 rows .* nearer than 1 km .*--near leave-out"):
        load(near)
    assert load(near, near="keep").facts.checks.near == RuleCount(rows=4, rule="keep")
    left = load(near, near="leave-out")
    assert left.ids == [f"real/test-{i:04d}" for i in range(4, 10)]
    assert load(near, min_km=0).facts.checks.near.rows == 0


def test_synthetic_rows_in_the_split_are_refused_unless_asked_for(tmp_path):
    mixed = bench_release(tmp_path, synthetic_in_test=2)
    with pytest.raises(ArasError, match=r"2 of 12 rows .* synthetic, .* synthetic/test-0000"):
        load(mixed)
    assert len(load(mixed, synthetic="leave-out")) == 10
    kept = load(mixed, synthetic="keep")
    assert len(kept) == 12
    assert kept.blocks is None


def test_train_rows_are_not_compared_with_themselves(release):
    rows = load(release, "train", synthetic="leave-out")
    assert len(rows) == 24
    assert not rows.facts.checks.distance_checked


def test_unknown_split_and_stream_name_the_known_ones(release):
    with pytest.raises(ArasError, match="its splits are train, test"):
        load(release, "validation")
    with pytest.raises(ArasError, match="it has numbers, words"):
        load(release).texts(["poem"])


def test_pictures_come_in_batches_to_their_places(release):
    rows = load(release).take(np.array([7, 2, 5]))
    seen = {}
    for where, data in pictures(release, rows.ids, "test", batch=2):
        assert len(where) <= 2
        seen.update(zip(where.tolist(), data, strict=True))
    whole = table("real", "test", 10, seed=2, west=31.0)["image"].to_pylist()
    for place, source in enumerate((7, 2, 5)):
        np.testing.assert_array_equal(decode_png(seen[place]), decode_png(whole[source]["bytes"]))


def test_a_missing_picture_is_told(release):
    with pytest.raises(ArasError, match="holds 1 pictures of the 2 rows"):
        list(pictures(release, ["real/test-0001", "real/test-9999"], "test"))


def test_failed_captions_are_gaps(release):
    column = load(release).streams
    assert set(column) == {"numbers", "words"}
    import pyarrow as pa

    rows = [
        [{"stream": "a", "text": "x"}, {"stream": "b", "text": None}],
        [],
        [{"stream": "b", "text": " "}],
    ]
    streams = captions_by_stream(pa.chunked_array([pa.array(rows)]))
    assert streams == {"a": ["x", None, None], "b": [None, None, None]}
