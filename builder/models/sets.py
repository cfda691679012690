"""Distances between two sets of feature vectors: Fréchet, kernel, precision and recall.

All work on float features (n, d); moments merge by shard, so a set need not fit in memory.
"""

import functools
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from builder.core.errors import ArasError
from builder.models.neighbours import nearest

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Moments:
    """Count, mean (d,) and scatter Σ(x−μ)(x−μ)ᵀ (d, d) of a set, float64."""

    n: int
    mean: Floats
    scatter: Floats

    @property
    def covariance(self) -> Floats:
        """Unbiased covariance (d, d)."""
        return self.scatter / (self.n - 1)

    @classmethod
    def of(cls, features: npt.ArrayLike) -> "Moments":
        values = np.asarray(features, dtype=np.float64)
        if values.ndim != 2 or not len(values) or not np.isfinite(values).all():
            raise ArasError(
                f"features must be finite (n, d) with n ≥ 1, not of shape {values.shape}"
            )
        mean = values.mean(axis=0)
        centred = values - mean
        return cls(len(values), mean, centred.T @ centred)

    def merge(self, other: "Moments") -> "Moments":
        """Moments of both sets together (Chan, Golub & LeVeque 1983)."""
        n = self.n + other.n
        step = other.mean - self.mean
        mean = self.mean + step * (other.n / n)
        outer = np.outer(step, step) * (self.n * other.n / n)
        return Moments(n, mean, self.scatter + other.scatter + outer)


def moments(parts: Iterable[npt.ArrayLike]) -> Moments:
    """Moments of all parts, merged in their order. Raises ArasError when there is none."""
    total: Moments | None = None
    for part in parts:
        own = Moments.of(part)
        total = own if total is None else total.merge(own)
    if total is None:
        raise ArasError("there are no features to measure")
    return total


def frechet(a: Moments, b: Moments) -> float:
    """Fréchet distance of two Gaussians with these moments (Dowson & Landau 1982; FID's formula).

    ‖μa − μb‖² + tr(Σa + Σb − 2(Σa Σb)^½). The trace of the root is the sum of the roots of the
    eigenvalues of Lᵀ Σb L with Σa = L Lᵀ, which stays real; L comes from an eigendecomposition
    so that singular covariances (n ≤ d) need no added noise.
    """
    if min(a.n, b.n) < 2:
        raise ArasError("a Fréchet distance needs at least two images on each side")
    from scipy import linalg  # here, as plans read the moments' type and need no scipy

    values, vectors = linalg.eigh(a.covariance)
    root = vectors * np.sqrt(np.maximum(values, 0))
    cross = linalg.eigvalsh(root.T @ b.covariance @ root)
    trace = np.sqrt(np.maximum(cross, 0)).sum()
    step = a.mean - b.mean
    total = step @ step + np.trace(a.covariance) + np.trace(b.covariance) - 2 * trace
    return max(0.0, float(total))


@dataclass(frozen=True)
class FrechetEstimate:
    """Fréchet distance of two sets with its 95 % interval, and that of endlessly many images."""

    value: float
    interval: tuple[float, float]
    at_infinity: float
    error: float
    """Standard error over images, of either distance."""


