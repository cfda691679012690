"""Measures of one tile against values worked out by hand, and in the direction they should go."""

import numpy as np
import pytest
from scipy import ndimage

from builder.core.errors import ArasError
from builder.quality.pixels import measure_pixels


def grey(values: np.ndarray) -> np.ndarray:
    return np.repeat(values.astype(np.uint8)[..., None], 3, axis=2)


def textured(seed: int = 0, spread: float = 40.0) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(110, spread, (64, 64, 3))
    return np.clip(noise, 0, 255).astype(np.uint8)


def test_a_constant_image_is_blank_and_has_neither_edges_nor_contrast():
    measures = measure_pixels(grey(np.full((32, 48), 90)))
    assert measures == {
        "sharpness": 0,
        "contrast": 0,
        "colour_saturation": 0,
        "cloudiness": 0,
        "blankness": 1,
    }


def test_a_checkerboard_by_hand():
    board = np.indices((8, 8)).sum(axis=0) % 2 * 100
    measures = measure_pixels(grey(board))
    # Every inner Laplacian is 4 · (±100), half of each sign.
    assert measures["sharpness"] == pytest.approx(400**2)
    assert measures["contrast"] == pytest.approx(50 / 255)
    assert measures["blankness"] == 0


def test_blur_lowers_sharpness_and_keeps_the_rest_in_order():
    image = textured()
    blurred = ndimage.gaussian_filter(image, (1.5, 1.5, 0))
    assert measure_pixels(blurred)["sharpness"] < 0.05 * measure_pixels(image)["sharpness"]


def test_cloudiness_counts_bright_grey_pixels_only():
    image = np.full((16, 16, 3), (40, 80, 40), np.uint8)
    image[:4] = 230  # cloud
    image[4:8] = (250, 180, 120)  # bright, coloured
    image[8:10] = 150  # grey, not bright
    assert measure_pixels(image)["cloudiness"] == 0.25


def test_colour_saturation_is_that_of_hsv():
    image = np.full((8, 8, 3), (200, 100, 50), np.uint8)
    image[:4] = (0, 0, 0)
    assert measure_pixels(image)["colour_saturation"] == pytest.approx((150 / 200) / 2)


def test_blankness_is_the_share_of_blocks_without_texture_in_any_channel():
    image = textured()
    image[:32] = 7
    image[0, 0, 2] = 10  # 3 levels: still blank
    image[0, 9, 2] = 11  # 4 levels: one block is not
    assert measure_pixels(image)["blankness"] == (32 - 1) / 64


@pytest.mark.parametrize("shape", [(64, 64), (64, 64, 4), (4, 64, 3)])
def test_what_is_no_image_is_refused(shape):
    with pytest.raises(ArasError, match="expected an image"):
        measure_pixels(np.zeros(shape, np.uint8))
