"""Figures of trainings repeated over seeds: intervals, contrasts, and what a test could detect.

Every training gives counts on each test tile, (N, K); a statistic maps their totals (B, K) to
figures (B, F) in per cent, NaN for a figure that the tiles say nothing about. How differences are
tested is decided in this file alone.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Annotated, Any, Generic, TypeVar

import numpy as np
import numpy.typing as npt
from pydantic import Field
from scipy.stats import t as student

from builder.retrieval import intervals
from builder.retrieval.ranks import Array, Floats
from builder.retrieval.result import Clusters, Part

SIGNIFICANT = 0.05
WHOLE = 100.0
"""Figures lie between 0 and this: no difference can reach it."""
FEW = 10
"""Fewer clusters than this and a bootstrap over them is rough."""

Compute = Callable[[Floats], Floats]
Interval = tuple[float, float]
"""Ends of a 95 % interval."""
Factor = str | float
"""What distinguishes an arm from others of its kind, for example its ratio or its dose."""


@dataclass(frozen=True)
class Statistic:
    """``compute`` maps totals (B, K) to figures (B, F): first ``names``, then ``classes``."""

    compute: Compute
    names: tuple[str, ...]
    tested: tuple[str, ...]
    """The figures among ``names`` that hypotheses are about; the others only describe."""
    classes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Question:
    """Two arms to compare, and what their comparison answers."""

    ours: str
    theirs: str
    question: str


class Estimate(Part):
    """A figure over all seeds with its interval, and that of each seed (not in older reports).

    Value and interval are None where the test tiles say nothing about it.
    """

    value: float | None
    interval: Interval | None
    seeds: tuple[float | None, ...] = ()


class Difference(Estimate):
    """The difference of a figure between two arms."""

    value: float | None = Field(validation_alias="difference", serialization_alias="difference")

    @property
    def sign(self) -> int:
        """1 where all of its interval lies above 0, -1 below, 0 where it holds 0 or is unknown."""
        low, high = self.interval or (0, 0)
        return int(low > 0) - int(high < 0)


class Effect(Difference):
    """A difference that is tested: see `student_test`."""

    value: float = Field(validation_alias="difference", serialization_alias="difference")
    cluster_sd: float
    seed_sd: float
    low: float
    """Lower end of the 95 % interval that follows from this test."""
    p: float
    detectable: float
    """Difference that this test detects with 80 % power, from the measured variances."""
    p_holm: float

    @property
    def sign(self) -> int:
        """1 where the test establishes that it is above 0, -1 below, else 0."""
        return 0 if self.p_holm >= SIGNIFICANT else 1 if self.value > 0 else -1


E = TypeVar("E", bound=Estimate)
Contrasted = Annotated[Effect | Difference, Field(union_mode="left_to_right")]


class Figures(Part, Generic[E]):
    """Estimates, each under its name, beside the fields: what pydantic calls extra."""

    @property
    def figures(self) -> dict[str, E]:
        extra = (self.model_extra or {}).items()
        return {name: value for name, value in extra if not isinstance(value, dict | str | float)}

    @property
    def classes(self) -> dict[str, E]:
        """Those of single classes, of which the test tiles have some."""
        classes: dict[str, E] = (self.model_extra or {}).get("classes", {})
        return classes

    def __getitem__(self, name: str) -> E:
        return self.figures[name]


class Scores(Figures[Estimate]):
    """The figures of an arm."""

    __pydantic_extra__: dict[str, Estimate | dict[str, Estimate]]


class Contrast(Figures[Difference]):
    """Differences between two arms, paired by seed and cluster; some of them are tested."""

    __pydantic_extra__: dict[str, Contrasted | dict[str, Difference]]
    ours: str
    theirs: str
    question: str

    @property
    def tested(self) -> dict[str, Difference]:
        """What hypotheses are about; no `Effect` where the test tiles say nothing about it."""
        return {name: value for name, value in self.figures.items() if hasattr(value, "p")}


class Response(Figures[Difference]):
    """Differences of an arm from real rows, at the arm's factors; without tests, they describe."""

    __pydantic_extra__: dict[str, Difference | dict[str, Difference] | Factor]
    arm: str


class Analysis(Part):
    """What the runs of an experiment say; in JSON `facts` come first."""

    clusters: Clusters
    seeds: int
    arms: dict[str, Scores]
    contrasts: list[Contrast]
    responses: list[Response] = Field(
        default=[], validation_alias="ratios", serialization_alias="ratios"
    )
    resamples: int

    def contrast(self, ours: str, theirs: str) -> Contrast | None:
        """The contrast of two arms; None where these are not compared."""
        pairs = (c for c in self.contrasts if (c.ours, c.theirs) == (ours, theirs))
        return next(pairs, None)

    @property
    def facts(self) -> dict[str, Any]:
        """What the experiment says of its test tiles."""
        return self.model_extra or {}

    def as_json(self) -> dict[str, Any]:
        return {**self.facts, **super().as_json()}


