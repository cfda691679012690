"""Figures of the report that do not need a whole release."""

import numpy as np
import pyarrow as pa
import pytest

from builder.quality import sets
from builder.report import measure
from builder.store import Store


def write_features(store: Store, shard: str, features, splits) -> None:
    stage = "layouts" if shard.startswith("synthetic") else "tiles"
    columns = {
        "features": pa.array(list(features.astype(np.float32)), pa.list_(pa.float32())),
        "split": pa.array(splits, pa.int64()),
    }
    store.write(stage, shard, pa.table(columns), key="k")


def draw(seed: int, n: int, shift: float = 0.0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((n, 6)) + shift


@pytest.fixture
def store(tmp_path) -> Store:
    made = Store(tmp_path / "work")
    write_features(made, "real-a", draw(0, 100), [0] * 60 + [2] * 40)
    write_features(made, "real-b", np.zeros((0, 6)), [])
    write_features(made, "synthetic-a-00000", draw(1, 50, 2.0), [0] * 50)
    return made


def test_synthetic_images_are_compared_at_equal_numbers_beside_the_floor(store):
    told = measure.distances(store)
    assert told["images"] == {"test": 40, "train": 60, "synthetic": 50}
    assert told["compared"] == 40
    assert told["synthetic"]["frechet"] > 5 * told["train"]["frechet"]
    assert told["synthetic"]["coverage"] < told["train"]["coverage"]
    low, high = told["train"]["kid_x1000"][1:]
    assert low < 0 < high


def test_the_same_store_gives_the_same_figures(store):
    assert measure.distances(store) == measure.distances(store)


def test_too_few_images_are_said_not_measured(tmp_path):
    few = Store(tmp_path / "work")
    write_features(few, "real-a", draw(0, 30), [0] * 20 + [2] * 10)
    write_features(few, "synthetic-a-00000", draw(1, 30), [0] * 30)
    assert "at least 16" in measure.distances(few)["note"]


def test_the_figures_are_those_of_the_plain_functions_when_all_images_are_taken(tmp_path):
    one = Store(tmp_path / "work")
    test, train, fake = draw(0, 30), draw(1, 30), draw(2, 30, 1.0)
    write_features(one, "real-a", np.concatenate([train, test]), [0] * 30 + [2] * 30)
    write_features(one, "synthetic-a-00000", fake, [0] * 30)
    told = measure.distances(one)
    a, b = (sets.Moments.of(x.astype(np.float32)) for x in (test, fake))
    assert told["synthetic"]["frechet"] == pytest.approx(sets.frechet(a, b), abs=1e-3)
