"""How true a claim is of a tile, or of many tiles: the value of each kind of claim in [0, 1]."""

from typing import Any

import numpy as np
import numpy.typing as npt

from builder.land.classes import CLASSES
from builder.scores.claims import ABSENCE, DOMINANCE, PRESENCE, QUANTITY, Floats
from builder.scores.lexicon import Lexicon

CLASS_SETS = (np.arange(1 << len(CLASSES))[:, None] >> np.arange(len(CLASSES)) & 1).astype(bool)
"""Every set of classes, (128, 7), by its bitmask."""

TYPES = np.array([0, 0, 1, 2, 3, 0])
"""Kind of a claim → its type: presence and absence, anywhere, are one."""
N_TYPES = 4

Box = tuple[float, float, float, float]
WHOLE: Box = (0.0, 0.0, 1.0, 1.0)
HALVES: tuple[Box, ...] = ((0, 0, 0.5, 1), (0.5, 0, 1, 1), (0, 0, 1, 0.5), (0, 0.5, 1, 1))


def classes_in(bits: int) -> npt.NDArray[np.int64]:
    """Ids of the classes in ``bits``."""
    return np.flatnonzero(CLASS_SETS[bits])


def share_values(
    kind: npt.NDArray[np.int64],
    seen: Floats,
    larger: npt.NDArray[np.int64],
    low: Floats,
    high: Floats,
    lexicon: Lexicon,
) -> Floats:
    """How true m claims about shares are, (m, …) in [0, 1]; NaN for claims about places.

    ``seen`` (m, …) are the shares of their classes in one tile or several, ``larger`` (m, …) how
    many classes are larger; ``low`` and ``high`` are those of `Claims`, shaped to broadcast.
    """
    low, high = np.broadcast_to(low, seen.shape), np.broadcast_to(high, seen.shape)
    value = np.full(seen.shape, np.nan)
    at = kind == PRESENCE
    value[at] = np.minimum(1, seen[at] / lexicon.presence)
    at = kind == ABSENCE
    value[at] = np.maximum(0, 1 - seen[at] / (5 * lexicon.presence))
    at = kind == QUANTITY
    distance = np.maximum(0, np.maximum(low[at] - seen[at], seen[at] - high[at]))
    value[at] = np.maximum(0, 1 - distance / lexicon.slack)
    at = kind == DOMINANCE
    value[at] = larger[at] < low[at]
    return value


def place_value(
    pixels: npt.NDArray[Any], box: Box, *, denied: bool, presence: float
) -> tuple[Any, Any]:
    """How true it is that a class lies in ``box``, or does not where ``denied``, and the share that
    decides: of the class inside the box, or of the box that the class covers.

    ``pixels`` (…, H, W) are the class in one tile or several: booleans, or shares of cells.
    "Spread over the whole tile" is true when every half holds a quarter of it at least, and the
    less true the less the emptiest half holds.
    """
    part = _inside(pixels, box)
    if denied:
        seen = part.mean(axis=(-2, -1))
        return np.maximum(0, 1 - seen / (5 * presence)), seen
    total = pixels.sum(axis=(-2, -1))
    total = np.where(total > 0, total, 1)
    if box == WHOLE:
        halves = [_inside(pixels, half).sum(axis=(-2, -1)) / total for half in HALVES]
        most = np.max(halves, axis=0)
        return np.minimum(1, 4 * (1 - most)), most
    share = part.sum(axis=(-2, -1)) / total
    area = part.shape[-2] * part.shape[-1] / (pixels.shape[-2] * pixels.shape[-1])
    return np.minimum(1, share / (2 * area)), share


def _inside(pixels: npt.NDArray[Any], box: Box) -> npt.NDArray[Any]:
    """The part of (…, H, W) ``pixels`` in the box of a region, one row and column at least."""
    height, width = pixels.shape[-2:]
    top, left, bottom, right = box
    rows = slice(round(top * height), max(round(bottom * height), round(top * height) + 1))
    columns = slice(round(left * width), max(round(right * width), round(left * width) + 1))
    return pixels[..., rows, columns]
