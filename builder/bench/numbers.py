"""The blind baseline of protocol L: percentages read from captions, matched with class shares."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from builder.bench.ranks import Floats
from builder.landcover import CLASSES
from builder.scores.claims import QUANTITY, read
from builder.scores.lexicon import load

_LONGEST = (np.sqrt(3.0), np.sqrt(6.0))
"""Bounds of the length of an image's and of a text's row before they are padded."""


def stated_shares(texts: Sequence[str]) -> Floats:
    """Class shares (M, 7) that the percentages of each text state; NaN rows where there are none.

    What the stated classes leave of 1 is spread evenly over the others; shares that sum to more
    than 1 are scaled down. Percentages are read as `builder.scores.claims` reads them.
    """
    lexicon = load()
    found = np.full((len(texts), len(CLASSES)), np.nan)
    for row, text in zip(found, texts, strict=True):
        for (kind, bits, low, high), words in read(text, lexicon).claims.items():
            one = bits.bit_length() - 1
            numeral = kind == QUANTITY and any(letter.isdigit() for letter in words)
            if numeral and bits == 1 << one and np.isnan(row[one]):
                row[one] = (low + high) / 2
        told = ~np.isnan(row)
        if told.any():
            rest = max(0.0, 1 - row[told].sum())
            row[~told] = rest / max(1, (~told).sum())
            row /= row.sum() or 1.0
    return found


def number_vectors(
    shares: npt.ArrayLike, texts: Sequence[str]
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Unit vectors of images (N, 11) by their ``shares`` (N, 7), and of texts (M, 11).

    The product of two falls with the squared distance of the image's shares p and the stated
    ones q, since −|p − q|² = 2 p·q − |p|² − |q|². A text without percentages is level with every
    image and below every other text.
    """
    p, q = np.asarray(shares, dtype=np.float64), stated_shares(texts)
    silent = np.isnan(q).any(1)
    q[silent] = 0
    near = -np.where(silent, 2.0, (q**2).sum(1))
    images = [p, (p**2).sum(1, keepdims=True), np.ones((len(p), 1))]
    asked = [2 * q, np.where(silent, 0.0, -1.0)[:, None], near[:, None]]
    return _padded(np.hstack(images), 0), _padded(np.hstack(asked), 1)


def _padded(rows: Floats, side: int) -> npt.NDArray[np.float32]:
    """Rows over the bound of their side, made unit by a column that the other side has 0 in."""
    short = rows / _LONGEST[side]
    pad = np.zeros((len(rows), 2))
    pad[:, side] = np.sqrt(np.maximum(0.0, 1 - (short**2).sum(1)))
    return np.ascontiguousarray(np.hstack([short, pad]), dtype=np.float32)
