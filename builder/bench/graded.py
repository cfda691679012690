"""Metrics of whole result lists, mAP@R and nDCG@10, with binary or graded relevance, in blocks."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from builder.bench.products import block, product
from builder.bench.ranks import TOLERANCE, Array, Floats, Ints, Positives, Ranks

DEPTH = 10
"""Where nDCG cuts the list."""

POSITIVE = 0.95
"""Overlap of two compositions from which their tiles show the same scene."""

_BLOCK = 1 << 23  # scores held at once: 32 MB
_GRID = 2.0**20  # scores are rounded to 2**-20, so that ties are ties

Relevance = Callable[[Ints], torch.Tensor]
"""Query numbers (q,) → relevance of every gallery item in 0…1, (q, gallery) float32."""


@dataclass(frozen=True)
class Lists:
    """Per query, (Q,): its rank, average precision at R and nDCG@10, each in 0…1."""

    ranks: Ranks
    average_precision: Floats
    ndcg: Floats


def similarity(p: npt.NDArray[np.float32], q: npt.NDArray[np.float32]) -> torch.Tensor:
    """Overlap Σ_k min(p_k, q_k) of compositions (a, K) and (b, K): (a, b), 1 when equal."""
    left, right = torch.from_numpy(p), torch.from_numpy(q)
    total = torch.zeros(len(p), len(q))
    for k in range(p.shape[1]):
        total += torch.minimum(left[:, k, None], right[None, :, k])
    return total


def chance(compositions: npt.ArrayLike) -> float:
    """Mean overlap of two different images, exact in O(N log N): what a random list earns."""
    p = np.sort(np.asarray(compositions, dtype=np.float64), axis=0)
    n = len(p)
    if n < 2:
        return 0.0
    # The i-th smallest of n is the smaller one in n − 1 − i pairs.
    smaller = np.arange(n - 1, -1, -1)[:, None]
    return float((p * smaller).sum() / (n * (n - 1) / 2))


def by_pairs(positives: Positives, queries: str, gallery: int) -> Relevance:
    """Relevance 1 for the pairs and 0 elsewhere; ``queries`` is "images" or "texts"."""
    ours, theirs = positives.images, positives.texts
    if queries == "texts":
        ours, theirs = theirs, ours
    order = np.argsort(ours, kind="stable")
    ours, theirs = ours[order], theirs[order]

    def relevance(index: Ints) -> torch.Tensor:
        low, high = np.searchsorted(ours, index), np.searchsorted(ours, index, side="right")
        matrix = torch.zeros(len(index), gallery)
        rows = np.repeat(np.arange(len(index)), high - low)
        cols = np.concatenate([theirs[a:b] for a, b in zip(low, high, strict=True)])
        matrix[torch.from_numpy(rows), torch.from_numpy(cols)] = 1.0
        return matrix

    return relevance


def by_composition(queries: npt.NDArray[np.float32], gallery: npt.NDArray[np.float32]) -> Relevance:
    """Relevance by overlap of land-cover compositions (fractions), (Q, K) and (G, K)."""
    return lambda index: similarity(queries[index], gallery)


def lists(
    queries: Array,
    gallery: Array,
    relevance: Relevance,
    index: Ints,
    positive: float = 1.0,
    base: float = 0.0,
    seed: int = 0,
) -> Lists:
    """Rank ``gallery`` (G, d) for the chosen ``queries``: rows ``index`` of (Q, d), unit vectors.

    An item is positive when its relevance is at least ``positive``; every query needs one.
    mAP@R = mean over queries of (1/R) Σ_{r≤R} [positive at r] · precision@r with R the query's
    number of positives (Musgrave et al. 2020; Chun et al. 2022). nDCG@10 has linear gains
    (relevance − base) / (1 − base): with ``base`` the mean over random pairs, chance scores 0
    (so a list may score below 0; where all items are
    equally relevant it is 0). Ties are broken at random: the gallery is shuffled with
    ``seed`` and scores are rounded to about 1e-6.
    """
    size = gallery.shape[0]
    shuffled = np.random.default_rng(seed).permutation(size)
    order = torch.from_numpy(shuffled)
    items = block(gallery, slice(None))
    depth = min(DEPTH, size)
    weight = 1 / torch.log2(torch.arange(depth) + 2.0)
    above, level, negatives, precision, ndcg = [], [], [], [], []
    step = max(1, _BLOCK // size)
    for start in range(0, len(index), step):
        rows = np.asarray(index[start : start + step])
        scores = product(block(queries, rows), items)[:, order]
        grade = relevance(rows)[:, order]
        right = grade >= positive - TOLERANCE
        many = right.sum(1)
        best = torch.where(right, scores, -torch.inf).amax(1, keepdim=True)
        wrong = torch.where(right, -torch.inf, scores)
        high = (wrong > best + TOLERANCE).sum(1)
        above.append(high)
        level.append((wrong >= best - TOLERANCE).sum(1) - high)
        negatives.append(size - many)
        deep = max(depth, int(many.max()))
        top = (scores * _GRID).round_().topk(min(deep, size), dim=1).indices
        precision.append(_average_precision(right.gather(1, top), many))
        ideal = grade.topk(depth, dim=1).values
        gain = ((grade.gather(1, top[:, :depth]) - base) * weight).sum(1)
        most = ((ideal - base) * weight).sum(1)
        ndcg.append(torch.where(most > 0, gain / most, 0.0).double())
    return Lists(
        Ranks(*(torch.cat(part).numpy() for part in (above, level, negatives))),
        torch.cat(precision).numpy(),
        torch.cat(ndcg).numpy(),
    )


def _average_precision(hits: torch.Tensor, many: torch.Tensor) -> torch.Tensor:
    """mAP@R of each list: ``hits`` (q, ≥ R) says whether place r holds a positive."""
    place = torch.arange(1, hits.shape[1] + 1)
    counted = hits & (place <= many[:, None])
    precision = hits.cumsum(1).double() / place
    return (precision * counted).sum(1) / many
