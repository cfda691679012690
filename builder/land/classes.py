"""The seven land-cover classes: ids, palette, WorldCover remap and composition of a mask."""

import numpy as np
import numpy.typing as npt

CLASSES = ("Tree", "Shrub", "Grass", "Crop", "Built-up", "Barren", "Water")
"""Class names in id order (0…6), as ARAS400k publishes them."""

WATER = CLASSES.index("Water")

PALETTE: npt.NDArray[np.uint8] = np.array(
    [
        (0, 100, 0),
        (255, 182, 193),
        (154, 205, 50),
        (255, 215, 0),
        (139, 69, 19),
        (211, 211, 211),
        (0, 0, 255),
    ],
    dtype=np.uint8,
)
"""RGB of each class id, (7, 3) uint8: the colours of the published masks."""

WORLDCOVER = {
    10: "Tree cover",
    20: "Shrubland",
    30: "Grassland",
    40: "Cropland",
    50: "Built-up",
    60: "Bare / sparse vegetation",
    70: "Snow and ice",
    80: "Permanent water bodies",
    90: "Herbaceous wetland",
    95: "Mangroves",
    100: "Moss and lichen",
}
"""ESA WorldCover v100/v200 map codes; 0 is no data."""

DEFAULT_REMAP = {
    10: "Tree",
    20: "Shrub",
    30: "Grass",
    40: "Crop",
    50: "Built-up",
    60: "Barren",
    70: "Barren",
    80: "Water",
    90: "Grass",
    95: "Tree",
    100: "Grass",
}
"""WorldCover code → class, as the code behind ARAS400k does it."""

NODATA, UNKNOWN = 255, 254
"""In place of a class id: pixels without data, and of codes that a legend does not have."""


def count_pixels(mask: npt.NDArray[np.uint8]) -> npt.NDArray[np.int64]:
    """Pixels of each class id in a mask of ids 0…6: (7,) int64.

    Raises ValueError when an id is outside 0…6.
    """
    # A comparison a class takes a quarter of the time of np.bincount, which widens every id first.
    counts = [np.count_nonzero(mask == class_id) for class_id in range(len(CLASSES))]
    if sum(counts) != mask.size:
        raise ValueError(f"mask holds id {int(mask.max())}; ids are 0…{len(CLASSES) - 1}")
    return np.array(counts, dtype=np.int64)


def percent(pixels: npt.ArrayLike) -> npt.NDArray[np.int64]:
    """Whole percentages that sum to exactly 100, by the largest-remainder rule.

    ``pixels`` is (…, 7) counts; ties between equal remainders go to the lower class id. A row
    without pixels gives zeros. This is how ARAS400k's captions.csv rounds (18.6/80.7/0.7 →
    18/81/1).
    """
    counts = np.asarray(pixels, dtype=np.int64)
    total = counts.sum(axis=-1, keepdims=True)
    scaled = counts * 100
    floor = scaled // np.maximum(total, 1)
    remainder = scaled - floor * total
    missing = np.where(total[..., 0] > 0, 100 - floor.sum(axis=-1), 0)
    order = np.argsort(-remainder, axis=-1, kind="stable")
    place = np.argsort(order, axis=-1, kind="stable")
    return np.asarray(floor + (place < missing[..., None]), dtype=np.int64)


def dominant(pixels: npt.ArrayLike) -> npt.NDArray[np.int64]:
    """Id of the class with the most pixels (the lower id on a tie), over the last axis."""
    return np.asarray(np.argmax(np.asarray(pixels), axis=-1), dtype=np.int64)
