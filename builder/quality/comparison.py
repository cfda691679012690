"""Synthetic tiles beside held-out real tiles of like composition, as one record of measures.

All work on arrays: deviations of pixel statistics from what is usual of a composition
(`realism.Usual`), so that tiles of other classes than the real ones are compared fairly.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from builder.core.manifest import Agreement, Estimate, TileComparison
from builder.models import sets
from builder.quality.statistics import BANDS, COLOUR, FEATURES, PLANES

LEAST = 10
"""Tiles on a side below which nothing is compared."""
FOLDS = 5
NEIGHBOURS = 3
"""Of precision and recall, as in the paper."""
CLIPPED = 3.0
"""Standard deviations beyond which a statistic counts no further in KID, precision and recall."""
SUBSETS, SUBSET = 50, 500
"""Subsets of KID, and most tiles of each."""
DRAWS = 200
"""Bootstrap draws of the spread."""
BY_BAND = tuple(f"{plane}_{band}" for plane in PLANES for band in BANDS)

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Tiles:
    """One side: ``deviations`` (n, d) of `FEATURES`, ``realism`` (n,), and by judge the share of
    each tile (n,) on which it agrees with the mask or layout; NaN where that is not known."""

    deviations: Floats
    realism: Floats
    agreement: Mapping[str, Floats] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.deviations)


def compare(
    real: Tiles, synthetic: Tiles, train: Tiles | None, rng: np.random.Generator
) -> TileComparison | None:
    """Every measure of ``synthetic`` beside ``real`` held-out tiles; None with fewer than `LEAST`.

    ``train`` are other real tiles: how far apart two sets of real tiles are is the floor.
    """
    if min(len(real), len(synthetic)) < LEAST:
        return None
    own, other = real.deviations, synthetic.deviations
    floor = train.deviations if train is not None and len(train) >= LEAST else None
    logs = {name: _shift(own, other, name) for name in ("luminance_variance", *BY_BAND)}
    near = _precision_recall(own, other)
    ratios = {name: Estimate.of(*np.exp(logs[name])) for name in logs}
    return TileComparison(
        real=len(real),
        synthetic=len(synthetic),
        realism=_rounded(np.median(synthetic.realism)),
        realism_of_real=_rounded(np.median(real.realism)),
        told_apart=told_apart(own, other),
        told_apart_floor=None if floor is None else told_apart(own, floor),
        kid_x1000=_kid(own, other, rng),
        kid_floor=None if floor is None else _kid(own, floor, rng),
        precision=_rounded(near["precision"]),
        recall=_rounded(near["recall"]),
        sharpness=ratios["luminance_2"],
        contrast=ratios["luminance_variance"],
        spectrum={name: ratios[name] for name in BY_BAND},
        colour={name: Estimate.of(*_shift(own, other, name)) for name in COLOUR},
        spread=spread(own, other, rng),
        agreement={
            judge: Agreement.of(_known(values), _known(real.agreement[judge]))
            for judge, values in synthetic.agreement.items()
            if judge in real.agreement
        },
    )


def told_apart(real: Floats, other: Floats) -> Estimate:
    """How often a classifier gives the synthetic one of two tiles the higher score, .5 by chance.

    The area under the ROC curve (a classifier two-sample test, Lopez-Paz & Oquab 2017) of Fisher's
    discriminant with a shrunk covariance, cross-fitted in `FOLDS` folds, with its 95 % interval
    (Newcombe 2006, method 5), which is not empty at 1 either.
    """
    sides = (np.asarray(real, np.float64), np.asarray(other, np.float64))
    scores: list[Floats] = [np.zeros(len(side)) for side in sides]
    for i in range(FOLDS):
        kept = [side[np.arange(len(side)) % FOLDS != i] for side in sides]
        means = [side.mean(axis=0) for side in kept]
        rest = np.concatenate([side - mean for side, mean in zip(kept, means, strict=True)])
        scale = rest.std(axis=0) + 1e-6
        related = (rest / scale).T @ (rest / scale) / len(rest)
        share = len(related) / (len(related) + len(rest))
        mixed = (1 - share) * related + share * np.eye(len(related))
        weights = np.linalg.solve(mixed, (means[1] - means[0]) / scale) / scale
        for side, out in zip(sides, scores, strict=True):
            out[i::FOLDS] = side[i::FOLDS] @ weights - (means[0] + means[1]) @ weights / 2
    from scipy import stats  # slow to load, and `aras status` needs none

    ranks = stats.rankdata(np.concatenate(scores))
    m, n = (len(side) for side in sides)
    area = (ranks[m:].sum() - n * (n + 1) / 2) / (m * n)
    return Estimate.of(area, *area_interval(float(area), m, n))


def area_interval(area: float, m: int, n: int, level: float = 0.95) -> tuple[float, float]:
    """The interval of an area under the ROC curve of m and n cases (Newcombe 2006, method 5)."""
    from scipy import optimize, stats

    z, more = stats.norm.ppf((1 + level) / 2), (m + n) / 2 - 1

    def gap(true: float) -> float:
        pairs = 1 + more * ((1 - true) / (2 - true) + true / (1 + true))
        return float((true - area) ** 2 - z**2 * true * (1 - true) * pairs / (m * n))

    edge = 1e-9  # at 0 and 1 themselves the gap is 0 for any number of cases
    low = optimize.brentq(gap, edge, min(area, 1 - edge)) if gap(edge) > 0 else 0.0
    high = optimize.brentq(gap, max(area, edge), 1 - edge) if gap(1 - edge) > 0 else 1.0
    return float(low), float(high)


def spread(real: Floats, other: Floats, rng: np.random.Generator) -> Estimate:
    """How much the mean colour varies from tile to tile, over that of real tiles: the ratio of
    standard deviations, all channels together, with a bootstrap interval over tiles."""
    channels = [FEATURES.index(name) for name in COLOUR]
    a, b = (np.asarray(side)[:, channels] for side in (real, other))

    def ratio(a: Floats, b: Floats) -> float:
        return float(np.sqrt(b.var(axis=0, ddof=1).sum() / max(a.var(axis=0, ddof=1).sum(), 1e-9)))

    drawn = [
        ratio(*(side[rng.integers(0, len(side), len(side))] for side in (a, b)))
        for _ in range(DRAWS)
    ]
    return Estimate.of(ratio(a, b), *np.percentile(drawn, (2.5, 97.5)))


def _shift(real: Floats, other: Floats, name: str) -> Floats:
    """Difference of means of a statistic and its 95 % interval (Welch 1947), (3,)."""
    a, b = (np.asarray(side)[:, FEATURES.index(name)] for side in (real, other))
    step = float(b.mean() - a.mean())
    parts = [side.var(ddof=1) / len(side) for side in (a, b)]
    error = np.sqrt(sum(parts))
    if error == 0:
        return np.array([step, step, step])
    freedom = error**4 / sum(v**2 / (len(side) - 1) for v, side in zip(parts, (a, b), strict=True))
    from scipy import stats

    reach = stats.t.ppf(0.975, freedom) * error
    return np.array([step, step - reach, step + reach])


def _standard(real: Floats, other: Floats) -> tuple[Floats, Floats]:
    scale = real.std(axis=0) + 1e-6
    return tuple((side / scale).clip(-CLIPPED, CLIPPED) for side in (real, other))


def _kid(real: Floats, other: Floats, rng: np.random.Generator) -> Estimate:
    a, b = _standard(real, other)
    size = min(SUBSET, max(2, min(len(a), len(b)) // 2))
    return Estimate.of(*sets.kid(a, b, rng, subsets=SUBSETS, size=size))


def _precision_recall(real: Floats, other: Floats) -> dict[str, float]:
    """At equal numbers of tiles, the first of each side."""
    n = min(len(real), len(other))
    a, b = _standard(real[:n], other[:n])
    return sets.precision_recall(a, b, k=min(NEIGHBOURS, n - 1))


def _known(values: Floats) -> list[float]:
    return [float(value) for value in values if np.isfinite(value)]


def _rounded(value: float) -> float:
    return float(f"{float(value):.4g}")
