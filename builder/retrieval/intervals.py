"""Uncertainty of retrieval figures: cluster bootstrap, paired tests, detectable differences."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from scipy.stats import norm, t

from builder.retrieval import metrics
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


def sign_flip(differences: npt.ArrayLike, resamples: int = RESAMPLES, seed: int = 0) -> float:
    """Two-sided p-value that paired differences, one sum per cluster (C,), centre on 0.

    Under the null each cluster's sign is as likely to be the other sign; the p-value counts the
    observed arrangement among those drawn, so it is never 0.
    """
    d = np.asarray(differences, dtype=np.float64)
    d = d[d != 0]
    if not len(d):
        return 1.0
    rng = np.random.default_rng(seed)
    observed = abs(d.sum())
    beyond = sum(
        abs(d @ (1.0 - 2.0 * rng.integers(0, 2, len(d), dtype=np.int8))) >= observed - 1e-9
        for _ in range(resamples)
    )
    return float((1 + beyond) / (1 + resamples))


def holm(p: npt.ArrayLike) -> Floats:
    """Holm's (1979) adjusted p-values, in the order given."""
    values = np.asarray(p, dtype=np.float64)
    order = np.argsort(values, kind="stable")
    scaled = values[order] * np.arange(len(values), 0, -1)
    adjusted = np.empty(len(values))
    adjusted[order] = np.minimum(np.maximum.accumulate(scaled), 1.0)
    return adjusted


def paired(
    ours: Floats,
    theirs: Floats,
    statistic: Callable[[Floats], Floats],
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> tuple[Floats, list[Span]]:
    """Differences (F,) of ``statistic`` between two models, and their intervals.

    ``ours`` and ``theirs`` are (C, K) sums over the same clusters, drawn together;
    ``statistic`` maps totals (B, K) to figures (B, F).
    """
    columns = ours.shape[1]
    both = np.concatenate([ours, theirs], axis=1)

    def difference(totals: Floats) -> Floats:
        return statistic(totals[:, :columns]) - statistic(totals[:, columns:])

    draws = difference(resampled(both, resamples, seed))
    return difference(both.sum(0, keepdims=True))[0], [percentile(column) for column in draws.T]


def detectable(
    queries: int,
    discordance: float = 0.10,
    seeds: int = 0,
    seed_sd: float = 0.0,
    power: float = 0.80,
    alpha: float = 0.05,
) -> float:
    """Smallest true difference in R@K, in percentage points, that a paired test finds.

    ``discordance`` is the share of queries on which the two models disagree: the difference has
    variance discordance / queries (McNemar). With ``seeds`` paired trainings whose differences
    spread by ``seed_sd`` points, seed_sd² / seeds adds to it and Student's t with seeds − 1
    degrees of freedom takes the normal's place.
    """
    variance = 1e4 * discordance / queries
    if seeds < 2:
        z = norm.ppf(1 - alpha / 2) + norm.ppf(power)
    else:
        variance += seed_sd**2 / seeds
        z = t.ppf(1 - alpha / 2, seeds - 1) + t.ppf(power, seeds - 1)
    return float(z * np.sqrt(variance))


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
    ours: Pair,
    theirs: Pair,
    owner: npt.ArrayLike,
    blocks: npt.ArrayLike | None = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> dict[str, Difference]:
    """Differences (ours − theirs) of the six recalls and mR, in percentage points.

    Each has a 95 % paired cluster bootstrap interval, a sign-flip p-value and that p-value after
    Holm's correction over the seven figures. Both models must have answered the same queries.
    """
    own = np.asarray(owner, dtype=np.int64)
    images = len(ours[1].above)
    cluster, clusters = codes(np.arange(images) if blocks is None else blocks)
    mine, others = (_sums(p, cluster[own], cluster, clusters) for p in (ours, theirs))
    points, spans = paired(mine, others, _figures, resamples, seed)
    # A cluster's share of each figure's difference; that of mR is the mean of the six.
    share = 100 * (mine - others)[:, [0, 1, 2, 4, 5, 6]]
    share = share / np.repeat(mine[:, [3, 7]].sum(0), 3)
    share = np.concatenate([share, share.mean(1, keepdims=True)], axis=1)
    p = [sign_flip(column, resamples, seed) for column in share.T]
    names = [f"{way} {name}" for way, name in _COLUMNS] + ["mR"]
    return {
        name: Difference(
            difference=float(points[n]), interval=spans[n], p=p[n], p_holm=float(adjusted)
        )
        for n, (name, adjusted) in enumerate(zip(names, holm(p), strict=True))
    }


def spans(
    pair: Pair,
    owner: npt.ArrayLike,
    blocks: npt.ArrayLike | None = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Intervals:
    """95 % percentile intervals of the six recalls and mR, over images or spatial blocks."""
    images = len(pair[1].above)
    cluster, clusters = codes(np.arange(images) if blocks is None else blocks)
    of_text = cluster[np.asarray(owner, dtype=np.int64)]
    return over_clusters(pair, of_text, cluster, clusters, resamples, seed)


def over_clusters(
    pair: Pair, of_text: Ints, of_image: Ints, clusters: int, resamples: int, seed: int
) -> Intervals:
    """`spans` where the cluster number of each query is known: (Q,) of either direction."""
    sums = _sums(pair, of_text, of_image, clusters)
    draws = _figures(resampled(sums, resamples, seed))
    by_way: dict[str, dict[str, Span]] = {way: {} for way in WAYS}
    for (way, name), column in zip(_COLUMNS, draws.T, strict=False):
        by_way[way][name] = percentile(column)
    return Intervals(t2i=by_way["t2i"], i2t=by_way["i2t"], mR=percentile(draws[:, 6]))


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
