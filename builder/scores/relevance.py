"""What a retrieval benchmark counts as the same: equal captions, and tiles of like composition."""

import re
import unicodedata
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

POSITIVE = 0.95
"""Overlap of two compositions from which their tiles show the same scene."""
TOLERANCE = 1e-6
"""Scores and overlaps this near to each other are equal."""
FULL = 100
"""Grade of a tile that shows the same scene."""

_PUNCTUATION = re.compile(r"[^\w\s%]|_")


def normalise(caption: str) -> str:
    """A caption without case, punctuation (% stays), Unicode variants and runs of spaces."""
    plain = unicodedata.normalize("NFKC", caption).casefold()
    return " ".join(_PUNCTUATION.sub(" ", plain).split())


def groups_of(captions: Sequence[str]) -> npt.NDArray[np.int64]:
    """Group number of each caption, (M,): equal after `normalise` means equal group."""
    _, group = np.unique(np.array([normalise(text) for text in captions]), return_inverse=True)
    return np.asarray(group, dtype=np.int64).reshape(-1)


def shares(pixels: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
    """Class fractions (N, K) of pixel counts (N, K)."""
    whole = np.maximum(pixels.sum(axis=1, keepdims=True), 1)
    return np.asarray(pixels / whole, dtype=np.float32)


def chance(compositions: npt.ArrayLike) -> float:
    """Mean overlap of two different images, exact in O(N log N): what a random list earns."""
    p = np.sort(np.asarray(compositions, dtype=np.float64), axis=0)
    n = len(p)
    if n < 2:
        return 0.0
    # The i-th smallest of n is the smaller in n − 1 − i pairs.
    smaller = np.arange(n - 1, -1, -1)[:, None]
    return float((p * smaller).sum() / (n * (n - 1) / 2))


def grades(overlap: npt.ArrayLike, base: float) -> npt.NDArray[np.float64]:
    """Whole grades 0 … 100 of overlaps: what harnesses with graded relevance judge C by.

    100 × (overlap − base) / (1 − base), rounded, and none below 0; an overlap of `POSITIVE` shows
    the same scene and has 100. ``base`` is what two random tiles share (`chance`).
    """
    g = np.asarray(overlap, dtype=np.float64)
    above = np.maximum(np.rint(FULL * (g - base) / max(1 - base, 1e-9)), 0)
    return np.where(g >= POSITIVE - TOLERANCE, FULL, np.minimum(above, FULL - 1))


def sample(size: int, most: int, rng: np.random.Generator) -> npt.NDArray[np.int64]:
    """All of 0 … size − 1, or ``most`` of them, in order."""
    if size <= most:
        return np.arange(size)
    return np.sort(rng.choice(size, most, replace=False))
