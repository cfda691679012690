"""Masks of land cover as a map has it: few large patches, a leading class, rare classes."""

import numpy as np
import numpy.typing as npt

from builder.core.seeds import generator
from builder.land.classes import CLASSES, count_pixels

COMMON = np.array([0.25, 0.08, 0.42, 0.15, 0.06, 0.025, 0.015])
"""How often each class leads a patch; as uneven as on a real map."""


def masks(n: int, size: int = 24, *, seed: int = 0) -> list[npt.NDArray[np.uint8]]:
    """``n`` masks: each pixel takes the class of the nearest of some centres."""
    down, across = np.indices((size, size))
    result = []
    for i in range(n):
        draw = generator("scene-like", seed, i)
        centres = int(draw.integers(1, 12))
        usual = draw.dirichlet(4 * COMMON)
        classes = draw.choice(len(CLASSES), centres, p=usual / usual.sum())
        places = draw.uniform(0, size, (centres, 2))
        distance = (down[..., None] - places[:, 0]) ** 2 + (across[..., None] - places[:, 1]) ** 2
        result.append(classes[distance.argmin(axis=-1)].astype(np.uint8))
    return result


def compositions(tiles: list[npt.NDArray[np.uint8]]) -> npt.NDArray[np.float64]:
    """(n, 7) class shares of masks."""
    return np.array([count_pixels(mask) / mask.size for mask in tiles])
