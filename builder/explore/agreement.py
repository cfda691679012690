"""Proportions with Wilson intervals, Cohen's κ and the area under the ROC curve: pure functions."""

from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from math import sqrt
from typing import Any

import numpy as np

Z = 1.959963984540054
"""Standard normal quantile of 97.5 %."""


@dataclass(frozen=True)
class Proportion:
    """``right`` of ``n`` with its 95 % interval; ``unsure`` are not among the n."""

    right: int
    n: int
    low: float | None
    high: float | None
    unsure: int = 0

    @property
    def value(self) -> float | None:
        return self.right / self.n if self.n else None

    def __str__(self) -> str:
        unsure = f", {self.unsure:,} unsure" if self.unsure else ""
        if self.n == 0 or self.low is None or self.high is None:
            return f"none decided{unsure}"
        share = self.right / self.n
        return (
            f"{share:.3f} [{self.low:.3f}, {self.high:.3f}] ({self.right:,} of {self.n:,}{unsure})"
        )

    def as_json(self) -> dict[str, Any]:
        interval = None if self.low is None else [self.low, self.high]
        known = {"right": self.right, "n": self.n, "unsure": self.unsure}
        return {**known, "precision": self.value, "interval": interval}


def proportion(right: int, n: int, unsure: int = 0) -> Proportion:
    """A share with its interval of 95 % (Wilson 1927), which stays within 0 and 1."""
    if n == 0:
        return Proportion(0, 0, None, None, unsure)
    share, z2 = right / n, Z * Z
    middle = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = Z * sqrt(share * (1 - share) / n + z2 / (4 * n * n)) / (1 + z2 / n)
    return Proportion(right, n, max(0.0, middle - half), min(1.0, middle + half), unsure)


@dataclass(frozen=True)
class Kappa:
    """Cohen's κ of n items that two judged; None where chance alone agrees always."""

    n: int
    observed: float | None
    value: float | None

    def __str__(self) -> str:
        if self.observed is None:
            return "no item in common"
        value = "not defined" if self.value is None else f"{self.value:.3f}"
        return f"Cohen's κ {value} (agree on {self.observed:.3f} of {self.n:,})"

    def as_json(self) -> dict[str, Any]:
        return {"n": self.n, "observed": self.observed, "kappa": self.value}


def kappa(pairs: Sequence[tuple[Hashable, Hashable]]) -> Kappa:
    """Agreement of two judges beyond chance (Cohen 1960), from their labels of each item."""
    n = len(pairs)
    if not n:
        return Kappa(0, None, None)
    observed = sum(a == b for a, b in pairs) / n
    first, second = Counter(a for a, _ in pairs), Counter(b for _, b in pairs)
    chance = sum(first[label] * second[label] for label in first) / (n * n)
    return Kappa(n, observed, (observed - chance) / (1 - chance) if chance < 1 else None)


def area_under_curve(positive: Sequence[float], negative: Sequence[float]) -> float | None:
    """How often a value of ``positive`` is above one of ``negative``, ties half (Mann and Whitney
    1947); None where either is empty."""
    if not positive or not negative:
        return None
    ordered = np.sort(np.asarray(negative, dtype=np.float64))
    values = np.asarray(positive, dtype=np.float64)
    below = np.searchsorted(ordered, values, "left")
    up_to = np.searchsorted(ordered, values, "right")
    return float((below + up_to).sum() / 2 / (len(values) * len(ordered)))
