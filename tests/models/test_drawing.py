"""Drawing: guidance is what the paper says, bad layouts are refused, latents are decoded."""

import dataclasses

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL

from builder.core.errors import ArasError
from builder.models import data, generator, texture, training
from builder.models.autoencoder import build as build_autoencoder
from builder.models.codec import Codec, LatentCodec, PixelCodec, Standard
from builder.models.drawing import TOLERANCE, Generator, Sampling, sample
from builder.models.processes import Corrupted, Predict
from builder.models.settings import AutoencoderSettings, GeneratorSettings
from tests.makers.products import land

TINY = GeneratorSettings(widths=(8, 16), crop=16, objective="ddpm")
LAYOUTS = np.stack([land((32, 32), seed=i) for i in range(3)])
SEEDS = [1, 2, 3]
FEW = Sampling(steps=3)


def tiny(codec: Codec | None = None, drop: float = 0.1, **changes: str) -> Generator:
    """An untrained generator: how it is drawn from does not depend on what it knows."""
    codec = codec or PixelCodec()
    unet = generator.build(dataclasses.replace(TINY, **changes), codec)
    unet = unet.to(training.device()).eval()
    return Generator(unet, codec, generator.process_of(unet), drop)


def latents() -> LatentCodec:
    autoencoder = build_autoencoder(AutoencoderSettings(widths=(8, 8, 8), channels=2)).eval()
    assert isinstance(autoencoder, AutoencoderKL)
    autoencoder.register_to_config(scaling_factor=2.0, shift_factor=0.5)
    return LatentCodec(autoencoder.to(training.device()))


@pytest.fixture(scope="module", params=["pixel", "latent", "none"])
def model(request: pytest.FixtureRequest) -> Generator:
    if request.param == "none":
        return tiny(condition="none")
    return tiny(latents() if request.param == "latent" else None)


@pytest.mark.skipif(torch.cuda.is_available(), reason="exact on the CPU")
def test_a_tile_is_the_same_at_any_batch_size(model: Generator) -> None:
    whole = sample(model, LAYOUTS, SEEDS, FEW)
    assert (whole.shape, whole.dtype) == ((3, 32, 32, 3), np.uint8)
    for i in (2, 0):
        single = sample(model, LAYOUTS[i : i + 1], SEEDS[i : i + 1], FEW)
        np.testing.assert_array_equal(single[0], whole[i])
    other = sample(model, LAYOUTS[:1], [9], FEW)
    assert (other[0] != whole[0]).any()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("precision", ["auto", "float32"])
def test_a_tile_is_nearly_the_same_at_any_batch_size_on_a_gpu(
    model: Generator, precision: str
) -> None:
    how = dataclasses.replace(FEW, steps=15)
    model = dataclasses.replace(model, precision=precision)
    layouts = np.stack([land((32, 32), seed=i) for i in range(8)])
    whole = sample(model, layouts, range(8), how).astype(int)
    single = np.concatenate([sample(model, layouts[i : i + 1], [i], how) for i in range(8)])
    off = np.abs(whole - single)
    assert off.max() <= TOLERANCE[0]
    assert off.mean() <= TOLERANCE[1]


def test_it_depends_on_its_layout_unless_it_takes_none(model: Generator) -> None:
    first = sample(model, LAYOUTS[:1], [1], FEW)
    second = sample(model, LAYOUTS[1:2], [1], FEW)
    assert bool((first != second).any()) == model.takes_layout


@pytest.mark.parametrize("codec", [PixelCodec(), latents()], ids=["pixel", "latent"])
def test_guidance_leads_from_the_null_layout_through_the_given_one(codec: Codec) -> None:
    """Scale 0 is the model without a layout, 1 with it, 2 as far again beyond."""
    model = tiny(codec)
    seen: list[torch.Tensor] = []
    real = model.unet.forward

    def forward(noisy: torch.Tensor, time: torch.Tensor, layout: torch.Tensor) -> torch.Tensor:
        seen.append(layout)
        return real(noisy, time, layout)

    model.unet.forward = forward  # type: ignore[method-assign]
    null = [sample(model, LAYOUTS[i : i + 1], [1], Sampling(steps=2, guidance=0)) for i in (0, 1)]
    np.testing.assert_array_equal(null[0], null[1])
    assert all(len(layout) == 2 and not layout[1].any() for layout in seen)
    seen.clear()
    sample(model, LAYOUTS[:1], [1], Sampling(steps=2))
    assert [len(layout) for layout in seen] == [1, 1]  # no second pass where none is needed
    drawn = [
        sample(model, LAYOUTS[:1], [1], Sampling("ddim", 1, guidance=g)).astype(float)
        for g in (0, 1, 2)
    ]
    inside = (drawn[2] > 0) & (drawn[2] < 255)
    if codec.cell == 1:  # one step is linear in the prediction, until the clipping
        np.testing.assert_allclose((drawn[0] + drawn[2])[inside], 2 * drawn[1][inside], atol=2)


@pytest.mark.parametrize("codec", [PixelCodec(), latents()], ids=["pixel", "latent"])
def test_precision_reaches_what_is_drawn(codec: Codec) -> None:
    drawn = {
        name: sample(dataclasses.replace(tiny(codec), precision=name), LAYOUTS, SEEDS, FEW)
        for name in ("auto", "float32", "bf16")
    }
    assert (drawn["bf16"] != drawn["float32"]).any()
    if not torch.cuda.is_available():
        np.testing.assert_array_equal(drawn["auto"], drawn["float32"])


