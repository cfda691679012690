"""Textures: the colour, spread and grain of each class, and nothing of a train tile's picture."""

from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from builder.core.errors import ArasError
from builder.models import data, drawing, generator, quilt, texture
from builder.models.freshness import is_fresh
from builder.models.settings import GeneratorSettings
from builder.pipeline import recipe
from tests.makers.tiles import make_store

SIDE = 96
COLOURS = {0: (40, 60, 40), 3: (150, 130, 80), 6: (20, 40, 70)}
GRAIN = {0: 0.6, 3: 2.5, 6: 5.0}
"""Correlation length of each class's grain in pixels."""


def painted(rng: np.random.Generator, mask: np.ndarray) -> np.ndarray:
    """A tile of three classes, each with a colour, a spread of 12 levels and a grain of its own."""
    image = np.zeros((*mask.shape, 3))
    for class_id, colour in COLOURS.items():
        noise = ndimage.gaussian_filter(rng.standard_normal(mask.shape), GRAIN[class_id])
        image[mask == class_id] = (np.array(colour) + 12 * (noise / noise.std())[..., None])[
            mask == class_id
        ]
    return image.clip(0, 255).round().astype(np.uint8)


def layout(rng: np.random.Generator) -> np.ndarray:
    y, x = np.mgrid[:SIDE, :SIDE]
    edge = rng.integers(30, 60)
    return np.where(x < edge, 0, np.where(y < SIDE // 2, 3, 6)).astype(np.uint8)


@pytest.fixture(scope="module")
def tiles() -> data.Tiles:
    rng = np.random.default_rng(0)
    masks = [layout(rng) for _ in range(12)]
    pixels = [np.dstack([painted(rng, mask), mask]) for mask in masks]
    return data.Tiles(np.stack(pixels), "digest")


@pytest.fixture(scope="module")
def textures(tiles: data.Tiles) -> texture.Textures:
    return texture.fit(tiles, seed=0)


def sharpness(values: np.ndarray) -> float:
    return float(ndimage.laplace(values.astype(float)).std() / values.std())


@pytest.mark.parametrize("class_id", COLOURS)
def test_each_class_has_its_colour_spread_and_grain(tiles, textures, class_id):
    masks = np.full((16, SIDE, SIDE), class_id, dtype=np.uint8)
    drawn = textures.draw(masks, range(16))
    inside = tiles.pixels[..., 3] == class_id
    real = tiles.pixels[..., :3][inside]
    assert np.abs(drawn.mean(axis=(0, 1, 2)) - real.mean(axis=0)).max() < 5
    assert 0.8 < drawn.std() / real.std() < 1.2
    of_real = np.median([sharpness(tiles.pixels[i, :40, :28, 0]) for i in range(12)])
    if class_id == 0:  # the class of that corner
        assert 0.8 < np.median([sharpness(tile[..., 0]) for tile in drawn]) / of_real < 1.25


def test_a_tile_depends_on_its_own_layout_and_seed_alone(textures):
    rng = np.random.default_rng(1)
    masks = np.stack([layout(rng) for _ in range(3)])
    together = textures.draw(masks, [5, 6, 7])
    np.testing.assert_array_equal(together[1:2], textures.draw(masks[1:2], [6]))
    assert (textures.draw(masks[1:2], [8]) != together[1:2]).mean() > 0.9


def test_nothing_of_a_train_picture_is_in_it(tiles, textures):
    """Correlation with the train tile that has the same layout is that of independent noise."""
    masks = tiles.pixels[..., 3]
    drawn = textures.draw(masks, range(len(masks))).astype(float)
    flat = masks == 0
    related = []
    for tile, real, inside in zip(drawn, tiles.pixels, flat, strict=True):
        related.append(np.corrcoef(tile[inside, 0], real[inside, 0])[0, 1])
    assert np.abs(related).max() < 0.1
    spots = textures.spots.astype(float)
    middle = texture.SIDE // 2
    assert np.abs(spots).max(axis=(1, 2, 3)) == pytest.approx(
        np.abs(spots[:, middle, middle]).max(axis=1), rel=0.3
    )  # all waves have their crest in the middle: phases are gone


def test_a_class_of_few_pixels_has_a_texture_and_one_of_none_is_refused(tiles):
    pixels = tiles.pixels[:2].copy()
    pixels[0, 10:16, 10:16, 3] = 5
    pixels[0, SIDE - 1, SIDE - 1] = (9, 8, 7, 2)  # one pixel, in a corner
    few = texture.fit(data.Tiles(pixels, "digest"), seed=0)
    assert few.draw(np.full((1, 40, 40), 5, dtype=np.uint8), [0]).shape == (1, 40, 40, 3)
    assert (few.draw(np.full((1, 8, 8), 2, dtype=np.uint8), [0]) == (9, 8, 7)).all()
    with pytest.raises(ArasError, match="class 1, which no train tile has"):
        few.draw(np.full((1, 40, 40), 1, dtype=np.uint8), [0])


def test_a_class_of_one_tile_is_found_beyond_those_looked_at_first(tiles, monkeypatch):
    monkeypatch.setattr(texture, "SCANNED", 1)
    pixels = np.repeat(tiles.pixels[:1], 6, axis=0)
    pixels[:, 0, 0, 3] = np.arange(6)
    assert set(texture.fit(data.Tiles(pixels, "digest"), seed=0).owners) == {0, 1, 2, 3, 4, 5, 6}


def test_tiles_smaller_and_larger_than_a_spot_are_drawn(tiles):
    small = texture.fit(data.Tiles(tiles.pixels[:, :24, :20], "digest"), seed=0)
    for side in (8, 24, 100):
        assert small.draw(np.zeros((1, side, side + 2), dtype=np.uint8), [0]).std() > 1


@pytest.mark.parametrize(
    ("kind", "weights"), [("texture", texture.WEIGHTS), ("quilt", quilt.WEIGHTS)]
)
def test_it_takes_the_place_of_a_trained_generator(tmp_path: Path, kind: str, weights: str):
    store, folder = make_store(tmp_path / "work", ["train"] * 4), tmp_path / "models" / "generator"
    settings = GeneratorSettings(kind=kind)
    trained = generator.train(store, folder, settings)
    assert trained.fresh
    assert trained.record.steps == 0
    assert trained.record.final_loss is None
    assert not generator.train(store, folder, settings).fresh
    assert is_fresh(store, folder, GeneratorSettings(kind=kind, steps=9, learning_rate=0.5))
    assert not is_fresh(store, folder, GeneratorSettings(kind=kind, seed=9))
    assert not is_fresh(store, folder, GeneratorSettings())
    loaded = generator.load(folder)
    masks = data.load(store, "train").pixels[:2, ..., 3]
    drawn = drawing.sample(loaded, masks, [1, 2], drawing.Sampling())
    assert drawn.shape == (*masks.shape, 3)
    (folder / weights).write_bytes(b"")
    with pytest.raises(ArasError, match=rf"{weights}: not the weights"):
        generator.load(folder)


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ('condition = "none"', "draws on layouts"),
        ("sampling_steps = 4", "sampling_steps belongs to a diffusion model"),
        ("guidance = 2.0", "guidance belongs to a diffusion model"),
    ],
)
@pytest.mark.parametrize("kind", ["texture", "quilt"])
def test_keys_of_diffusion_models_are_refused_beside_it(
    tmp_path: Path, kind: str, keys: str, words: str
):
    recipe.write(tmp_path)
    path = tmp_path / recipe.FILE
    text = path.read_text().replace("[generator]", f'[generator]\nkind = "{kind}"\n{keys}', 1)
    path.write_text(text)
    with pytest.raises(ArasError, match=words):
        recipe.load(tmp_path)