def analyse(
    runs: Mapping[str, Sequence[Array]],
    blocks: npt.ArrayLike | None,
    tile: str,
    statistic: Statistic,
    questions: Sequence[Question],
    floor: str,
    factors: Mapping[str, Mapping[str, Factor]] = MappingProxyType({}),
    resamples: int = intervals.RESAMPLES,
) -> Analysis:
    """Figures with intervals by arm, and contrasts paired by seed and cluster.

    ``runs``: arm → what each of its trainings, with the same seeds in all arms, counts on N test
    tiles, (N, K); an arm with a single run stands for all seeds. ``blocks`` (N,) are the clusters;
    where they are None every tile is its own, called ``tile``. Questions about missing arms are
    skipped; arms with ``factors`` are described against real. Holm's (1979) correction runs over
    the contrasts, once for each tested figure; those with the arm ``floor`` gate the others and so
    take no part in it.
    """
    tiles = len(next(iter(runs.values()))[0])
    cluster, clusters = intervals.codes(np.arange(tiles) if blocks is None else blocks)
    seeds = max(len(counts) for counts in runs.values())
    parts = {}
    for arm, counts in runs.items():
        sums = [intervals.cluster_sums(run, cluster, clusters)[:, :-1] for run in counts]
        parts[arm] = np.stack(sums * seeds if len(sums) == 1 else sums)

    def compare(ours: str, theirs: str, tested: Sequence[str] = ()) -> dict[str, Any]:
        return _differences(parts[ours], parts[theirs], statistic, resamples, tested)

    compared = [
        (question, compare(question.ours, question.theirs, statistic.tested))
        for question in questions
        if question.ours in parts and question.theirs in parts
    ]
    for name in statistic.tested:
        family = [
            differences
            for question, differences in compared
            if question.theirs != floor and isinstance(differences[name], Effect)
        ]
        adjusted = intervals.holm([differences[name].p for differences in family])
        for differences, p in zip(family, adjusted, strict=True):
            differences[name] = differences[name].model_copy(update={"p_holm": float(p)})
    responses = [
        Response(arm=arm, **{**placed, **compare(arm, "real")})
        for arm, placed in factors.items()
        if arm in parts
    ]
    return Analysis(
        clusters=Clusters(unit=tile if blocks is None else "block", number=clusters),
        seeds=seeds,
        arms={
            arm: Scores(**_estimates(Estimate, sums, statistic.compute, statistic, resamples))
            for arm, sums in parts.items()
        },
        contrasts=[Contrast(**vars(question), **figures) for question, figures in compared],
        resamples=resamples,
        **({"responses": responses} if responses else {}),
    )


def hierarchical(parts: Floats, resamples: int = intervals.RESAMPLES) -> Floats:
    """Totals (B, K) of draws of seeds, then of clusters, with replacement; ``parts`` (S, C, K)."""
    rng = np.random.default_rng(0)
    seeds, clusters, width = parts.shape
    out = np.empty((resamples, width))
    for b in range(resamples):
        weight = np.bincount(rng.integers(0, clusters, clusters), minlength=clusters)
        drawn = np.bincount(rng.integers(0, seeds, seeds), minlength=seeds) / seeds
        out[b] = weight @ np.tensordot(drawn, parts, axes=1)
    return out


def _estimates(
    kind: type[E], parts: Floats, compute: Compute, statistic: Statistic, resamples: int
) -> dict[str, Any]:
    """Estimates of what ``compute`` makes of ``parts`` (S, C, K), as in `Figures`."""
    values = compute(parts.mean(0).sum(0)[None])[0]
    draws = compute(hierarchical(parts, resamples)).T
    by_seed = compute(parts.sum(1)).T
    estimates = {
        name: kind(
            value=_number(value), interval=_interval(column), seeds=tuple(map(_number, seeds))
        )
        for name, value, column, seeds in zip(
            (*statistic.names, *statistic.classes), values, draws, by_seed, strict=True
        )
    }
    figures = {name: estimates[name] for name in statistic.names}
    classes = {name: estimates[name] for name in statistic.classes if estimates[name].interval}
    return {**figures, "classes": classes} if classes else figures


def _differences(
    ours: Floats, theirs: Floats, statistic: Statistic, resamples: int, tested: Sequence[str] = ()
) -> dict[str, Any]:
    """Differences ours − theirs of two arms, (S, C, K) each, as in `Figures`; some are tested."""
    both, width = np.concatenate([ours, theirs], axis=2), ours.shape[2]

    def difference(totals: Floats) -> Floats:
        return statistic.compute(totals[:, :width]) - statistic.compute(totals[:, width:])

    figures = _estimates(Difference, both, difference, statistic, resamples)
    if tested:
        draws = difference(intervals.resampled(both.mean(0), resamples))
    for name in tested:
        column = statistic.names.index(name)
        figures[name] = student_test(
            figures[name], draws[:, column], difference(both.sum(1))[:, column]
        )
    return figures


def student_test(difference: Difference, over_clusters: Floats, by_seed: Floats) -> Difference:
    """Test a difference against 0, given its values in draws of clusters (B,) and by seed (S,).

    The p-value is Student's t with seeds − 1 degrees of freedom on the difference over
    √(bootstrap variance over clusters + variance over seeds / seeds). Without a value it is None.
    """
    value, seeds = difference.value, len(by_seed)
    if value is None:
        return difference.model_copy(update={"p": None, "p_holm": None})
    cluster_sd, seed_sd = float(np.nanstd(over_clusters)), float(np.std(by_seed, ddof=1))
    error = float(np.sqrt(cluster_sd**2 + seed_sd**2 / seeds))
    p = float(2 * student.sf(abs(value) / error, seeds - 1)) if error > 0 else 1.0
    return Effect(
        value=value,
        interval=difference.interval,
        seeds=difference.seeds,
        cluster_sd=cluster_sd,
        seed_sd=seed_sd,
        low=value - float(student.ppf(0.975, seeds - 1)) * error,
        p=p,
        detectable=intervals.detectable(1, cluster_sd**2 / 1e4, seeds, seed_sd),
        p_holm=p,
    )


def mean_of_known(columns: Floats) -> Floats:
    """(B, n) → (B,) means over the columns that are not NaN; NaN where all are."""
    known = ~np.isnan(columns)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(np.where(known, columns, 0).sum(1) / known.sum(1))


def _number(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


def _interval(draws: Floats) -> Interval | None:
    known = draws[~np.isnan(draws)]
    if not len(known):
        return None
    low, high = intervals.percentile(known)
    return low, high
