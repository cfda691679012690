"""The generator: learns what its layout says, draws the same bytes at any batch size, resumes."""

import functools
from pathlib import Path

import numpy as np
import pytest

from builder.errors import ArasError
from builder.landcover import CLASSES
from builder.models import data, generator, training
from builder.pipeline import Project
from builder.store import Store
from tests.makers.products import land
from tests.makers.tiles import make_store

SMALL = generator.Settings(steps=4, batch=2, crop=32, widths=(8, 16, 16, 16))
FEW = generator.Sampling(steps=2)
BARREN, WATER = CLASSES.index("Barren"), CLASSES.index("Water")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return make_store(tmp_path / "work", ["train"] * 8)


def test_what_it_draws_follows_the_layout(store: Store, tmp_path: Path) -> None:
    """Water is dark and bare ground bright in the tiles, so they must be in what it draws."""
    settings = generator.Settings(
        steps=100, batch=8, crop=32, widths=(8, 16, 16, 32), learning_rate=3e-3
    )
    told = generator.train(store, tmp_path / "model", settings)
    layout = np.full((64, 64), WATER, dtype=np.uint8)
    layout[:, 32:] = BARREN
    model = generator.load(tmp_path / "model")
    for mask in (layout, layout[:, ::-1]):
        seeds = [1, 2]
        drawn = generator.sample(model, np.stack([mask] * 2), seeds, generator.Sampling(steps=8))
        for one in drawn.astype(float):
            assert one[mask == BARREN].mean() > one[mask == WATER].mean() + 20
    losses = np.loadtxt(tmp_path / "model" / "loss.csv", delimiter=",", skiprows=1)[:, 1]
    assert told["final_loss"] < 0.6 * losses[:5].mean()


@pytest.mark.parametrize("sampler", ["dpm-solver", "ddim"])
def test_a_tile_depends_on_its_seed_and_layout_alone(project: Project, sampler: str) -> None:
    model = generator.load(project.models / "generator")
    how = generator.Sampling(sampler, 2)
    layouts = np.stack([land((64, 64), seed=i) for i in range(4)])
    seeds = [11, 12, 13, 14]
    whole = generator.sample(model, layouts, seeds, how)
    assert whole.shape == (4, 64, 64, 3)
    assert whole.dtype == np.uint8
    for i in (2, 0, 3):
        single = generator.sample(model, layouts[i : i + 1], seeds[i : i + 1], how)
        np.testing.assert_array_equal(single[0], whole[i])
    other = generator.sample(model, layouts[:1], [99], how)
    assert (other[0] != whole[0]).any()


def test_it_draws_at_sizes_that_it_was_not_trained_at(project: Project) -> None:
    model = generator.load(project.models / "generator")
    drawn = generator.sample(model, land((128, 96))[None], [1], FEW)
    assert drawn.shape == (1, 128, 96, 3)


def test_an_interrupted_training_resumes_to_the_same_weights(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The moving average and the optimiser are resumed too, or the weights would differ."""
    whole = generator.train(store, tmp_path / "whole", SMALL)
    monkeypatch.setattr(training, "Job", functools.partial(training.Job, checkpoint_every=2))
    with monkeypatch.context() as patch:
        crops, calls = data.Tiles.crops, iter(range(100))

        def interrupted(*args: object) -> object:
            if next(calls) == 3:
                raise KeyboardInterrupt
            return crops(*args)  # type: ignore[arg-type]

        patch.setattr(data.Tiles, "crops", interrupted)
        with pytest.raises(KeyboardInterrupt):
            generator.train(store, tmp_path / "cut", SMALL)
    assert not generator.is_fresh(store, tmp_path / "cut", SMALL)
    resumed = generator.train(store, tmp_path / "cut", SMALL)
    assert resumed["steps"] == 4
    assert resumed["weights_sha256"] == whole["weights_sha256"]


def test_the_saved_weights_are_the_moving_average(store: Store, tmp_path: Path) -> None:
    slow = generator.train(store, tmp_path / "slow", SMALL)
    fast = generator.Settings(**{**SMALL.__dict__, "ema": 0.0})
    assert (
        generator.train(store, tmp_path / "fast", fast)["weights_sha256"]
        != (slow["weights_sha256"])
    )


def test_the_record_tells_what_the_model_was_made_from(project: Project) -> None:
    found = training.require(project.models / "generator", "generator")
    assert found["data"] == data.digest(project.store, "train")
    assert found["settings"]["steps"] == found["steps"] == 3
    assert found["classes"] == list(CLASSES)


def test_a_crop_that_cannot_be_halved_is_refused(store: Store, tmp_path: Path) -> None:
    odd = generator.Settings(steps=1, crop=36)
    with pytest.raises(ArasError, match=r"\[generator\] crop = 36: a multiple of 8 is wanted"):
        generator.train(store, tmp_path / "model", odd)


def test_a_missing_model_names_the_command_that_makes_it(tmp_path: Path) -> None:
    with pytest.raises(ArasError, match="run `aras train generator` first"):
        generator.load(tmp_path)


def test_damaged_weights_are_never_used(store: Store, tmp_path: Path) -> None:
    generator.train(store, tmp_path, SMALL)
    weights = tmp_path / generator.WEIGHTS
    weights.write_bytes(weights.read_bytes()[:-1])
    with pytest.raises(ArasError, match=r"not the weights that record\.json .*describes"):
        generator.load(tmp_path)
