"""How sure a recall is: intervals, differences of two models, and what a test could find."""

from typing import Any

import numpy as np
import numpy.typing as npt

from builder.bench import intervals, metrics
from builder.bench.ranks import Floats, Ints, Pair

_COLUMNS = [(way, f"R@{k}") for way in ("t2i", "i2t") for k in metrics.KS]


def power(queries: int, discordance: float = 0.10) -> dict[str, Any]:
    """What difference in R@K a comparison on so many independent queries can find.

    Images of one spatial block are not independent: the intervals of `spans` and `compare` by
    block are the ones to trust there, and this figure is the best case.
    """
    points = intervals.detectable(queries, discordance)
    return {
        "queries": queries,
        "discordance": discordance,
        "detectable_points": points,
        "statement": (
            f"With {queries} independent queries, of which two models judge "
            f"{100 * discordance:.0f} % differently, a difference of {points:.2f} percentage "
            "points is found with 80 % power at the 5 % level; smaller ones may go unseen."
        ),
    }


def compare(
    ours: Pair,
    theirs: Pair,
    owner: npt.ArrayLike,
    blocks: npt.ArrayLike | None = None,
    resamples: int = intervals.RESAMPLES,
    seed: int = 0,
) -> dict[str, dict[str, Any]]:
    """Differences (ours − theirs) of the six recalls and mR, in percentage points.

    Each has a 95 % paired cluster bootstrap interval, a sign-flip p-value and that p-value after
    Holm's correction over the seven figures. Both models must have answered the same queries.
    """
    own = np.asarray(owner, dtype=np.int64)
    images = len(ours[1].above)
    cluster, clusters = intervals.codes(np.arange(images) if blocks is None else blocks)
    mine, others = (_sums(p, cluster[own], cluster, clusters) for p in (ours, theirs))
    points, spans = intervals.paired(mine, others, _figures, resamples, seed)
    # A cluster's share of each figure's difference; that of mR is the mean of the six.
    share = 100 * (mine - others)[:, [0, 1, 2, 4, 5, 6]]
    share = share / np.repeat(mine[:, [3, 7]].sum(0), 3)
    share = np.concatenate([share, share.mean(1, keepdims=True)], axis=1)
    p = [intervals.sign_flip(column, resamples, seed) for column in share.T]
    names = [f"{way} {name}" for way, name in _COLUMNS] + ["mR"]
    return {
        name: {
            "difference": float(points[n]),
            "interval": spans[n],
            "p": p[n],
            "p_holm": float(adjusted),
        }
        for n, (name, adjusted) in enumerate(zip(names, intervals.holm(p), strict=True))
    }


def spans(
    pair: Pair,
    owner: npt.ArrayLike,
    blocks: npt.ArrayLike | None = None,
    resamples: int = intervals.RESAMPLES,
    seed: int = 0,
) -> dict[str, Any]:
    """95 % percentile intervals of the six recalls and mR, over images or spatial blocks."""
    images = len(pair[1].above)
    cluster, clusters = intervals.codes(np.arange(images) if blocks is None else blocks)
    of_text = cluster[np.asarray(owner, dtype=np.int64)]
    return over_clusters(pair, of_text, cluster, clusters, resamples, seed)


def over_clusters(
    pair: Pair, of_text: Ints, of_image: Ints, clusters: int, resamples: int, seed: int
) -> dict[str, Any]:
    """`spans` where the cluster number of each query is known: (Q,) of either direction."""
    sums = _sums(pair, of_text, of_image, clusters)
    draws = _figures(intervals.resampled(sums, resamples, seed))
    spans: dict[str, Any] = {"t2i": {}, "i2t": {}}
    for (way, name), column in zip(_COLUMNS, draws.T, strict=False):
        spans[way][name] = intervals.percentile(column)
    return {**spans, "mR": intervals.percentile(draws[:, 6])}


def _sums(pair: Pair, of_text: Ints, of_image: Ints, clusters: int) -> Floats:
    """(C, 8): per cluster the hits at 1, 5, 10 and queries of t2i, then of i2t."""
    parts = [
        intervals.cluster_sums(
            np.stack([metrics.credit(one, k) for k in metrics.KS], axis=1), where, clusters
        )
        for one, where in zip(pair, (of_text, of_image), strict=True)
    ]
    return np.concatenate(parts, axis=1)


def _figures(totals: Floats) -> Floats:
    """Totals (B, 8) as in `_sums` → the six recalls and mR, (B, 7) in per cent."""
    t2i = 100 * totals[:, 0:3] / np.maximum(totals[:, 3:4], 1)
    i2t = 100 * totals[:, 4:7] / np.maximum(totals[:, 7:8], 1)
    six = np.concatenate([t2i, i2t], axis=1)
    return np.concatenate([six, six.mean(1, keepdims=True)], axis=1)
