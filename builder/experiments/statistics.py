"""Figures of trainings repeated over seeds: intervals and contrasts over seeds and clusters.

Every training gives sums over each cluster of test tiles, (C, K); a statistic maps totals (B, K)
to figures (B, F) in per cent, NaN where one has no ground.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from scipy.stats import t as student

from builder.retrieval import intervals
from builder.retrieval.ranks import Floats

Statistic = Callable[[Floats], Floats]


def hierarchical(parts: Floats, resamples: int = intervals.RESAMPLES, seed: int = 0) -> Floats:
    """Totals (B, K) of draws of seeds, then of clusters, with replacement; ``parts`` (S, C, K)."""
    rng = np.random.default_rng(seed)
    seeds, clusters, width = parts.shape
    out = np.empty((resamples, width))
    for b in range(resamples):
        weight = np.bincount(rng.integers(0, clusters, clusters), minlength=clusters)
        drawn = np.bincount(rng.integers(0, seeds, seeds), minlength=seeds) / seeds
        out[b] = weight @ np.tensordot(drawn, parts, axes=1)
    return out


def figures(
    parts: Floats,
    statistic: Statistic,
    names: Sequence[str],
    resamples: int = intervals.RESAMPLES,
    seed: int = 0,
) -> dict[str, dict[str, Any]]:
    """Name → value over all seeds, its 95 % interval and the value of each seed, of one arm."""
    return {
        name: {
            "value": number(point),
            "interval": span(column),
            "seeds": [number(x) for x in each],
        }
        for name, point, column, each in zip(
            names,
            statistic(parts.mean(0).sum(0)[None])[0],
            statistic(hierarchical(parts, resamples, seed)).T,
            statistic(parts.sum(1)).T,
            strict=True,
        )
    }


def contrast(
    ours: Floats,
    theirs: Floats,
    statistic: Statistic,
    names: Sequence[str],
    tested: Sequence[str],
    resamples: int = intervals.RESAMPLES,
    seed: int = 0,
) -> dict[str, Any]:
    """Differences of all figures as `differences` tells them, and tests of the ``tested`` ones.

    The p-value is Student's t with seeds − 1 degrees of freedom on the difference over
    √(bootstrap variance over clusters + variance over seeds / seeds), and ``low`` the lower end
    of the 95 % interval that follows from the same. ``detectable`` is the difference that this
    test would find with 80 % power, from the same measured variances.
    """
    told = differences(ours, theirs, statistic, names, resamples, seed)
    difference, both = _paired(ours, theirs, statistic)
    over_clusters = difference(intervals.resampled(both.mean(0), resamples, seed))
    each, seeds = difference(both.sum(1)), len(ours)
    for name in tested:
        n, point = list(names).index(name), told[name]["difference"]
        if point is None:
            told[name]["p"] = None
            continue
        cluster_sd = float(np.nanstd(over_clusters[:, n]))
        seed_sd = float(np.std(each[:, n], ddof=1))
        error = np.sqrt(cluster_sd**2 + seed_sd**2 / seeds)
        p = float(2 * student.sf(abs(point) / error, seeds - 1)) if error > 0 else 1.0
        told[name] |= {
            "seeds": [number(x) for x in each[:, n]],
            "cluster_sd": cluster_sd,
            "seed_sd": seed_sd,
            "low": point - float(student.ppf(0.975, seeds - 1)) * float(error),
            "p": p,
            "detectable": intervals.detectable(1, cluster_sd**2 / 1e4, seeds, seed_sd),
        }
    return told


def differences(
    ours: Floats,
    theirs: Floats,
    statistic: Statistic,
    names: Sequence[str],
    resamples: int = intervals.RESAMPLES,
    seed: int = 0,
) -> dict[str, dict[str, Any]]:
    """Name → difference ours − theirs and its 95 % interval, paired by seed and cluster."""
    difference, both = _paired(ours, theirs, statistic)
    points = difference(both.mean(0).sum(0)[None])[0]
    draws = difference(hierarchical(both, resamples, seed)).T
    return {
        name: {"difference": number(point), "interval": span(column)}
        for name, point, column in zip(names, points, draws, strict=True)
    }


def _paired(ours: Floats, theirs: Floats, statistic: Statistic) -> tuple[Statistic, Floats]:
    """The difference of a statistic on totals of both arms side by side, and those sums."""
    width = ours.shape[2]

    def difference(totals: Floats) -> Floats:
        return statistic(totals[:, :width]) - statistic(totals[:, width:])

    return difference, np.concatenate([ours, theirs], axis=2)


def correct(contrasts: Sequence[dict[str, Any]], tested: Sequence[str], floor: str) -> None:
    """Add ``p_holm`` to every contrast: Holm's correction, once for each tested figure.

    Contrasts with ``floor`` gate the others and so take no part in it.
    """
    for name in tested:
        for one in contrasts:
            one[name]["p_holm"] = one[name]["p"]
        rows = [
            one[name] for one in contrasts if one[name]["p"] is not None and one["theirs"] != floor
        ]
        for row, p in zip(rows, intervals.holm([row["p"] for row in rows]), strict=True):
            row["p_holm"] = float(p)


def number(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


def span(column: Floats) -> list[float] | None:
    known = column[~np.isnan(column)]
    return intervals.percentile(known) if len(known) else None
