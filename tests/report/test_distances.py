"""Distances between real and synthetic images, streamed from a store."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from scipy import linalg

from builder.core.errors import ArasError
from builder.core.manifest import EncoderRecord
from builder.core.store import Store
from builder.models import sets
from builder.models.encoders import INCEPTION, INCEPTION_DIGEST
from builder.report import distances as module
from builder.report.distances import distances, features_of, has_column
from builder.report.measure import spaces


def write_features(
    store: Store, shard: str, features: np.ndarray, splits: list[int | None]
) -> None:
    stage = "layouts" if shard.startswith("synthetic") else "tiles"
    columns = {
        "id": pa.array([f"{shard}/{i}" for i in range(len(features))], pa.string()),
        "features": pa.array(list(features.astype(np.float32)), pa.list_(pa.float32())),
        "split": pa.array(splits, pa.int64()),
    }
    store.write(stage, shard, pa.table(columns), key="k")


def draw(seed: int, n: int, shift: float = 0.0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((n, 6)) + shift


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store(tmp_path / "work")
    write_features(store, "real-a", draw(0, 100), [0] * 60 + [2] * 38 + [None] * 2)
    write_features(store, "real-b", np.zeros((0, 6)), [])
    write_features(store, "real-c", draw(4, 2), [2, 2])
    write_features(store, "synthetic-a-00000", draw(1, 50, 2.0), [0] * 50)
    return store


def test_synthetic_images_are_compared_at_equal_numbers_beside_the_floor(store: Store) -> None:
    measured = distances(store)
    assert measured.images == {"test": 40, "train": 60, "synthetic": 50}
    assert measured.compared == 40
    assert measured.synthetic.frechet > 5 * measured.train.frechet
    assert measured.synthetic.coverage < measured.train.coverage
    low, high = measured.train.kid_x1000[1:]
    assert low < 0 < high


def test_the_same_store_gives_the_same_figures(store: Store) -> None:
    assert distances(store) == distances(store)


def test_moments_of_all_images_are_merged_from_those_of_the_shards(store: Store) -> None:
    """Against scipy's matrix root of covariances of the whole."""
    x = np.concatenate([draw(0, 100)[60:98], draw(4, 2)]).astype(np.float32).astype(float)
    y = draw(1, 50, 2.0).astype(np.float32).astype(float)
    a, b = np.cov(x.T), np.cov(y.T)
    root = linalg.sqrtm(a.astype(complex) @ b).real
    gap = ((x.mean(0) - y.mean(0)) ** 2).sum()
    expected = gap + np.trace(a) + np.trace(b) - 2 * np.trace(root)
    assert distances(store).synthetic.frechet_all == pytest.approx(expected, abs=1e-3)


def test_a_sample_is_compared_where_there_are_more(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = distances(store)
    monkeypatch.setattr(module, "SAMPLE", 20)
    sampled = distances(store)
    assert sampled.compared == 20
    assert sampled.images == whole.images
    assert sampled.synthetic.frechet_all == whole.synthetic.frechet_all


def test_too_few_images_are_said_not_measured(tmp_path: Path) -> None:
    few = Store(tmp_path / "work")
    write_features(few, "real-a", draw(0, 30), [0] * 20 + [2] * 10)
    write_features(few, "synthetic-a-00000", draw(1, 30), [0] * 30)
    assert "at least 16" in distances(few).note


def test_without_synthetic_images_there_is_nothing_to_compare(tmp_path: Path) -> None:
    real = Store(tmp_path / "work")
    write_features(real, "real-a", draw(0, 60), [0] * 30 + [2] * 30)
    assert distances(real).images["synthetic"] == 0
    assert distances(real).note


def test_the_figures_are_those_of_the_plain_functions_when_all_images_are_taken(
    tmp_path: Path,
) -> None:
    store = Store(tmp_path / "work")
    test, train, fake = draw(0, 30), draw(1, 30), draw(2, 30, 1.0)
    write_features(store, "real-a", np.concatenate([train, test]), [0] * 30 + [2] * 30)
    write_features(store, "synthetic-a-00000", fake, [0] * 30)
    measured = distances(store).synthetic
    low, high = measured.frechet_interval
    assert low < measured.frechet < high
    a, b = test.astype(np.float32), fake.astype(np.float32)
    expected = sets.frechet(sets.Moments.of(a), sets.Moments.of(b))
    assert measured.frechet == measured.frechet_all == pytest.approx(expected, abs=1e-3)
    for name, value in sets.precision_recall(a, b, k=5).items():
        assert getattr(measured, name) == pytest.approx(value, abs=1e-3)


def test_features_are_found_by_id(store: Store) -> None:
    features = features_of(store, ["real-c/1", "synthetic-a-00000/3"], "features")
    np.testing.assert_array_equal(features["real-c/1"], draw(4, 2)[1].astype(np.float32))
    assert len(features) == 2
    with pytest.raises(ArasError, match="has no row real/x, which the release has"):
        features_of(store, ["real/x"], "features")


@pytest.mark.parametrize(
    ("model", "digest", "distance"),
    [
        (INCEPTION, INCEPTION_DIGEST, "FID"),
        ("renamed.pt", INCEPTION_DIGEST, "FID"),
        (INCEPTION, "sha256:0", "Fréchet distance"),
        ("dinov2-base", "sha256:0", "Fréchet distance"),
    ],
)
def test_a_distance_is_called_fid_in_inceptions_features_only(
    store: Store, model: str, digest: str, distance: str
) -> None:
    for shard in ("real-a", "real-b", "real-c", "synthetic-a-00000"):
        rows = store.read(shard, ["features"]).rename_columns(["embedding"])
        store.write("encode-features", shard, rows, key="k")
    by_column = spaces(Store(store.root), {"features": EncoderRecord(model=model, digest=digest)})
    assert list(by_column) == ["features", "embedding"]
    assert by_column["features"].distance == "Fréchet distance"
    assert by_column["embedding"].distance == distance
    assert by_column["embedding"].name == model
    assert list(spaces(Store(store.root), {})) == ["features"]
    assert spaces(None, {}) == {}


def test_a_column_is_there_only_where_every_shard_has_it(store: Store, tmp_path: Path) -> None:
    assert has_column(store, "features")
    assert not has_column(store, "embedding")
    assert not has_column(Store(tmp_path / "none"), "features")
