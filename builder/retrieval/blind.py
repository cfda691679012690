"""Baselines that read class shares or captions and never an image."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from builder.core.seeds import generator
from builder.land.classes import CLASSES
from builder.scores.claims import QUANTITY, read
from builder.scores.lexicon import load

Floats = npt.NDArray[np.float64]
Floats32 = npt.NDArray[np.float32]


def random_vectors(names: Sequence[str], seed: int = 0, width: int = 64) -> Floats32:
    """A random unit vector per name, (n, width): equal names, equal vectors, in any order."""
    rows = [generator(seed, "random baseline", name).standard_normal(width) for name in names]
    return unit_rows(np.array(rows))


def composition_vectors(shares: npt.ArrayLike) -> Floats32:
    """(n, 7) class fractions → their square roots, unit vectors.

    The product of two is the Bhattacharyya coefficient Σ √(p·q): 1 for equal compositions. Given
    to an image and its captions alike it is the upper bound of any model that knows the composition
    and nothing else.
    """
    return unit_rows(np.sqrt(np.asarray(shares, dtype=np.float64)))


def unit_rows(values: npt.ArrayLike) -> Floats32:
    """Rows of unit length, float32; a zero row stays zero."""
    array = np.asarray(values)
    length = np.sqrt((array.astype(np.float64) ** 2).sum(1, keepdims=True))
    return np.ascontiguousarray(array / np.maximum(length, 1e-12), dtype=np.float32)


_LONGEST = (np.sqrt(3.0), np.sqrt(6.0))
"""Bounds of the length of an image's and of a text's row before they are padded."""


def stated_shares(texts: Sequence[str]) -> Floats:
    """Class shares (M, 7) that the percentages of each text state; NaN rows where there are none.

    What the stated classes leave of 1 is spread evenly over the others; shares that sum to more
    than 1 are scaled down. Percentages are read as `builder.scores.claims` reads them.
    """
    lexicon = load()
    shares = np.full((len(texts), len(CLASSES)), np.nan)
    for row, text in zip(shares, texts, strict=True):
        for (kind, bits, low, high), words in read(text, lexicon).claims.items():
            number = bits.bit_length() - 1
            numeral = kind == QUANTITY and any(letter.isdigit() for letter in words)
            if numeral and bits == 1 << number and np.isnan(row[number]):
                row[number] = (low + high) / 2
        stated = ~np.isnan(row)
        if stated.any():
            rest = max(0.0, 1 - row[stated].sum())
            row[~stated] = rest / max(1, (~stated).sum())
            row /= row.sum() or 1.0
    return shares


def number_vectors(shares: npt.ArrayLike, texts: Sequence[str]) -> tuple[Floats32, Floats32]:
    """Unit vectors of images (N, 11) by their ``shares`` (N, 7), and of texts (M, 11).

    The product of two falls with the squared distance of the image's shares p and the stated
    shares q, since −|p − q|² = 2 p·q − |p|² − |q|². A text without percentages is level with every
    image and below every other text.
    """
    p, q = np.asarray(shares, dtype=np.float64), stated_shares(texts)
    silent = np.isnan(q).any(1)
    q[silent] = 0
    near = -np.where(silent, 2.0, (q**2).sum(1))
    images = [p, (p**2).sum(1, keepdims=True), np.ones((len(p), 1))]
    asked = [2 * q, np.where(silent, 0.0, -1.0)[:, None], near[:, None]]
    return _padded(np.hstack(images), 0), _padded(np.hstack(asked), 1)


def _padded(rows: Floats, side: int) -> Floats32:
    """Rows over the bound of their side, made unit by a column that the other side has 0 in."""
    short = rows / _LONGEST[side]
    pad = np.zeros((len(rows), 2))
    pad[:, side] = np.sqrt(np.maximum(0.0, 1 - (short**2).sum(1)))
    return np.ascontiguousarray(np.hstack([short, pad]), dtype=np.float32)
