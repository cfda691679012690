"""Boundary statistics: known answers on small masks; recombined layouts beside land."""

import numpy as np
import pytest

from builder.land.classes import CLASSES
from builder.quality.boundaries import adjacency_distance, boundaries, patch_sizes
from builder.synthesis.transforms import Transform, apply
from tests.makers.products import land

TREE, SHRUB, GRASS, WATER = (CLASSES.index(n) for n in ("Tree", "Shrub", "Grass", "Water"))


def square(side: int, at: int = 4, size: int = 32) -> np.ndarray:
    """A square lake in grass."""
    mask = np.full((size, size), GRASS, dtype=np.uint8)
    mask[at : at + side, at : at + side] = WATER
    return mask


def test_a_square_lake_has_its_four_sides_for_boundary():
    found = boundaries([square(12)])
    assert found.masks == 1
    assert found.density == 4 * 12 / 32**2
    assert found.patches == 2
    assert found.median_patch == (12**2 + 32**2 - 12**2) / 2
    assert found.straight == 1
    expected = np.zeros((7, 7))
    expected[GRASS, WATER] = expected[WATER, GRASS] = 0.5
    np.testing.assert_array_equal(found.adjacency, expected)


def test_sides_count_as_straight_from_eight_pixels_on():
    assert boundaries([square(8)]).straight == 1
    assert boundaries([square(7)]).straight == 0
    assert boundaries([square(12), square(4)]).straight == 48 / (48 + 16)


def test_a_line_on_which_classes_change_places_is_not_straight():
    mask = np.zeros((16, 2), dtype=np.uint8)
    mask[::2, 0] = mask[1::2, 1] = WATER  # a chess board: every edge is a boundary
    assert boundaries([mask]).density == (16 + 2 * 15) / 32
    assert boundaries([mask]).straight == 0


def test_a_mask_of_one_class_has_no_boundary():
    found = boundaries([np.zeros((8, 8), dtype=np.uint8)])
    assert (found.density, found.straight, found.patches, found.specks) == (0, 0, 1, 0)
    assert found.adjacency.sum() == 0


def test_patches_that_touch_at_a_corner_are_two():
    mask = np.full((4, 4), GRASS, dtype=np.uint8)
    mask[:2, :2] = mask[2:, 2:] = WATER
    assert sorted(patch_sizes(mask)) == [4, 4, 4, 4]
    assert boundaries([mask]).specks == 1


def test_statistics_do_not_depend_on_how_a_mask_is_turned():
    mask = land((64, 64), grain=3)
    usual = boundaries([mask])
    for turned in (np.rot90(mask), np.fliplr(mask), mask.T):
        found = boundaries([turned])
        assert (found.density, found.patches, found.straight) == (
            usual.density,
            usual.patches,
            usual.straight,
        )
        np.testing.assert_allclose(found.adjacency, usual.adjacency)


def test_adjacency_distance_goes_from_none_to_all():
    lake, wood = boundaries([square(8)]), boundaries([np.where(square(8) == WATER, TREE, SHRUB)])
    assert adjacency_distance(lake, lake) == 0
    assert adjacency_distance(lake, wood) == 1
    assert adjacency_distance(lake, boundaries([square(8), square(8)])) == 0


def test_statistics_of_no_masks_are_refused():
    with pytest.raises(ValueError, match="at least one mask"):
        boundaries([])


def test_recombined_layouts_have_no_straight_seams_and_pasted_rectangles_have():
    tiles = [land((96, 96), seed, grain=4) for seed in range(12)]
    recombine = Transform(other="donor", classes=("Water",))
    recombined, quilted = [], []
    for tile, donor in zip(tiles, tiles[1:] + tiles[:1], strict=True):
        recombined.append(apply(recombine, tile, other=donor))
        quilt = tile.copy()
        quilt[16:64, 24:72] = donor[16:64, 24:72]
        quilted.append(quilt)
    real = boundaries(tiles)
    assert boundaries(recombined).straight < 1.25 * real.straight
    assert boundaries(quilted).straight > 1.25 * real.straight
    assert boundaries(recombined).patches < 1.5 * real.patches
    assert boundaries(recombined).density < 1.5 * real.density
