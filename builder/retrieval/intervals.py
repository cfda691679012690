"""Uncertainty of retrieval figures: cluster bootstrap, paired tests, detectable differences.

How differences are tested, `crossed` decides.
"""

import numpy as np
import numpy.typing as npt
from scipy.stats import norm
from scipy.stats import t as student

from builder.retrieval import crossed, metrics
from builder.retrieval.ranks import Floats, Ints, Pair
from builder.retrieval.result import WAYS, Difference, Intervals, Power, Span

RESAMPLES = 2000
LEVEL = 95.0


def cluster_sums(columns: npt.ArrayLike, cluster: npt.ArrayLike, clusters: int) -> Floats:
    """Sums over each cluster of (Q, K) columns, and its number of queries last: (C, K + 1)."""
    values = np.asarray(columns, dtype=np.float64)
    where = np.asarray(cluster)
    sums = [np.bincount(where, weights=column, minlength=clusters) for column in values.T]
    return np.stack([*sums, np.bincount(where, minlength=clusters)], axis=1)


def resampled(sums: Floats, resamples: int = RESAMPLES, seed: int = 0) -> Floats:
    """Totals of (C, K) sums over ``resamples`` draws of C clusters with replacement: (B, K).

    Whole clusters are drawn (images with their captions, or spatial blocks): captions of one
    image are not independent queries, and drawing them singly makes intervals too narrow.
    """
    rng = np.random.default_rng(seed)
    clusters = len(sums)
    totals = np.empty((resamples, sums.shape[1]))
    for b in range(resamples):
        drawn = rng.integers(0, clusters, clusters)
        totals[b] = np.bincount(drawn, minlength=clusters) @ sums
    return totals


def percentile(replicates: npt.ArrayLike) -> Span:
    """The percentile interval [low, high] at 95 %."""
    edge = (100 - LEVEL) / 2
    low, high = np.percentile(np.asarray(replicates), (edge, 100 - edge))
    return [float(low), float(high)]


def holm(p: npt.ArrayLike) -> Floats:
    """Holm's (1979) adjusted p-values, in the order given."""
    values = np.asarray(p, dtype=np.float64)
    order = np.argsort(values, kind="stable")
    scaled = values[order] * np.arange(len(values), 0, -1)
    adjusted = np.empty(len(values))
    adjusted[order] = np.minimum(np.maximum.accumulate(scaled), 1.0)
    return adjusted


def detectable(queries: int, discordance: float = 0.10) -> float:
    """Smallest true difference in R@K, in percentage points, that a paired test finds.

    ``discordance`` is the share of queries on which the two models disagree: the difference has
    variance discordance / queries (McNemar).
    """
    z = norm.ppf(1 - crossed.ALPHA / 2) + norm.ppf(crossed.POWER)
    return float(z * np.sqrt(1e4 * discordance / queries))


def codes(blocks: npt.ArrayLike) -> tuple[Ints, int]:
    """Number the distinct values: (cluster of each image, how many clusters)."""
    names, code = np.unique(np.asarray(blocks), return_inverse=True)
    return np.asarray(code, dtype=np.int64).reshape(-1), len(names)


_COLUMNS = [(way, f"R@{k}") for way in WAYS for k in metrics.KS]


def power(queries: int, discordance: float = 0.10) -> Power:
    """Smallest difference in R@K that a comparison on so many independent queries can detect.

    Images of one spatial block are not independent: the intervals of `spans` and `compare` by
    block are those to trust there, and this figure is the best case.
    """
    points = detectable(queries, discordance)
    return Power(
        queries=queries,
        discordance=discordance,
        detectable_points=points,
        statement=(
            f"With {queries} independent queries, of which two models judge "
            f"{100 * discordance:.0f} % differently, a difference of {points:.2f} percentage "
            "points is found with 80 % power at the 5 % level; smaller ones may go unseen."
        ),
    )