def test_the_autoencoder_runs_in_its_precision_too() -> None:
    plain = latents()
    low = LatentCodec(plain.autoencoder, "bf16")
    images = np.random.default_rng(0).integers(0, 256, (1, 16, 16, 3), dtype=np.uint8)
    encoded = plain.encode(images)
    assert not torch.equal(encoded, low.encode(images))
    torch.testing.assert_close(encoded, low.encode(images), rtol=0.1, atol=0.1)
    assert (plain.decode(encoded) != low.decode(encoded)).any()


def test_guidance_of_a_generator_that_never_missed_its_layout_is_refused() -> None:
    for model in (tiny(drop=0.0), tiny(condition="none")):
        with pytest.raises(ArasError, match=r"guidance = 2: .*set guidance = 1, or layout_dropout"):
            sample(model, LAYOUTS[:1], [1], Sampling(guidance=2))


@pytest.mark.parametrize(
    ("shape", "size"), [((1, 32, 31), "31×32"), ((1, 0, 32), "32×0"), ((32, 32), "32")]
)
def test_a_layout_of_a_wrong_size_is_refused(shape: tuple[int, ...], size: str) -> None:
    message = rf"layouts of {size} pixels: width and height must be multiples of 2"
    with pytest.raises(ArasError, match=message):
        sample(tiny(), np.zeros(shape, dtype=np.uint8), [1], FEW)
    with pytest.raises(ArasError, match="must be multiples of 8"):  # 4 pixels a cell, one halving
        sample(tiny(latents()), np.zeros((1, 36, 32), dtype=np.uint8), [1], FEW)


def test_an_id_that_is_no_class_is_refused() -> None:
    layout = LAYOUTS[:1].copy()
    layout[0, 3, 4] = 7
    with pytest.raises(ArasError, match="a layout holds id 7; ids are 0…6"):
        sample(tiny(), layout, [1], FEW)


def test_pixels_are_standardised_by_their_class_and_brought_back() -> None:
    rng = np.random.default_rng(0)
    tiles = np.zeros((4, 32, 32, 4), dtype=np.uint8)
    tiles[..., 16:, 3] = 3
    tiles[..., :3] = rng.normal(60 + 30 * tiles[..., 3:], 5 + 5 * tiles[..., 3:]).clip(0, 255)
    standard = Standard.of(tiles, classes=7)
    codec, images, masks = PixelCodec(standard), tiles[..., :3], tiles[..., 3]
    encoded = codec.encode(images, masks)
    for inside in (masks == 0, masks == 3):
        values = encoded.permute(0, 2, 3, 1)[torch.from_numpy(inside)]
        torch.testing.assert_close(values.mean(dim=0), torch.zeros(3), atol=1e-4, rtol=0)
        torch.testing.assert_close(values.std(dim=0), torch.ones(3), atol=1e-3, rtol=0)
    np.testing.assert_array_equal(codec.decode(encoded, masks), images)
    np.testing.assert_allclose(standard.means[1], images.reshape(-1, 3).mean(axis=0))
    whole = PixelCodec(Standard.of(tiles, classes=1)).encode(images, masks)
    assert float(whole.std()) == pytest.approx(1, abs=0.05)
    flat = np.full((1, 4, 4, 4), 3, dtype=np.uint8)
    assert Standard.of(flat, classes=7).deviations[3] == (Standard.LEAST,) * 3


@dataclasses.dataclass(frozen=True)
class Still:
    """A process that gives back what it begins with, with so much noise."""

    amount: float

    def corrupt(self, clean: torch.Tensor, noise: torch.Tensor, times: torch.Tensor) -> Corrupted:
        raise AssertionError("nothing is trained here")

    def draw(
        self,
        predict: Predict,
        noise: torch.Tensor,
        start: torch.Tensor | None,
        sampler: str,
        steps: int,
    ) -> torch.Tensor:
        assert start is not None
        return start + self.amount * noise


def test_a_tile_begins_with_its_texture_and_with_noise_of_its_own() -> None:
    """The noise is none of the numbers that the texture was drawn with."""
    rng = np.random.default_rng(1)
    tiles = rng.integers(90, 166, (4, 32, 32, 4), dtype=np.uint8)
    tiles[..., 3] = np.arange(32)[:, None] // 16
    textures = texture.fit(data.Tiles(tiles, "digest"), seed=0)
    layouts, codec = tiles[:1, ..., 3], PixelCodec(Standard.of(tiles, classes=7))
    unet = generator.build(dataclasses.replace(TINY, objective="edm"), codec)
    start = textures.draw(layouts, [5])[0].astype(float)
    plain, noisy = (
        sample(Generator(unet, codec, Still(n), textures=textures), layouts, [5], FEW)[0]
        for n in (0.0, 0.5)
    )
    assert np.abs(plain - start).max() <= 1
    noise = noisy - start
    assert noise.std() > 5
    assert abs(np.corrcoef(noise.ravel(), start.ravel())[0, 1]) < 0.1


def test_latents_are_scaled_on_the_way_in_and_back_on_the_way_out() -> None:
    codec = latents()
    assert (codec.channels, codec.cell) == (2, 4)
    images = np.random.default_rng(0).integers(0, 256, (2, 16, 16, 3), dtype=np.uint8)
    encoded = codec.encode(images)
    assert encoded.shape == (2, 2, 4, 4)
    with torch.no_grad():
        raw = codec.autoencoder.encode(PixelCodec().encode(images)).latent_dist.mode()
        again = codec.autoencoder.decode(raw).sample
    torch.testing.assert_close(encoded, (raw - 0.5) * 2)
    np.testing.assert_allclose(
        codec.decode(encoded).astype(int), PixelCodec().decode(again).astype(int), atol=1
    )
    np.testing.assert_array_equal(PixelCodec().decode(PixelCodec().encode(images)), images)
