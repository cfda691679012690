"""Copies of train tiles are found, named and counted; unseen-looking tiles are not."""

import numpy as np
import pyarrow as pa
import pytest

from builder.engine import Engine
from builder.errors import ArasError
from builder.plan import run, survey
from builder.stages.memorize import Memorize
from builder.stages.segment import matrix
from builder.store import Store

D = 8


def write(store: Store, stage: str, shard: str, ids, features, hashes, **more) -> None:
    columns = {
        "id": pa.array(ids),
        "features": pa.array(list(features), pa.list_(pa.float32())),
        "phash": pa.array(hashes, pa.uint64()),
    }
    columns |= {name: pa.array(values, pa.int64()) for name, values in more.items()}
    store.write(stage, shard, pa.table(columns), key="k")


@pytest.fixture
def store(tmp_path) -> Store:
    """Forty real tiles in two shards (30 train, 8 test, 2 set aside) and four synthetic ones."""
    made = Store(tmp_path / "work")
    rng = np.random.default_rng(0)
    real = rng.standard_normal((40, D)).astype(np.float32)
    splits = [0] * 30 + [2] * 8 + [None] * 2
    hashes = rng.integers(0, 2**63, 40, dtype=np.uint64)
    for i, part in enumerate((slice(0, 25), slice(25, 40))):
        ids = [f"real/{n:02d}" for n in range(40)][part]
        write(made, "tiles", f"real-{i}", ids, real[part], hashes[part], split=splits[part])
    write(made, "tiles", "real-2", [], [], [], split=[])
    fresh = rng.standard_normal(D).astype(np.float32)
    synthetic = [real[7] + 1e-3, fresh, real[35], real[3] + 0.1]
    bits = np.array([1, 2, 3, int(hashes[3]) ^ 0b111], dtype=np.uint64)
    ids = [f"synthetic/a/{i}" for i in range(4)]
    write(made, "layouts", "synthetic-a-00000", ids, synthetic, bits)
    return made


def made_of(store: Store) -> list[dict]:
    names = ("id", "nearest_real_id", "nearest_real_ratio", "copy")
    return store.read("synthetic-a-00000", names).to_pylist()


def test_a_near_copy_is_named_and_marked_and_a_fresh_tile_is_not(store):
    summary = run(Memorize(copy_ratio=0.01, copy_bits=-1), store, Engine())
    rows = made_of(store)
    assert rows[0]["nearest_real_id"] == "real/07"
    assert [row["copy"] for row in rows] == [True, False, False, False]
    assert summary.counts == {"copies": 1}


def test_the_ratio_is_the_distance_over_the_usual_one_from_test_to_train(store):
    run(Memorize(), store, Engine())
    tables = [store.read(f"real-{i}", ("split", "features")) for i in range(2)]
    features = np.concatenate([matrix(t.column("features")) for t in tables])
    splits = [s for t in tables for s in t.column("split").to_pylist()]
    train = features[[s == 0 for s in splits]]
    test = features[[s == 2 for s in splits]]
    usual = np.median([np.linalg.norm(train - one, axis=1).min() for one in test])
    fake = matrix(store.read("synthetic-a-00000", ("features",)).column("features"))
    expected = [np.linalg.norm(train - one, axis=1).min() / usual for one in fake]
    assert [row["nearest_real_ratio"] for row in made_of(store)] == pytest.approx(expected)


def test_test_and_set_aside_tiles_are_not_in_the_gallery(store):
    gallery = survey(Memorize(), store)
    assert gallery.ids == [f"real/{n:02d}" for n in range(30)]
    run(Memorize(), store, Engine())
    assert made_of(store)[2]["nearest_real_id"] != "real/35"  # a test tile's own features


def test_a_perceptual_hash_alone_can_mark_a_copy(store):
    run(Memorize(copy_ratio=0, copy_bits=3), store, Engine())
    rows = made_of(store)
    assert rows[3]["nearest_real_id"] == "real/03"
    assert [row["copy"] for row in rows] == [False, False, False, True]


def test_without_test_tiles_there_is_nothing_to_calibrate_with(tmp_path):
    empty = Store(tmp_path / "work")
    write(empty, "tiles", "real-0", ["real/0"], np.ones((1, D)), [1], split=[0])
    write(empty, "layouts", "synthetic-a-00000", ["synthetic/a/0"], np.ones((1, D)), [1])
    with pytest.raises(ArasError, match=r"one of them is empty.*\[split\]"):
        run(Memorize(), empty, Engine())
