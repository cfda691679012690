"""Exact ranks by numpy in float64: of small matrices, sooner than torch loads, or without it."""

import gc
import importlib
from collections.abc import Callable
from itertools import pairwise

import numpy as np

from builder.core.extras import has
from builder.retrieval import ranks
from builder.retrieval.ranks import TOLERANCE, Array, Best, Counts, Floats, Positives, Ranks

SMALL = 4e9
"""Products (N × M × d) that take numpy less time than it takes to load torch."""

_ROWS, _COLS = 1024, 512
_PAIRS = 1 << 14


def rank(
    images: Array,
    texts: Array,
    positives: Positives,
    device: str = "cpu",
    advance: Callable[[float], None] | None = None,
) -> tuple[Ranks, Ranks]:
    """`ranks.rank`, by numpy where the matrix is small or torch is not installed.

    Both keep the same definition of ties; sums in float64 err by less than their tolerance, so
    only scores that lie at its edge can count otherwise.
    """
    size = float(images.shape[0]) * texts.shape[0] * images.shape[1]
    if device != "cpu" or ranks.is_sparse(images) or (size > SMALL and has("torch")):
        _load_torch()
        return ranks.rank(images, texts, positives, device, advance)
    best = _best(images, texts, positives)
    return _count(images, texts, positives, best, advance).ranks(positives, best)


def _load_torch() -> None:
    """Import torch without the collector, which would look ten times through what stays."""
    before = gc.isenabled()
    gc.disable()
    try:
        importlib.import_module("torch")
    finally:
        if before:
            gc.enable()


def check_device(device: str) -> None:
    """`ranks.check_device`, which loads torch, for all but the CPU."""
    if device != "cpu":
        ranks.check_device(device)


def _best(images: Array, texts: Array, positives: Positives) -> Best:
    parts = []
    for start in range(0, len(positives.texts), _PAIRS):
        i, t = (side[start : start + _PAIRS] for side in (positives.images, positives.texts))
        parts.append(np.einsum("pd,pd->p", _double(images[i]), _double(texts[t])))
    return Best.of(np.concatenate(parts), positives, images.shape[0], texts.shape[0])


def _count(
    images: Array,
    texts: Array,
    positives: Positives,
    best: Best,
    advance: Callable[[float], None] | None,
) -> Counts:
    n, m = images.shape[0], texts.shape[0]
    of_images, of_texts = (np.zeros((2, size), dtype=np.int64) for size in (n, m))
    edges = np.append(np.arange(0, n, _ROWS), n)
    bars = [(best.images + step, best.texts + step) for step in (-TOLERANCE, TOLERANCE)]
    for left in range(0, m, _COLS):
        right = min(left + _COLS, m)
        captions = _double(texts[left:right]).T
        low, high = np.searchsorted(positives.texts, (left, right))
        own = positives.images[low:high], positives.texts[low:high] - left
        for top, bottom in pairwise(edges):
            scores = _double(images[top:bottom]) @ captions
            inside = (own[0] >= top) & (own[0] < bottom)
            scores[own[0][inside] - top, own[1][inside]] = -np.inf
            for bar, (by_image, by_text) in enumerate(bars):
                higher = np.greater if bar else np.greater_equal
                of_images[bar, top:bottom] += higher(scores, by_image[top:bottom, None]).sum(1)
                of_texts[bar, left:right] += higher(scores, by_text[left:right]).sum(0)
        if advance is not None:
            advance(right - left)
    return Counts(of_images[1], of_images[0] - of_images[1], of_texts[1], of_texts[0] - of_texts[1])


def _double(vectors: Array) -> Floats:
    return np.asarray(vectors, dtype=np.float64)
