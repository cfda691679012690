"""Figures of trainings repeated over seeds: intervals, contrasts, and what a test could detect.

Every training gives counts on each test tile, (N, K); a statistic maps their totals (B, K) to
figures (B, F) in per cent, NaN for a figure that the tiles say nothing about. How uncertain figures
are, and so how differences are tested, is decided in `retrieval.crossed` alone.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Annotated, Any, Generic, TypeVar

import numpy as np
import numpy.typing as npt
from pydantic import Field

from builder.retrieval import crossed, intervals
from builder.retrieval.crossed import Compute
from builder.retrieval.ranks import Array, Floats
from builder.retrieval.result import Clusters, Part

SIGNIFICANT = crossed.ALPHA
WHOLE = 100.0
"""Figures lie between 0 and this: no difference can reach it."""
FEW = 10
"""Fewer clusters than this and what they say of their own spread is rough."""

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

    Value and interval are None where the test tiles say nothing about it, the interval also where
    they lie in fewer than `crossed.FEWEST` clusters.
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
    """A difference that is tested, by the spread that its interval follows from.

    Reports of earlier versions had an interval of another origin, and no ``freedom``.
    """

    value: float = Field(validation_alias="difference", serialization_alias="difference")
    cluster_sd: float
    seed_sd: float | None
    """Spread over seeds; ``cluster_sd`` is the error that the clusters alone would give."""
    freedom: float | None = None
    """Degrees of freedom of Student's t."""
    low: float
    """Lower end of the 95 % interval."""
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
    resamples: int = 0
    """Of earlier versions: nothing is drawn any more."""

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
        return _differences(parts[ours], parts[theirs], statistic, tested)

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
            arm: Scores(**_estimates(Estimate, sums, statistic.compute, statistic))
            for arm, sums in parts.items()
        },
        contrasts=[Contrast(**vars(question), **figures) for question, figures in compared],
        resamples=0,
        **({"responses": responses} if responses else {}),
    )


def _estimates(
    kind: type[E],
    parts: Floats,
    compute: Compute,
    statistic: Statistic,
    tested: Sequence[str] = (),
) -> dict[str, Any]:
    """Estimates of what ``compute`` makes of ``parts`` (S, C, K), as in `Figures`; those of
    ``tested`` are `Effect`s, or have p None where there is no value or there are few clusters."""
    values, cells = crossed.linearised(parts, compute)
    spread = crossed.spread(cells) if parts.shape[1] >= crossed.FEWEST else None
    by_seed = compute(parts.sum(1)).T
    estimates: dict[str, Any] = {}
    for n, name in enumerate((*statistic.names, *statistic.classes)):
        value, seeds = _number(values[n]), tuple(map(_number, by_seed[n]))
        if value is None or spread is None:
            untested = {"p": None, "p_holm": None} if name in tested else {}
            estimate = kind(value=value, interval=None, seeds=seeds)
            estimates[name] = estimate.model_copy(update=untested)
            continue
        low, high = value - float(spread.reach[n]), value + float(spread.reach[n])
        if name in tested:
            p = float(spread.p(values)[n])
            estimates[name] = Effect(
                value=value,
                interval=(low, high),
                seeds=seeds,
                cluster_sd=float(spread.cluster_sd[n]),
                seed_sd=_number(spread.seed_sd[n]),
                freedom=float(spread.freedom[n]),
                low=low,
                p=p,
                detectable=float(spread.detectable[n]),
                p_holm=p,
            )
        else:
            bounds = (-WHOLE if issubclass(kind, Difference) else 0.0, WHOLE)
            low, high = (float(np.clip(edge, *bounds)) for edge in (low, high))
            estimates[name] = kind(value=value, interval=(low, high), seeds=seeds)
    figures = {name: estimates[name] for name in statistic.names}
    known = (name for name in statistic.classes if estimates[name].value is not None)
    classes = {name: estimates[name] for name in known}
    return {**figures, "classes": classes} if classes else figures


def _differences(
    ours: Floats, theirs: Floats, statistic: Statistic, tested: Sequence[str] = ()
) -> dict[str, Any]:
    """Differences ours − theirs of two arms, (S, C, K) each, as in `Figures`; some are tested."""
    both, width = np.concatenate([ours, theirs], axis=2), ours.shape[2]

    def difference(totals: Floats) -> Floats:
        return statistic.compute(totals[:, :width]) - statistic.compute(totals[:, width:])

    return _estimates(Difference, both, difference, statistic, tested)


def mean_of_known(columns: Floats) -> Floats:
    """(B, n) → (B,) means over the columns that are not NaN; NaN where all are."""
    known = ~np.isnan(columns)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(np.where(known, columns, 0).sum(1) / known.sum(1))


def _number(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
