"""What a balance plan found, as a table, as JSON and in a sentence with the ways out."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from builder.landcover import CLASSES
from builder.layouts import MOST_REPEATS
from builder.maxent import TOLERANCE

FloatArray = npt.NDArray[np.float64]

CROWDED = 5
"""More rows than this for every effective layout, and a plan says that layouts are few."""


@dataclass(frozen=True, eq=False)
class BalancePlan:
    """Sampling weights over layouts and what they achieve; shares are fractions, in class order."""

    weights: FloatArray
    """(n,) float64, sum 1: probability of each layout."""
    kind: str
    """The target as the recipe spells it."""
    rows: int
    """Rows that are to be generated."""
    shares_before: FloatArray
    """(7,) natural shares: the mean composition of the layouts unless given."""
    target: FloatArray
    """(7,) the shares asked for."""
    shares_planned: FloatArray
    """(7,) expected shares under ``weights``: the target, or the nearest reachable shares."""
    feasible: bool
    """Whether every planned share is within `maxent.TOLERANCE` of the target."""
    shortfall: FloatArray
    """(7,) by how much a class stays below its target; zeros when feasible."""
    distance: float
    """Euclidean distance from target to planned shares."""
    distance_bound: float
    """No weights under the cap come nearer than this (0 when feasible): proof of a shortfall."""
    repeats_needed: int | None
    """A cap on repeats that is enough to meet the target, the smallest within a tenth when the
    target is missed; None when no cap is enough."""
    effective_layouts: float
    """exp(entropy of the weights): as many equally likely layouts would be as diverse."""
    effective_size: float
    """1 / Σ w² (Kish): the stricter count, dominated by the heaviest layouts."""
    max_expected_repeats: float
    """rows × the largest weight."""
    capped: int
    """Layouts that stand at their cap."""
    divergence: float
    """KL divergence of the weights from the prior (uniform unless one is given), nats."""
    iterations: int
    """Newton steps taken."""

    @property
    def short_classes(self) -> tuple[str, ...]:
        """Names of the classes that fall short, the worst first."""
        order = np.argsort(-self.shortfall, kind="stable")
        return tuple(CLASSES[k] for k in order if self.shortfall[k] > TOLERANCE)

    def summary(self) -> dict[str, Any]:
        """What a JSON report holds: all but the weights, shares by class name."""

        def by_class(shares: FloatArray) -> dict[str, float]:
            return {name: float(share) for name, share in zip(CLASSES, shares, strict=True)}

        return {
            "target": self.kind,
            "rows": self.rows,
            "layouts": len(self.weights),
            "feasible": self.feasible,
            "shares_before": by_class(self.shares_before),
            "shares_target": by_class(self.target),
            "shares_planned": by_class(self.shares_planned),
            "shortfall": by_class(self.shortfall),
            "distance": self.distance,
            "distance_bound": self.distance_bound,
            "repeats_needed": self.repeats_needed,
            "effective_layouts": self.effective_layouts,
            "effective_size": self.effective_size,
            "max_expected_repeats": self.max_expected_repeats,
            "capped": self.capped,
            "divergence": self.divergence,
            "iterations": self.iterations,
        }

    def __str__(self) -> str:
        """The plan as a table for a terminal, with the verdict below it."""
        lines = [f"{'class':<10}{'natural':>10}{'target':>10}{'planned':>10}{'short':>10}"]
        columns = (self.shares_before, self.target, self.shares_planned, self.shortfall)
        for name, *shares in zip(CLASSES, *columns, strict=True):
            cells = [f"{100 * share:>8.2f} %" for share in shares[:3]]
            short = f"{100 * shares[3]:>8.2f} %" if shares[3] > TOLERANCE else f"{'–':>10}"
            lines.append(f"{name:<10}{''.join(cells)}{short}")
        lines.append(
            f"{self.rows:,} rows from {len(self.weights):,} layouts, as diverse as "
            f"{self.effective_layouts:,.0f} equally likely ones (1/Σw² = "
            f"{self.effective_size:,.0f}); at most {self.max_expected_repeats:.1f} repeats of one "
            "are expected" + (f", and {self.capped:,} are at the cap" if self.capped else "")
        )
        lines.append(self.verdict)
        if self.rows > CROWDED * self.effective_layouts:
            lines.append(
                f"few layouts: {self.rows / self.effective_layouts:.0f} rows for each that counts; "
                "a milder balance (tempered:0.5) or more variants draw on more of them"
            )
        return "\n".join(lines)

    @property
    def verdict(self) -> str:
        """One sentence: the target is met, or what falls short, why, and what would help."""
        if self.feasible:
            return f"target {self.kind} is met"
        short = ", ".join(
            f"{name} {100 * self.shares_planned[CLASSES.index(name)]:.2f} % of "
            f"{100 * self.target[CLASSES.index(name)]:.2f} %"
            for name in self.short_classes
        )
        if self.repeats_needed is None:
            why = (
                "no mixture of the layouts reaches it: ask for less, add layouts of the class, or "
                "set variants in [generator], which adds crops and recombined ones"
            )
        else:
            why = (
                f"the cap on repeats forbids it: {advice(self.repeats_needed)} lower rows or ask "
                "for less"
            )
        return f"target {self.kind} is NOT met ({short}); planned are the nearest shares; {why}"


def advice(repeats: int) -> str:
    """How so many repeats of a layout come about, as the beginning of a list of ways out."""
    if repeats <= MOST_REPEATS:
        return f"set max_repeats to {repeats}, which is enough,"
    return (
        f"it takes {repeats} repeats of one layout, of which {MOST_REPEATS} at most differ; set "
        "variants in [generator], which adds crops and recombined layouts,"
    )