def groups_of(images: int) -> int:
    """Into how many groups so many images are dealt for `frechet_estimate`: up to 10 of two."""
    return max(2, min(10, images // 2))


def frechet_estimate(
    real: npt.ArrayLike, other: npt.ArrayLike, groups: int = 10
) -> FrechetEstimate:
    """Fréchet distance with its uncertainty over images, and FD∞ (Chong & Forsyth 2020).

    Each side is dealt into ``groups`` groups of images (rows must be in no order that matters),
    whose moments merge. FD is biased upwards by about c/N; the line through FD of all groups and
    the mean FD of ``groups`` halves, in which every group is as often, gives FD∞ at 1/N = 0. The
    error is that of the delete-a-group jackknife; the interval ± t(groups − 1) errors (Kott 2001)
    ends at 0. The bias hardly differs from one set of images to another, so the error is that of
    FD∞ too; residuals of a fitted line are a third smaller, for they do not know that its points
    share images. A bootstrap would repeat images, and so raise a distance that grows as images get
    fewer. Costs 2 · ``groups`` + 1 distances: 10 groups of 5,000 images in 768 dimensions take 3
    CPU seconds, growing with the cube of the dimensions.
    """
    a, b = (np.asarray(side, dtype=np.float64) for side in (real, other))
    if groups < 2 or min(len(a), len(b)) < 2 * groups:
        raise ArasError(f"an interval needs at least {2 * groups} images on each side")
    sides = [[Moments.of(side[g::groups]) for g in range(groups)] for side in (a, b)]

    def distance(first: int, count: int) -> float:
        """Of ``count`` groups, from the first on and round."""
        chosen = [(first + i) % groups for i in range(count)]
        return frechet(*(functools.reduce(Moments.merge, [s[g] for g in chosen]) for s in sides))

    value, half = distance(0, groups), groups // 2
    without = [distance(g + 1, groups - 1) for g in range(groups)]
    halves = float(np.mean([distance(g, half) for g in range(groups)]))
    at_infinity = (groups * value - half * halves) / (groups - half)
    error = float(np.sqrt((groups - 1) * np.var(without)))
    from scipy import stats

    reach = float(stats.t.ppf(0.975, groups - 1)) * error
    return FrechetEstimate(value, (max(0.0, value - reach), value + reach), at_infinity, error)


def kid(
    real: npt.ArrayLike,
    other: npt.ArrayLike,
    rng: np.random.Generator,
    *,
    subsets: int = 100,
    size: int = 1000,
) -> tuple[float, float, float]:
    """Kernel distance × 1000 with a 95 % interval over subsets (Bińkowski et al. 2018).

    The unbiased MMD² with kernel (xᵀy/d + 1)³; may come out a little below zero.
    """
    a, b = (np.asarray(side, dtype=np.float64) for side in (real, other))
    size = min(size, len(a), len(b))
    if size < 2:
        raise ArasError("KID needs at least two images on each side")
    distances = []
    for _ in range(subsets):
        x, y = (side[rng.choice(len(side), size, replace=False)] for side in (a, b))
        distances.append(1000 * _mmd(x, y))
    low, high = np.percentile(distances, (2.5, 97.5))
    return float(np.mean(distances)), float(low), float(high)


def _mmd(x: Floats, y: Floats) -> float:
    d, m = x.shape[1], len(x)
    xx, yy, xy = ((u @ v.T / d + 1) ** 3 for u, v in ((x, x), (y, y), (x, y)))
    within = (xx.sum() - np.trace(xx) + yy.sum() - np.trace(yy)) / (m * (m - 1))
    return float(within - 2 * xy.mean())


def precision_recall(real: npt.ArrayLike, other: npt.ArrayLike, k: int = 5) -> dict[str, float]:
    """Precision and recall (Kynkäänniemi et al. 2019), density and coverage (Naeem et al. 2020).

    A point is covered where it lies strictly inside the k-th nearest neighbour ball of a point
    of the other side. Compare at equal numbers of images only.
    """
    a, b = (np.asarray(side, dtype=np.float64) for side in (real, other))
    if min(len(a), len(b)) <= k:
        raise ArasError(f"k = {k} neighbours need more than {k} images on each side")
    radius_a = nearest(a, a, k + 1)[1][:, k]
    radius_b = nearest(b, b, k + 1)[1][:, k]
    inside_a = np.zeros(len(b), dtype=np.int64)
    recalled, covered = np.zeros(len(a), dtype=bool), np.zeros(len(a), dtype=bool)
    for start in range(0, len(a), 512):
        part = slice(start, start + 512)
        inside = _nearer(a[part], b, radius_a[part, None])
        inside_a += inside.sum(axis=0)
        covered[part] = inside.any(axis=1)
        recalled[part] = _nearer(a[part], b, radius_b[None]).any(axis=1)
    return {
        "precision": float((inside_a > 0).mean()),
        "recall": float(recalled.mean()),
        "density": float(inside_a.mean() / k),
        "coverage": float(covered.mean()),
    }


def _nearer(a: Floats, b: Floats, radius: Floats) -> npt.NDArray[np.bool_]:
    """Whether points of ``a`` (n, d) and ``b`` (m, d) are nearer than ``radius``, (n, m).

    Near the radius distances are taken from differences, as `nearest` takes the radii: the k-th
    neighbour lies on its ball and not inside, so that two equal sets have density 1.
    """
    lengths = (a**2).sum(axis=1)[:, None] + (b**2).sum(axis=1)[None]
    gap = lengths - 2 * a @ b.T - radius**2
    inside = np.asarray(gap < 0)
    i, j = np.nonzero(np.abs(gap) <= 1e-9 * lengths)
    limit = np.broadcast_to(radius, inside.shape)
    for start in range(0, len(i), 4096):
        rows, cols = i[start : start + 4096], j[start : start + 4096]
        exact = np.linalg.norm(a[rows] - b[cols], axis=1)
        inside[rows, cols] = exact < limit[rows, cols]
    return inside
