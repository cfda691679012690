"""Quilts: patches of train tiles, sewn together through a layout where they differ least."""

import numpy as np
import pytest
from scipy import ndimage

from builder.core.errors import ArasError
from builder.models import data, quilt

SIDE = 96
CLASSES = (0, 3, 6)


@pytest.fixture(scope="module")
def tiles() -> data.Tiles:
    """Twelve tiles, each class in a range of levels of its own, with a grain of 3 pixels."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:SIDE, :SIDE]
    mask = np.where(x < 40, 0, np.where(y < SIDE // 2, 3, 6)).astype(np.uint8)
    noise = ndimage.gaussian_filter(rng.standard_normal((12, SIDE, SIDE, 3)), (0, 3, 3, 0))
    levels = 40 + 30 * mask[..., None] + 10 * noise / noise.std()
    pixels = np.concatenate(
        [levels.round().clip(0, 255), np.broadcast_to(mask[..., None], (12, SIDE, SIDE, 1))], axis=3
    )
    return data.Tiles(pixels.astype(np.uint8), "digest")


@pytest.fixture(scope="module")
def sewn(tiles: data.Tiles) -> quilt.Quilt:
    return quilt.fit(tiles, seed=0)


def has_block(tile: np.ndarray, tiles: data.Tiles, y: int, x: int, side: int = 6) -> bool:
    """Whether a train tile has the block of ``tile`` at (y, x), turned or flipped."""
    block = tile[y : y + side, x : x + side]
    turned = [np.rot90(b, k) for b in (block, block[:, ::-1]) for k in range(4)]
    train = np.asarray(tiles.pixels[..., :3])
    windows = np.lib.stride_tricks.sliding_window_view(train, (side, side), axis=(1, 2))
    corner = windows[..., 0, 0]
    for pattern in turned:
        for place in np.argwhere((corner == pattern[0, 0]).all(axis=-1)):
            if (windows[tuple(place)].transpose(1, 2, 0) == pattern).all():
                return True
    return False


def test_inside_a_class_every_block_is_a_train_tiles(tiles: data.Tiles, sewn: quilt.Quilt):
    [tile] = sewn.draw(np.full((1, 64, 64), 3, dtype=np.uint8), [1])
    middle = (quilt.SIDE - 6) // 2
    assert has_block(tile, tiles, middle, middle)
    noise = np.random.default_rng(1).integers(0, 256, tile.shape).astype(np.uint8)
    assert not has_block(noise, tiles, middle, middle)


def test_a_seam_runs_where_patches_differ_least():
    """Along a valley that turns by a column a row, and by no way around it."""
    valley = np.array([3, 2, 1, 1, 2, 3, 4, 5])
    cost = np.ones((8, 6), dtype=np.float32)
    cost[np.arange(8), valley] = 0
    np.testing.assert_array_equal(quilt._seam(cost), valley)
    known = np.zeros((quilt.SIDE, quilt.SIDE), dtype=bool)
    known[:, : quilt.OVERLAP] = True
    difference = np.ones(known.shape, dtype=np.float32)
    difference[:, 5] = 0
    new = quilt._cut(difference, known)
    assert new[:, 5:].all()
    assert not new[:, :5].any()


def test_seams_are_smoother_than_patches_that_abut(sewn: quilt.Quilt, monkeypatch):
    def roughest(tile: np.ndarray) -> float:
        return float(np.quantile(np.abs(np.diff(tile.astype(float), axis=1)), 0.995))

    layout = np.zeros((1, 128, 128), dtype=np.uint8)
    [tile] = sewn.draw(layout, [2])
    monkeypatch.setattr(quilt, "_cut", lambda difference, known: np.ones_like(known))
    [abutting] = sewn.draw(layout, [2])
    assert roughest(tile) < 0.9 * roughest(abutting)


def test_classes_are_where_the_layout_has_them(tiles: data.Tiles, sewn: quilt.Quilt):
    layout = np.asarray(tiles.pixels[0, ..., 3])
    [tile] = sewn.draw(layout[None], [3])
    for class_id in CLASSES:
        inside = ndimage.binary_erosion(layout == class_id, iterations=2)
        assert abs(float(tile[inside].mean()) - (40 + 30 * class_id)) < 8


def test_a_tile_depends_on_its_own_layout_and_seed_alone(sewn: quilt.Quilt):
    masks = np.zeros((3, 48, 40), dtype=np.uint8)
    masks[:, 20:] = 6
    together = sewn.draw(masks, [5, 6, 7])
    assert together.shape == (3, 48, 40, 3)
    np.testing.assert_array_equal(together[1:2], sewn.draw(masks[1:2], [6]))
    assert (sewn.draw(masks[1:2], [8]) != together[1:2]).mean() > 0.5


def test_a_class_of_one_pixel_is_sewn_of_its_colour_and_one_of_none_is_refused(tiles: data.Tiles):
    pixels = np.array(tiles.pixels[:2, :24, :20])
    pixels[0, 23, 19] = (9, 8, 7, 2)  # in a corner of a tile that is smaller than a patch
    small = quilt.fit(data.Tiles(pixels, "digest"), seed=0)
    assert (small.draw(np.full((1, 40, 40), 2, dtype=np.uint8), [0]) == (9, 8, 7)).all()
    with pytest.raises(ArasError, match="class 1, which no train tile has"):
        small.draw(np.full((1, 40, 40), 1, dtype=np.uint8), [0])
