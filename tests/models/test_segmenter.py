"""The segmenter: learns, is judged as scikit-learn judges, and gives the same ids at any batch."""

import functools
import json
from pathlib import Path

import numpy as np
import pytest
from sklearn import metrics

from builder.core.errors import ArasError
from builder.core.store import Store
from builder.land.classes import CLASSES
from builder.models import data, segmenter, training
from builder.models.freshness import is_fresh
from builder.models.settings import SegmenterSettings
from builder.pipeline.project import Project
from tests.makers.tiles import make_store

SMALL = SegmenterSettings(steps=4, batch=2, crop=32, widths=(8, 8, 16, 16), decoder=16)
SPLITS = ["train"] * 6 + ["test"] * 2


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return make_store(tmp_path / "work", SPLITS)


def confusion_of(truth: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    out = np.zeros((7, 7), dtype=np.int64)
    np.add.at(out, (truth, predicted), 1)
    return out


@pytest.mark.parametrize("missing", [(), (6,), (1, 4)])
def test_scores_are_those_of_scikit_learn(missing: tuple[int, ...]) -> None:
    """Macro means run over the classes of the truth, also when others are predicted."""
    rng = np.random.default_rng(len(missing))
    there = [i for i in range(7) if i not in missing]
    truth = rng.choice(there, 4000)
    predicted = np.where(rng.random(4000) < 0.6, truth, rng.integers(0, 7, 4000))
    scores = segmenter.scores(confusion_of(truth, predicted))
    f1 = metrics.f1_score(truth, predicted, labels=there, average=None)
    iou = metrics.jaccard_score(truth, predicted, labels=there, average=None)
    assert scores.macro_f1 == pytest.approx(f1.mean(), abs=1e-4)
    assert scores.mean_iou == pytest.approx(iou.mean(), abs=1e-4)
    assert scores.accuracy == pytest.approx(metrics.accuracy_score(truth, predicted), abs=1e-4)
    assert [scores.f1[CLASSES[i]] for i in there] == pytest.approx(f1.tolist(), abs=1e-4)
    assert [scores.iou[CLASSES[i]] for i in there] == pytest.approx(iou.tolist(), abs=1e-4)
    expected = metrics.confusion_matrix(truth, predicted, labels=range(7))
    assert np.array_equal(scores.confusion, expected)


def test_a_class_that_nobody_saw_has_no_score() -> None:
    truth = np.array([0, 0, 2, 2])
    scores = segmenter.scores(confusion_of(truth, truth))
    assert scores.f1["Water"] is None
    assert (scores.macro_f1, scores.f1["Tree"]) == (1, 1)


def test_it_learns_to_tell_the_classes_apart(store: Store, tmp_path: Path) -> None:
    settings = SegmenterSettings(steps=60, batch=4, crop=64, widths=(8, 16, 16, 32), decoder=32)
    scores = segmenter.train(store, tmp_path / "model", settings).record.test
    truth = data.load(store, "test").pixels[..., 3]
    largest = np.bincount(truth.ravel()).max() / truth.size
    assert scores.accuracy > largest + 0.1
    assert scores.tiles == 2
    losses = np.loadtxt(tmp_path / "model" / "loss.csv", delimiter=",", skiprows=1)[:, 1]
    assert len(losses) == 60
    assert losses[-10:].mean() < 0.7 * losses[:5].mean()


def test_the_test_report_is_over_all_pixels_of_the_test_tiles(project: Project) -> None:
    folder = project.models / "segmenter"
    report = json.loads((folder / "test.json").read_text())
    tiles = data.load(project.store, "test").pixels
    predicted, _ = segmenter.look(segmenter.load(folder), tiles[..., :3])
    expected = confusion_of(tiles[..., 3].ravel().astype(int), predicted.ravel().astype(int))
    assert report["confusion"] == expected.tolist()
    assert report["tiles"] == len(tiles) > 1


def test_ids_and_features_are_the_same_at_any_batch_size(project: Project) -> None:
    model = segmenter.load(project.models / "segmenter")
    tiles = np.array(data.load(project.store, "train").pixels[:5, ..., :3])
    ids, features = segmenter.look(model, tiles)
    assert (ids.shape, ids.dtype) == ((5, 64, 64), np.uint8)
    assert (features.shape[0], features.dtype) == (5, np.float32)
    singly = [segmenter.look(model, tiles[i : i + 1]) for i in range(5)]
    np.testing.assert_array_equal(ids, np.concatenate([mask for mask, _ in singly]))
    np.testing.assert_array_equal(features, np.concatenate([vectors for _, vectors in singly]))


def test_an_interrupted_training_resumes_to_the_same_weights(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = segmenter.train(store, tmp_path / "whole", SMALL).record
    monkeypatch.setattr(training, "Job", functools.partial(training.Job, checkpoint_every=2))
    with monkeypatch.context() as patch:
        crops, calls = data.Tiles.crops, iter(range(100))

        def interrupted(*args: object) -> object:
            if next(calls) == 3:
                raise KeyboardInterrupt
            return crops(*args)  # type: ignore[arg-type]

        patch.setattr(data.Tiles, "crops", interrupted)
        with pytest.raises(KeyboardInterrupt):
            segmenter.train(store, tmp_path / "cut", SMALL)
    assert (tmp_path / "cut" / "checkpoint.pt").exists()
    assert not is_fresh(store, tmp_path / "cut", SMALL)
    resumed = segmenter.train(store, tmp_path / "cut", SMALL).record
    assert resumed.weights_sha256 == whole.weights_sha256
    assert not (tmp_path / "cut" / "checkpoint.pt").exists()


def test_a_finished_training_is_kept_until_its_settings_or_tiles_change(
    store: Store, tmp_path: Path
) -> None:
    folder = tmp_path / "model"
    assert segmenter.train(store, folder, SMALL).fresh
    assert not segmenter.train(store, folder, SMALL).fresh
    assert not is_fresh(store, folder, SegmenterSettings(steps=5))
    other = make_store(tmp_path / "other", SPLITS, seed=1)
    assert not is_fresh(other, folder, SMALL)


def test_without_test_tiles_nothing_is_trained(tmp_path: Path) -> None:
    store = make_store(tmp_path / "work", ["train"] * 3)
    with pytest.raises(ArasError, match="split test has no tiles"):
        segmenter.train(store, tmp_path / "model", SMALL)
    assert not (tmp_path / "model" / "record.json").exists()


def test_a_missing_model_names_the_command_that_makes_it(tmp_path: Path) -> None:
    with pytest.raises(ArasError, match="run `aras train segmenter` first"):
        segmenter.load(tmp_path)


def test_damaged_weights_are_never_used(store: Store, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    segmenter.train(store, folder, SMALL)
    weights = folder / segmenter.WEIGHTS
    data_ = bytearray(weights.read_bytes())
    data_[-9] ^= 1
    weights.write_bytes(data_)
    with pytest.raises(ArasError, match=r"not the weights that record\.json .*describes"):
        segmenter.load(folder)
