"""Exact ranks by numpy, without torch: float32 decides what is clear, float64 what is near."""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from builder.retrieval import ranks
from builder.retrieval.ranks import TOLERANCE, Array, Best, Counts, Floats, Ints, Positives, Ranks

_ROWS, _COLS = 1024, 512
"""Images × texts of a tile: its scores and flags stay in a core's cache."""
_PAIRS = 1 << 11
"""Pairs whose scores are computed one by one at once; a tile with more is computed as a whole."""
_UNIT = 2.0**-24
"""Half the distance of float32 numbers at 1."""

Flags = npt.NDArray[np.bool_]


def rank(
    images: Array,
    texts: Array,
    positives: Positives,
    device: str = "cpu",
    advance: Callable[[float], None] | None = None,
) -> tuple[Ranks, Ranks]:
    """`ranks.rank`, on the CPU by numpy alone: dense unit vectors (N, d) and (M, d).

    The scores are those of float64. A float32 product of unit vectors errs by less than d · 2⁻²⁴,
    in whatever order it is summed, so it decides for all but the scores that are nearer than that
    to a query's bar; those are computed again.
    """
    if device != "cpu" or ranks.is_sparse(images):
        return ranks.rank(images, texts, positives, device, advance)
    best = _best(images, texts, positives)
    return _count(images, texts, positives, best, advance).ranks(positives, best)


def check_device(device: str) -> None:
    """`ranks.check_device`, which loads torch, for all but the CPU."""
    if device != "cpu":
        ranks.check_device(device)


def _best(images: Array, texts: Array, positives: Positives) -> Best:
    starts = range(0, len(positives.texts), _PAIRS)

    def own(start: int) -> Floats:
        pairs = slice(start, start + _PAIRS)
        return _scores(images, texts, positives.images[pairs], positives.texts[pairs])

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        scores = np.concatenate(list(pool.map(own, starts)))
    return Best.of(scores, positives, images.shape[0], texts.shape[0])


def _scores(images: Array, texts: Array, rows: Ints, columns: Ints) -> Floats:
    """Scores of the pairs (rows[p], columns[p]), (P,), in float64."""
    scores: Floats = np.einsum("pd,pd->p", _double(images[rows]), _double(texts[columns]))
    return scores


def _count(
    images: Array,
    texts: Array,
    positives: Positives,
    best: Best,
    advance: Callable[[float], None] | None,
) -> Counts:
    n, m = images.shape[0], texts.shape[0]
    edges = np.append(np.arange(0, n, _ROWS), n)
    # Rows may be longer than 1 by `vector_files.UNIT`, hence the thousandth more.
    slack = TOLERANCE + 1.001 * _UNIT * images.shape[1]
    of_image, of_text = (_clear(bars, slack) for bars in (best.images, best.texts))

    def strip(left: int) -> tuple[int, Ints, Ints]:
        """Counts of all images against the texts from ``left`` on: (2, N) and (2, texts)."""
        right = min(left + _COLS, m)
        captions = np.ascontiguousarray(texts[left:right], np.float32)
        counts = np.zeros((2, n), np.int64), np.zeros((2, right - left), np.int64)
        low, high = np.searchsorted(positives.texts, (left, right))
        own = positives.images[low:high], positives.texts[low:high] - left
        space = np.empty(_ROWS * _COLS, np.float32), np.empty((2, _ROWS * _COLS), bool)
        for top, bottom in pairwise(edges):
            shape = bottom - top, right - left
            size = shape[0] * shape[1]
            scores, flags = space[0][:size].reshape(shape), space[1][:, :size].reshape(2, *shape)
            block = np.asarray(images[top:bottom], np.float32)
            np.matmul(block, captions.T, out=scores)
            inside = (own[0] >= top) & (own[0] < bottom)
            scores[own[0][inside] - top, own[1][inside]] = -np.inf
            ways = (
                (of_image[:, top:bottom, None], best.images[top:bottom], counts[0][:, top:bottom]),
                (of_text[:, None, left:right], best.texts[left:right], counts[1]),
            )
            for axis, (bars, exact, count) in enumerate(ways):
                above = np.greater(scores, bars[1], out=flags[1])
                count += _sums(above, 1 - axis)
                near = np.greater_equal(scores, bars[0], out=flags[0])
                pairs = np.flatnonzero(np.not_equal(near, above, out=near))
                if len(pairs):
                    where = np.unravel_index(pairs, shape)
                    again = _again(block, captions, where) - exact[where[axis]]
                    for bar, passed in enumerate((again >= -TOLERANCE, again > TOLERANCE)):
                        count[bar] += np.bincount(where[axis][passed], minlength=count.shape[1])
        return left, *counts

    image_counts, text_counts = (np.zeros((2, size), np.int64) for size in (n, m))
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for left, by_image, by_text in pool.map(strip, range(0, m, _COLS)):
            image_counts += by_image
            text_counts[:, left : left + by_text.shape[1]] = by_text
            if advance is not None:
                advance(by_text.shape[1])
    return Counts(
        image_counts[1],
        image_counts[0] - image_counts[1],
        text_counts[1],
        text_counts[0] - text_counts[1],
    )


def _clear(best: Floats, slack: float) -> npt.NDArray[np.float32]:
    """(2, Q): bars below and above ``best``; beyond them a float32 score needs no second look."""
    low, high = np.float32(-np.inf), np.float32(np.inf)
    bars = (best - slack).astype(np.float32), (best + slack).astype(np.float32)
    return np.stack([np.nextafter(bars[0], low), np.nextafter(bars[1], high)])


def _sums(flags: Flags, axis: int) -> Ints:
    """``flags.sum(axis)``, several times as quick: bytes are added side by side."""
    if axis == 0:
        most = 255
        parts = (flags[top : top + most].view(np.uint8) for top in range(0, len(flags), most))
        bytes_ = [part.sum(0, dtype=np.uint8) for part in parts]
        return np.asarray(np.sum(bytes_, axis=0, dtype=np.int64))
    if flags.shape[1] % 8 or flags.shape[1] > 8 * 255:
        return np.asarray(flags.sum(1))
    eights = flags.view(np.uint64).sum(1)
    sums: Ints = eights.view(np.uint8).reshape(-1, 8).sum(1, dtype=np.int64)
    return sums


def _again(images: Array, texts: Array, where: tuple[Ints, ...]) -> Floats:
    """Scores in float64 of some pairs of a tile, (P,)."""
    if len(where[0]) <= _PAIRS:
        return _scores(images, texts, *where)
    scores: Floats = (_double(images) @ _double(texts).T)[where]
    return scores


def _double(vectors: Array) -> Floats:
    return np.asarray(vectors, dtype=np.float64)
