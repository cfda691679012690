"""How uncertain a figure is: trainings (seeds) crossed with clusters of test items, both random.

A figure of cell (s, c) is μ + seed_s + cluster_c + rest_sc. Its mean over S seeds and C clusters
has the variance σ²_seed/S + σ²_cluster/C + σ²_rest/(SC), estimated from the mean squares of the
two-way table (Dorfman, Berbaum & Metz 1992, Hillis 2007: readers crossed with cases). A figure
that is no mean, say F1 of pooled pixels, is replaced by its linearisation in the cells' weights.
With a single seed all this is Student's t over clusters. Intervals, p-values and detectable
differences all come from here, so an interval excludes 0 exactly where p is below 0.05.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.stats import t as student

from builder.retrieval.ranks import Floats, Ints

ALPHA = 0.05
POWER = 0.80
FEWEST = 5
"""Fewer clusters than this have no interval and no test: their spread is hardly known."""

Compute = Callable[[Floats], Floats]
"""Totals (B, K) of what is counted → figures (B, F)."""

_STEP = 1e-3  # of a cell's weight, per cell; `_MOST` at most
_MOST = 0.1
_ROWS = 1 << 14
_NOISE = 1e-6


@dataclass(frozen=True)
class Spread:
    """Per figure, (F,): standard error, its degrees of freedom, and what either source gives.

    ``seed_sd`` is the standard deviation over seeds (NaN for a single one), ``cluster_sd`` the
    error that the clusters alone would give.
    """

    error: Floats
    freedom: Floats
    seed_sd: Floats
    cluster_sd: Floats

    @property
    def reach(self) -> Floats:
        """Half the width of the 95 % interval."""
        return np.asarray(self.error * student.ppf(1 - ALPHA / 2, self.freedom))

    @property
    def detectable(self) -> Floats:
        """The difference that is found with 80 % power at the 5 % level."""
        quantiles = (student.ppf(level, self.freedom) for level in (1 - ALPHA / 2, POWER))
        return np.asarray(self.error * sum(quantiles))

    def p(self, values: Floats) -> Floats:
        """Two-sided p-values that ``values`` (F,) are 0; 1 where nothing varies."""
        with np.errstate(invalid="ignore", divide="ignore"):
            p = 2 * student.sf(np.abs(values) / self.error, self.freedom)
        return np.asarray(np.where(self.error > 0, p, 1.0))


def spread(cells: Floats, differing: Ints | None = None) -> Spread:
    """The spread of the mean of ``cells`` (F, S, C) over S seeds and C ≥ 2 clusters.

    Satterthwaite's degrees of freedom take the measured shares w of the error that seeds and
    clusters have for the true ones, and are too many where a small mean square is small by chance;
    w/(S − 1) + (1 − w)/(C − 1) (Cochran & Cox 1957) are too few. Their mean, weighted by
    1/(fewest levels − 1) and so nearer to the cautious one the fewer there are, keeps the size of
    the test between .03 and .07 from three seeds on (tests/retrieval/test_crossed.py).
    ``differing`` (F,): of a comparison of two models without seeds, the number of clusters that
    they answer otherwise; those that they answer alike say nothing about the spread.
    """
    seeds, clusters = cells.shape[-2:]
    mean = cells.mean((-2, -1), keepdims=True)
    of_cluster = cells.mean(-2, keepdims=True) - mean
    by_cluster = seeds * (of_cluster**2).sum((-2, -1)) / (clusters - 1)
    if seeds == 1:
        error = np.sqrt(by_cluster / clusters)
        counted = np.full(error.shape, clusters) if differing is None else differing
        freedom = np.maximum(1.0, counted - 1)
        return Spread(error, freedom, np.full_like(error, np.nan), error)
    of_seed = cells.mean(-1, keepdims=True) - mean
    by_seed = clusters * (of_seed**2).sum((-2, -1)) / (seeds - 1)
    rest = cells - mean - of_cluster - of_seed
    rest = (rest**2).sum((-2, -1)) / ((seeds - 1) * (clusters - 1))
    total = by_seed + np.maximum(by_cluster - rest, 0)
    return Spread(
        np.sqrt(total / (seeds * clusters)),
        freedom_of(by_seed / np.where(total > 0, total, 1), seeds, clusters),
        np.sqrt(by_seed / clusters),
        np.sqrt(by_cluster / (seeds * clusters)),
    )


def freedom_of(share: Floats, seeds: int, clusters: int) -> Floats:
    """Degrees of freedom where seeds have ``share`` of the squared error, see `spread`."""
    measured = share**2 / (seeds - 1) + (1 - share) ** 2 / (clusters - 1)
    cautious = share / (seeds - 1) + (1 - share) / (clusters - 1)
    weight = 1 / (min(seeds, clusters) - 1)
    return np.asarray(1 / ((1 - weight) * measured + weight * cautious))


def linearised(parts: Floats, compute: Compute) -> tuple[Floats, Floats]:
    """Figures (F,) of ``parts`` (S, C, K), counts by seed and cluster, and their cells (F, S, C).

    A cell is the figure + S·C · its derivative in the cell's weight (the infinitesimal jackknife),
    so that the mean over the cells is the figure; ``compute`` must not depend on the scale of the
    totals, as ratios do not. NaN where a figure is.
    """
    seeds, clusters, width = parts.shape
    rows = parts.reshape(-1, width) / seeds
    totals = rows.sum(0)
    values = compute(totals[None])[0]
    step = min(_MOST, _STEP * len(rows))
    slopes = np.concatenate(
        [
            compute(totals + step * rows[start : start + _ROWS])
            - compute(totals - step * rows[start : start + _ROWS])
            for start in range(0, len(rows), _ROWS)
        ]
    )
    slopes *= len(rows) / (2 * step)
    slopes[np.abs(slopes) < _NOISE] = 0.0
    return values, (values + slopes).T.reshape(len(values), seeds, clusters)