def compare(
    ours: Pair, theirs: Pair, owner: npt.ArrayLike, blocks: npt.ArrayLike | None = None
) -> dict[str, Difference]:
    """Differences (ours − theirs) of the six recalls and mR, in percentage points.

    Interval and p-value are those of `crossed` over images or blocks, with Holm's correction over
    the seven figures; None under `crossed.FEWEST` clusters. Both models must have answered the
    same queries.
    """
    own = np.asarray(owner, dtype=np.int64)
    images = len(ours[1].above)
    cluster, clusters = codes(np.arange(images) if blocks is None else blocks)
    both = [_sums(pair, cluster[own], cluster, clusters) for pair in (ours, theirs)]
    width = both[0].shape[1]
    values, cells = crossed.linearised(
        np.concatenate(both, axis=1)[None],
        lambda totals: _figures(totals[:, :width]) - _figures(totals[:, width:]),
    )
    names = [*(f"{way} {name}" for way, name in _COLUMNS), "mR"]
    if clusters < crossed.FEWEST:
        points = dict(zip(names, values.tolist(), strict=True))
        return {
            name: Difference(difference=value, interval=None, p=None, p_holm=None)
            for name, value in points.items()
        }
    unlike = (both[0] != both[1])[:, [0, 1, 2, 4, 5, 6]]
    differing = np.append(unlike.sum(0), unlike.any(1).sum())
    spread = crossed.spread(cells, differing)
    p = spread.p(values)
    columns = zip(
        names, values, values - spread.reach, values + spread.reach, p, holm(p), strict=True
    )
    return {
        name: Difference(
            difference=float(value),
            interval=[float(low), float(high)],
            p=float(by_itself),
            p_holm=float(adjusted),
        )
        for name, value, low, high, by_itself, adjusted in columns
    }


def spans(
    pair: Pair,
    owner: npt.ArrayLike,
    blocks: npt.ArrayLike | None = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Intervals | None:
    """95 % intervals of the six recalls and mR over images or spatial blocks, as `over_clusters`
    gives them."""
    images = len(pair[1].above)
    cluster, clusters = codes(np.arange(images) if blocks is None else blocks)
    of_text = cluster[np.asarray(owner, dtype=np.int64)]
    return over_clusters(pair, of_text, cluster, clusters, resamples, seed)


def over_clusters(
    pair: Pair, of_text: Ints, of_image: Ints, clusters: int, resamples: int, seed: int
) -> Intervals | None:
    """`spans` where the cluster number of each query is known: (Q,) of either direction.

    The bootstrap's percentiles are moved away from the figure by `widening`, which makes them cover
    at their level, within 0 … 100; None under `crossed.FEWEST` clusters.
    """
    if clusters < crossed.FEWEST:
        return None
    sums = _sums(pair, of_text, of_image, clusters)
    values = _figures(sums.sum(0, keepdims=True))[0]
    draws = _figures(resampled(sums, resamples, seed))
    factor = widening(clusters)
    by_figure: list[Span] = []
    for value, column in zip(values, draws.T, strict=True):
        low, high = percentile(column)
        edges = (value + factor * (edge - value) for edge in (low, high))
        by_figure.append([float(np.clip(edge, 0, 100)) for edge in edges])
    by_way: dict[str, dict[str, Span]] = {way: {} for way in WAYS}
    for (way, name), span in zip(_COLUMNS, by_figure, strict=False):
        by_way[way][name] = span
    return Intervals(t2i=by_way["t2i"], i2t=by_way["i2t"], mR=by_figure[6])


def widening(clusters: int) -> float:
    """√(C/(C − 1)) · t/z: what the percentiles of a bootstrap over C clusters lack.

    The variance over the clusters drawn is (C − 1)/C of the true one, and is itself estimated, so
    that Student's t with C − 1 degrees of freedom takes the normal's place.
    """
    level = 1 - crossed.ALPHA / 2
    ratio = student.ppf(level, clusters - 1) / norm.ppf(level)
    return float(np.sqrt(clusters / (clusters - 1)) * ratio)


def _sums(pair: Pair, of_text: Ints, of_image: Ints, clusters: int) -> Floats:
    """(C, 8): per cluster the hits at 1, 5, 10 and queries of t2i, then of i2t."""
    parts = [
        cluster_sums(
            np.stack([metrics.credit(ranks, k) for k in metrics.KS], axis=1), where, clusters
        )
        for ranks, where in zip(pair, (of_text, of_image), strict=True)
    ]
    return np.concatenate(parts, axis=1)


def _figures(totals: Floats) -> Floats:
    """Totals (B, 8) as in `_sums` → the six recalls and mR, (B, 7) in per cent."""
    t2i = 100 * totals[:, 0:3] / np.maximum(totals[:, 3:4], 1)
    i2t = 100 * totals[:, 4:7] / np.maximum(totals[:, 7:8], 1)
    six = np.concatenate([t2i, i2t], axis=1)
    return np.concatenate([six, six.mean(1, keepdims=True)], axis=1)
