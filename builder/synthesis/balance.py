"""The balance plan: which layouts to synthesise from, and how often, for given class shares.

Layouts are drawn with the weights nearest to uniform, or to a prior (minimum Kullback-Leibler
divergence), whose mean composition is the target; `maxent` finds them and `allocate` turns
them into whole repeats. `transforms` says how repeats differ: its variants (crops, recombinations)
are layouts to plan with, its turns make the repeats of a layout differ.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from builder.core import seeds
from builder.core.errors import ArasError
from builder.core.manifest import Balance
from builder.land.classes import CLASSES
from builder.synthesis.maxent import TOLERANCE, project
from builder.synthesis.target import Target
from builder.synthesis.transforms import MOST_REPEATS

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

CROWDED = 5
"""More rows than this for every effective layout, and a plan says that layouts are few."""


POOL, SWAPS = 1_000, 1_000
"""Layouts of either kind that `settle` compares, and most swaps it makes."""


@dataclass(frozen=True, eq=False)
class BalancePlan:
    """Sampling weights over layouts and what they achieve; shares are fractions, in class order."""

    weights: FloatArray
    """(n,) float64, sum 1: probability of each layout."""
    kind: str
    """The target as the recipe spells it."""
    rows: int
    """Rows to generate."""
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
    """A sufficient cap on repeats (for a missed target the smallest to within a tenth); None when
    no cap is sufficient."""
    effective_layouts: float
    """exp(entropy of the weights): the number of equally likely layouts that are as diverse."""
    effective_size: float
    """1 / Σ w² (Kish): the stricter count, dominated by the heaviest layouts."""
    max_expected_repeats: float
    """rows × the largest weight."""
    capped: int
    """Layouts at their cap."""
    divergence: float
    """KL divergence of the weights from the prior (uniform by default), nats."""
    iterations: int
    """Newton steps taken."""
    shares_drawn: FloatArray | None = None
    """(7,) shares of the whole rows that were drawn; None before that."""

    @property
    def short_classes(self) -> tuple[str, ...]:
        """Names of the classes that fall short, the worst first."""
        order = np.argsort(-self.shortfall, kind="stable")
        return tuple(CLASSES[k] for k in order if self.shortfall[k] > TOLERANCE)

    def summary(self) -> Balance:
        """All but the weights, as a release publishes it, with shares by class name."""

        def by_class(shares: FloatArray) -> dict[str, float]:
            return {name: float(share) for name, share in zip(CLASSES, shares, strict=True)}

        return Balance(
            target=self.kind,
            rows=self.rows,
            layouts=len(self.weights),
            feasible=self.feasible,
            shares_before=by_class(self.shares_before),
            shares_target=by_class(self.target),
            shares_planned=by_class(self.shares_planned),
            shortfall=by_class(self.shortfall),
            distance=self.distance,
            distance_bound=self.distance_bound,
            repeats_needed=self.repeats_needed,
            effective_layouts=self.effective_layouts,
            effective_size=self.effective_size,
            max_expected_repeats=self.max_expected_repeats,
            capped=self.capped,
            divergence=self.divergence,
            iterations=self.iterations,
            shares_drawn={} if self.shares_drawn is None else by_class(self.shares_drawn),
        )

    def __str__(self) -> str:
        """The plan as a table for a terminal, with the verdict below it."""
        lines = [f"{'class':<10}{'natural':>10}{'target':>10}{'planned':>10}{'short':>10}"]
        columns = (self.shares_before, self.target, self.shares_planned, self.shortfall)
        for name, *shares in zip(CLASSES, *columns, strict=True):
            cells = [f"{100 * share:>8.2f} %" for share in shares[:3]]
            short = f"{100 * shares[3]:>8.2f} %" if shares[3] > TOLERANCE else f"{'–':>10}"
            lines.append(f"{name:<10}{''.join(cells)}{short}")
        lines.append(
            f"{self.rows:,} rows from {len(self.weights):,} layouts; effective number of layouts: "
            f"{self.effective_layouts:,.0f} (1/Σw²: {self.effective_size:,.0f}); at most "
            f"{self.max_expected_repeats:.1f} repeats of a layout expected"
            + (f", {self.capped:,} layouts at the cap" if self.capped else "")
        )
        lines.append(self.verdict)
        if self.shares_drawn is not None:
            gaps = self.shares_drawn - self.shares_planned
            k = int(np.abs(gaps).argmax())
            lines.append(
                f"the {self.rows:,} whole rows miss the planned shares by at most "
                f"{100 * abs(gaps[k]):.2f} points ({CLASSES[k]})"
            )
        if self.rows > CROWDED * self.effective_layouts:
            lines.append(
                f"few layouts: {self.rows / self.effective_layouts:.0f} rows for each effective "
                "layout; a milder balance (tempered:0.5) or more variants use more of them"
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
                "set variants in [generator], which adds crops and recombined layouts"
            )
        else:
            why = (
                f"the cap on repeats is too low: {advice(self.repeats_needed)} lower rows or ask "
                "for less"
            )
        return f"target {self.kind} is NOT met ({short}); the plan has the nearest shares; {why}"


def advice(repeats: int) -> str:
    """How to get this many repeats of a layout: the beginning of a list of ways out."""
    if repeats <= MOST_REPEATS:
        return f"set max_repeats to {repeats}, which is enough,"
    return (
        f"it takes {repeats} repeats of a layout, of which at most {MOST_REPEATS} differ; set "
        "variants in [generator], which adds crops and recombined layouts,"
    )


def solve(
    compositions: npt.ArrayLike,
    target: Target,
    *,
    rows: int,
    max_repeats: npt.ArrayLike | None = None,
    natural: npt.ArrayLike | None = None,
    prior: npt.ArrayLike | None = None,
) -> BalancePlan:
    """Weights nearest to uniform whose mean composition is the target.

    ``compositions`` is (n, 7) pixel counts or fractions, one row per layout; each row counts
    alike. ``max_repeats``, one whole number or one per layout, bounds the expected repeats among
    ``rows`` rows: weight ≤ max_repeats / rows. None leaves weights free.

    Two options serve layouts that derive from others (crops, recombinations): the target refers
    to ``natural``, (7,) pixels or shares, instead of the mean of ``compositions``; and weights stay
    close to ``prior``, (n,) positive, instead of uniform weights, e.g. 1 for each original and
    little for each derived layout, so that these are drawn where they are needed.

    Where no weights meet the target, the plan says so (``feasible``, ``verdict``) and holds the
    weights whose shares are nearest to it in the Euclidean sense.

    Raises ArasError when a composition is not finite, negative or empty, when the target asks
    for a class that no layout has, and when rows cannot be filled under the cap.
    """
    fractions = fractions_of(compositions)
    n = len(fractions)
    if rows < 1:
        raise ArasError(f"rows is {rows}; expected at least 1")
    cap = _caps(n, rows, max_repeats)
    before = fractions.mean(axis=0) if natural is None else fractions_of(np.atleast_2d(natural))[0]
    shares = target.shares(before)
    towards = np.ones(n) if prior is None else np.asarray(prior, dtype=np.float64)
    if towards.shape != (n,) or not np.isfinite(towards).all() or not (towards > 0).all():
        raise ArasError(f"prior must be {n:,} positive numbers, one per layout")
    for k in np.flatnonzero((shares > 0) & ~fractions.any(axis=0)):
        raise ArasError(
            f"balance target {target} asks for {100 * shares[k]:.2f} % {CLASSES[k]}, but none of "
            f"the {n:,} layouts holds {CLASSES[k]}: give it share 0, write 'tempered:0' (uniform "
            "over the classes that occur), or add layouts that hold it"
        )
    best = project(fractions, shares, cap, prior=towards)
    weights = best.weights
    heaviest = rows * float(weights.max())
    planned = weights @ fractions
    positive = weights > 0
    entropy = float(-(weights[positive] @ np.log(weights[positive])))
    closeness = float(weights @ np.log(towards) - np.log(towards.sum()))
    return BalancePlan(
        weights=weights,
        kind=str(target),
        rows=rows,
        shares_before=before,
        target=shares,
        shares_planned=planned,
        feasible=best.feasible,
        shortfall=np.zeros(len(CLASSES)) if best.feasible else np.maximum(shares - planned, 0),
        distance=best.distance,
        distance_bound=best.bound,
        repeats_needed=_ceil(heaviest) if best.feasible else _enough(fractions, shares, rows),
        effective_layouts=float(np.exp(entropy)),
        effective_size=float(1 / (weights @ weights)),
        max_expected_repeats=heaviest,
        capped=int(((weights >= cap * (1 - 1e-9)) & (cap < 1)).sum()),
        divergence=-closeness - entropy,
        iterations=best.steps,
    )


def fractions_of(compositions: npt.ArrayLike) -> FloatArray:
    """(n, 7) float64 class fractions, rows summing to 1, from counts or fractions.

    Raises ArasError naming the row that is not finite, negative or empty.
    """
    values = np.asarray(compositions, dtype=np.float64)
    if values.ndim != 2 or values.shape[1] != len(CLASSES) or not len(values):
        raise ArasError(
            f"compositions have shape {values.shape}; expected one or more rows of "
            f"{len(CLASSES)} classes"
        )
    return _fractions(values)


def _fractions(compositions: npt.ArrayLike) -> FloatArray:
    values = np.asarray(compositions, dtype=np.float64)
    total = values.sum(axis=1)
    bad = ~np.isfinite(values).all(axis=1) | (values < 0).any(axis=1) | ~(total > 0)
    for row in np.flatnonzero(bad)[:1]:
        raise ArasError(
            f"composition {row} is {values[row].tolist()}; expected pixel counts or fractions, "
            "none negative, with a positive sum"
        )
    return np.asarray(values / total[:, None], dtype=np.float64)


def allocate(
    weights: npt.ArrayLike,
    rows: int,
    seed: int,
    *,
    ids: Sequence[str] | None = None,
    compositions: npt.ArrayLike | None = None,
) -> IntArray:
    """Repeats of each layout, (n,) int64 summing to ``rows``, drawn with little variance.

    Systematic sampling (Madow 1949): layout i gets ⌊rows·w_i⌋ or ⌈rows·w_i⌉ repeats, so a whole
    cap on the expectation is a cap on the draw, and rows·w_i on average over seeds. With
    ``compositions`` the pass goes through layouts of like composition one after another, which
    keeps the class shares obtained near those planned.

    The result depends on ``seed``, weights and ``ids`` (position when None), not on
    the order in which layouts are given. Raises ArasError on weights that are negative, not
    finite or all zero.
    """
    share = np.asarray(weights, dtype=np.float64)
    if rows < 0 or not np.isfinite(share).all() or (share < 0).any() or not share.sum() > 0:
        raise ArasError(
            f"cannot allocate {rows} rows: rows and weights must not be negative, and some weight "
            "must be positive"
        )
    names = [str(i) for i in range(len(share))] if ids is None else ids
    ticket = np.array([seeds.seed(seed, name) for name in names], dtype=np.uint64)
    keys = [ticket]
    if compositions is not None:
        keys += _like(_fractions(compositions))
    order = np.lexsort(keys)
    ordered = share[order]
    expected = ordered * (rows / ordered.sum())
    whole = np.floor(expected + 1e-9)
    rest = expected - whole
    rest[rest < 1e-9] = 0
    missing = rows - int(whole.sum())
    if missing > 0:
        # Points one apart, each rest below one: no layout is met twice.
        edges = np.cumsum(rest)
        start = seeds.seed(seed, "start of the systematic pass") / 2**63 * (edges[-1] - missing + 1)
        met = np.searchsorted(edges, start + np.arange(missing), side="right")
        whole[np.minimum(met, len(edges) - 1)] += 1
    repeats = np.empty(len(share), dtype=np.int64)
    repeats[order] = whole
    return repeats


def settle(
    repeats: npt.ArrayLike,
    weights: npt.ArrayLike,
    compositions: npt.ArrayLike,
    seed: int,
    *,
    ids: Sequence[str] | None = None,
) -> IntArray:
    """An allocation, (n,) int64, whose shares are nearer to those planned: layouts that were
    rounded up change places with layouts that were rounded down, the best pair first, until the
    shares are within `maxent.TOLERANCE` or no pair helps.

    Every layout keeps ⌊rows·w⌋ or ⌈rows·w⌉ repeats, so caps hold. A few rows of many layouts
    gain most: rounding alone moves the shares of 16 rows by points. At most `POOL` layouts of
    either kind take part, drawn by (seed, id).
    """
    counts = np.array(repeats, dtype=np.int64)
    share = np.asarray(weights, dtype=np.float64)
    fractions, rows = _fractions(compositions), int(counts.sum())
    expected = share * (rows / share.sum())
    low = np.floor(expected + 1e-9)
    loose = expected - low > 1e-9
    names = [str(i) for i in range(len(share))] if ids is None else ids
    order = np.argsort([seeds.seed(seed, name, "settle") for name in names], kind="stable")
    loose, above = loose[order], (counts > low)[order]
    up, down = order[loose & above][:POOL], order[loose & ~above][:POOL]
    if not len(up) or not len(down):
        return counts
    gap = counts @ fractions - expected @ fractions
    for _ in range(SWAPS):
        if np.abs(gap).max() <= TOLERANCE * rows:
            break
        # |gap + d - u|² of every pair (u, d), but for |gap|², is below 0 where swapping helps.
        out, into = fractions[up], fractions[down]
        change = (
            ((out**2).sum(axis=1) - 2 * out @ gap)[:, None]
            + ((into**2).sum(axis=1) + 2 * into @ gap)[None]
            - 2 * out @ into.T
        )
        u, d = np.unravel_index(change.argmin(), change.shape)
        if change[u, d] > -1e-12:
            break
        gap += into[d] - out[u]
        up[u], down[d] = down[d], up[u]
        counts[up[u]] += 1
        counts[down[d]] -= 1
    return counts


def expand(repeats: npt.ArrayLike) -> tuple[IntArray, IntArray]:
    """Rows of an allocation: the layout's position and the repeat's number (from 0) of each."""
    counts = np.asarray(repeats, dtype=np.int64)
    layout = np.repeat(np.arange(len(counts), dtype=np.int64), counts)
    first = np.cumsum(counts) - counts
    return layout, np.arange(len(layout), dtype=np.int64) - first[layout]


def _enough(fractions: FloatArray, shares: FloatArray, rows: int) -> int | None:
    """A cap on repeats, within a tenth of the smallest, under which the shares are reachable."""
    n = len(fractions)
    free = project(fractions, shares, np.ones(n), nearest=False)
    if not free.feasible:
        return None
    low, high = -(-rows // n) - 1, _ceil(rows * float(free.weights.max()))
    while high - low > 1 + low // 10:
        middle = (low + high) // 2
        cap = np.full(n, min(middle / rows, 1.0))
        if project(fractions, shares, cap, nearest=False).feasible:
            high = middle
        else:
            low = middle
    return high


def _ceil(repeats: float) -> int:
    return int(np.ceil(repeats - 1e-6))


def _like(fractions: FloatArray) -> list[npt.NDArray[Any]]:
    """Sort keys, least significant first, that put layouts of like composition side by side."""
    ranked = np.argsort(-fractions, axis=1, kind="stable")
    first, second = ranked[:, 0], ranked[:, 1]
    return [fractions[np.arange(len(fractions)), first], second, first]


def _caps(n: int, rows: int, max_repeats: npt.ArrayLike | None) -> FloatArray:
    if max_repeats is None:
        return np.ones(n)
    repeats = np.broadcast_to(np.asarray(max_repeats), (n,))
    if (repeats < 1).any() or (repeats != np.floor(repeats)).any():
        raise ArasError(f"max_repeats is {max_repeats}; expected a whole number, 1 or more")
    room = int(repeats.sum())
    if room < rows:
        raise ArasError(
            f"{n:,} layouts make {room:,} rows with max_repeats, and {rows:,} rows are required: "
            f"{advice(-(-rows // n))} or lower rows"
        )
    return np.minimum(repeats / rows, 1.0)
