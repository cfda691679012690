"""Latents: an autoencoder trained here, and a generator that works on them."""

import dataclasses
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL
from torch.utils.flop_counter import FlopCounterMode

from builder.core.errors import ArasError
from builder.core.files import read_json, sha256_file, write_json
from builder.core.store import Store
from builder.models import autoencoder, data, generator, segmenter
from builder.models.codec import LatentCodec, PixelCodec, load_autoencoder
from builder.models.freshness import is_fresh
from builder.models.record import require
from builder.models.settings import (
    AUTOENCODER,
    DRAWING,
    GENERATOR,
    AutoencoderSettings,
    GeneratorSettings,
    SegmenterSettings,
)
from tests.makers.products import land
from tests.makers.tiles import make_store

SMALL = AutoencoderSettings(
    steps=18,
    batch=2,
    crop=32,
    learning_rate=4e-3,
    widths=(8, 16, 16),
    evaluate_every=6,
    evaluation_tiles=4,
)
LATENT = GeneratorSettings(
    kind="latent",
    steps=4,
    batch=2,
    crop=32,
    widths=(8, 16),
    evaluate_every=2,
    evaluation_tiles=4,
    evaluation_steps=2,
)
JUDGE = SegmenterSettings(steps=2, batch=2, crop=32, widths=(8, 8, 16, 16), decoder=16)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Tiles with a segmenter, an autoencoder and a latent generator in models/."""
    home = tmp_path_factory.mktemp("home")
    store = make_store(home / "work", ["train"] * 8 + ["validation"] * 2 + ["test"] * 2)
    segmenter.train(store, home / "models" / "segmenter", JUDGE)
    autoencoder.train(store, home / "models" / "autoencoder", SMALL)
    generator.train(store, home / "models" / "generator", LATENT)
    return store


@pytest.fixture
def models(store: Store, tmp_path: Path) -> Path:
    """A copy of models/ that may be changed."""
    return Path(shutil.copytree(store.root.parent / "models", tmp_path / "models"))


def test_it_learns_to_bring_a_tile_back(store: Store) -> None:
    folder = store.root.parent / "models" / "autoencoder"
    lines = (folder / "evaluations.csv").read_text().splitlines()[1:]
    errors = [float(line.split(",")[1]) for line in lines]
    assert len(errors) == 3
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 0.97 * errors[0]
    record = require(folder, "autoencoder")
    assert record.reconstruction_error == pytest.approx(min(errors) * 127.5, abs=0.01)


def test_its_latents_have_zero_mean_and_unit_variance(store: Store) -> None:
    codec = LatentCodec(autoencoder.load(store.root.parent / "models" / "autoencoder"))
    images, _ = data.load(store, "train").crops(np.random.default_rng(5), 32, 32)
    latents = codec.encode(images)
    assert latents.shape == (32, 4, 8, 8)
    assert abs(float(latents.mean())) < 0.3
    assert 0.7 < float(latents.std()) < 1.4


def test_the_loss_is_the_papers_without_what_is_left_out() -> None:
    model = autoencoder.build(SMALL).eval()
    images = np.random.default_rng(0).integers(0, 256, (2, 16, 16, 3), dtype=np.uint8)
    clean = PixelCodec().encode(images)
    with torch.no_grad():
        posterior = model.encode(clean).latent_dist
        again = model.decode(posterior.mean).sample
        divergence = posterior.kl().mean() / posterior.mean[0].numel()
        loss = autoencoder.Loss(model, 0.25)(clean, torch.zeros(2, 4, 4, 4))
    expected = (again - clean).abs().mean() + 0.25 * divergence
    torch.testing.assert_close(loss, expected)


def test_an_interrupted_training_resumes_to_the_same_weights(
    store: Store, models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = require(models / "autoencoder", "autoencoder")
    with monkeypatch.context() as patch:
        crops, calls = data.Tiles.crops, iter(range(100))

        def interrupted(*args: object) -> object:
            if next(calls) == 10:
                raise KeyboardInterrupt
            return crops(*args)  # type: ignore[arg-type]

        patch.setattr(data.Tiles, "crops", interrupted)
        with pytest.raises(KeyboardInterrupt):
            autoencoder.train(store, models / "cut", SMALL)
    assert (models / "cut" / "checkpoint.pt").exists()
    resumed = autoencoder.train(store, models / "cut", SMALL).record
    assert resumed.weights_sha256 == whole.weights_sha256
    assert resumed.best == whole.best


def test_a_latent_generator_draws_at_full_resolution_and_carries_its_autoencoder(
    models: Path, tmp_path: Path
) -> None:
    """The folder alone is enough; a tile is the same at any batch size."""
    shutil.move(models / "generator", tmp_path / "elsewhere")
    loaded = generator.load(tmp_path / "elsewhere")
    assert loaded.unet.config.cell == 4
    layouts = np.stack([land((64, 64), seed=i) for i in range(2)])
    drawn = generator.sample(loaded, layouts, [1, 2], generator.Sampling(steps=2))
    assert drawn.shape == (2, 64, 64, 3)
    single = generator.sample(loaded, layouts[1:], [2], generator.Sampling(steps=2))
    np.testing.assert_array_equal(single[0], drawn[1])
    other = layouts[1:].copy()
    other[0, 5, 7] = (other[0, 5, 7] + 3) % 7  # one pixel of the full resolution is seen
    again = generator.sample(loaded, other, [2], generator.Sampling(steps=2))
    assert (again != single).any()


def test_an_autoencoder_that_is_not_its_own_is_refused(models: Path) -> None:
    folder = models / "generator"
    other = autoencoder.build(dataclasses.replace(SMALL, seed=9))
    other.save_pretrained(folder / "vae")
    with pytest.raises(ArasError, match=r"vae: not the autoencoder that record\.json describes"):
        generator.load(folder)


def test_without_an_autoencoder_the_command_that_trains_it_is_named(
    store: Store, models: Path
) -> None:
    shutil.rmtree(models / "autoencoder")
    with pytest.raises(ArasError, match="run `aras train autoencoder` first"):
        generator.train(store, models / "other", LATENT)


def test_another_autoencoder_makes_the_generator_stale(store: Store, models: Path) -> None:
    assert is_fresh(store, models / "generator", LATENT)
    record = models / "autoencoder" / "record.json"
    write_json(record, {**read_json(record), "weights_sha256": "0" * 64})
    assert not is_fresh(store, models / "generator", LATENT)


@pytest.mark.parametrize("place", ["", "vae"])
def test_an_autoencoder_of_ones_own_is_loaded_from_its_folder(
    store: Store, models: Path, place: str
) -> None:
    """Named relative to the recipe; of a whole pipeline it is the part ``vae``."""
    own = models.parent / "own" / place
    autoencoder.build(dataclasses.replace(SMALL, seed=4, channels=2)).save_pretrained(own)
    shutil.rmtree(models / "autoencoder")
    settings = dataclasses.replace(LATENT, autoencoder="own")
    record = generator.train(store, models / "other", settings).record
    assert record.autoencoder_sha256 == sha256_file(own / autoencoder.WEIGHTS)
    assert generator.load(models / "other").codec.channels == 2
    assert is_fresh(store, models / "other", settings)
    autoencoder.build(dataclasses.replace(SMALL, seed=5, channels=2)).save_pretrained(own)
    assert not is_fresh(store, models / "other", settings)


def test_what_is_no_autoencoder_of_rgb_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ArasError, match=r"nothing: no such model folder or file"):
        load_autoencoder(tmp_path / "nothing")
    AutoencoderKL(in_channels=1, out_channels=1).save_pretrained(tmp_path / "grey")
    with pytest.raises(ArasError, match="grey: expected an autoencoder of RGB, not of 1 channels"):
        load_autoencoder(tmp_path / "grey")


def test_a_name_that_is_nowhere_is_told_in_one_line(
    monkeypatch: pytest.MonkeyPatch, recwarn: pytest.WarningsRecorder
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ArasError, match=r"^model nowhere \(main\) is not on this machine[^\n]*$"):
        load_autoencoder("nowhere")
    assert [str(warning.message) for warning in recwarn] == []


def test_a_crop_that_does_not_fit_its_cells_is_refused(store: Store, tmp_path: Path) -> None:
    odd = dataclasses.replace(SMALL, crop=30)
    with pytest.raises(
        ArasError, match=r"\[autoencoder\] .*crop = 30 must be multiples of 1 and 4"
    ):
        autoencoder.train(store, tmp_path, odd)


def test_a_compiled_generator_is_saved_and_read_back(store: Store, models: Path) -> None:
    """Compiled and in another memory format, it learns and draws the same but for rounding. The
    backend is the one of torch that compiles nothing to machine code, which would take minutes."""
    settings = dataclasses.replace(
        LATENT, compile="eager", channels_last=True, precision="bf16", steps=2, evaluate_every=0
    )
    fast, plain = models / "fast", models / "plain"
    generator.train(store, fast, settings)
    generator.train(store, plain, dataclasses.replace(settings, compile=False, channels_last=False))
    ours = generator.load(fast, compiled="eager", channels_last=True)
    assert ours.precision == ours.codec.precision == "bf16"
    for network in (ours.unet, *ours.codec.networks):
        assert network._compiled_call_impl is not None
    assert ours.unet.unet.conv_in.weight.is_contiguous(memory_format=torch.channels_last)
    layouts = np.stack([land((32, 32), seed=i) for i in range(2)])
    how = generator.Sampling(steps=2)
    drawn, again, other = (
        generator.sample(model, layouts, [1, 2], how).astype(int)
        for model in (ours, generator.load(fast), generator.load(plain))
    )
    assert np.abs(drawn - again).mean() < 1
    assert np.abs(drawn - other).mean() < 1


def test_the_gpu_profile_works_on_latents_that_cost_less_than_the_network() -> None:
    """Built without memory for its weights. Operations of one tile of 256×256 pixels, once
    through: the network 0.015 TFLOP (0.93 on pixels), the autoencoder 0.07 in and 0.16 out."""
    settings, own = GENERATOR["gpu"], AUTOENCODER["gpu"]
    assert (settings.kind, settings.crop, own.crop) == ("latent", 256, 256)
    with torch.device("meta"), torch.no_grad():
        codec = LatentCodec(autoencoder.build(own))
        side = settings.crop // codec.cell
        assert (codec.cell, codec.channels, side) == (8, 4, 32)
        noisy, tile = torch.zeros(1, 4, side, side), torch.zeros(1, 3, 256, 256)
        layout, times = torch.zeros(1, 7, 256, 256), torch.zeros(1, dtype=torch.long)
        model, wide = generator.build(settings, codec), generator.build(settings, PixelCodec())
        assert model(noisy, times, layout).shape == noisy.shape
        assert round(sum(weight.numel() for weight in model.parameters()) / 1e6) == 80
        assert round(sum(weight.numel() for weight in codec.autoencoder.parameters()) / 1e6) == 21
        costs = [
            flops(lambda: model(noisy, times, layout)),
            flops(lambda: wide(tile, times, layout)),
            flops(lambda: codec.autoencoder.encode(tile)),
            flops(lambda: codec.autoencoder.decode(noisy)),
        ]
    np.testing.assert_allclose(costs, [0.0151e12, 0.929e12, 0.0688e12, 0.156e12], rtol=0.01)
    assert costs[3] < DRAWING["gpu"].steps * costs[0] < costs[1]


def flops(work: Callable[[], Any]) -> float:
    with FlopCounterMode(display=False) as counter:
        work()
    return float(counter.get_total_flops())
