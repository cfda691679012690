"""Figures of trainings repeated over seeds: intervals, contrasts, and what a test could detect.

Every training gives counts on each test tile, (N, K); a statistic maps their totals (B, K) to
figures (B, F) in per cent, NaN for a figure that the tiles say nothing about. How differences are
tested is decided in this file alone.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.stats import t as student

from builder.retrieval import intervals
from builder.retrieval.ranks import Array, Floats
from builder.retrieval.result import Clusters

SIGNIFICANT = 0.05
WHOLE = 100.0
"""Figures lie between 0 and this: no difference can reach it."""
FEW = 10
"""Fewer clusters than this and a bootstrap over them is rough."""

Compute = Callable[[Floats], Floats]


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
    text: str


class Interval(NamedTuple):
    """Ends of a 95 % interval; in JSON a list of two."""

    low: float
    high: float

    @property
    def sign(self) -> int:
        """1 where all of it lies above 0, -1 below, 0 where it holds 0."""
        return int(self.low > 0) - int(self.high < 0)

    @staticmethod
    def of(draws: Floats) -> "Interval | None":
        known = draws[~np.isnan(draws)]
        return Interval(*intervals.percentile(known)) if len(known) else None


@dataclass(frozen=True)
class Estimate:
    """A figure over all seeds, or the difference of one, with its interval and that of each seed.

    Value and interval are None where the test tiles say nothing about it.
    """

    value: float | None
    interval: Interval | None
    seeds: list[float | None]

    def as_json(self, name: str = "value") -> dict[str, Any]:
        return {name: self.value, "interval": self.interval, "seeds": self.seeds}

    @staticmethod
    def from_json(values: Mapping[str, Any]) -> "Estimate":
        """Differences in reports of earlier versions may lack those of the seeds."""
        value = values["value" if "value" in values else "difference"]
        interval = values["interval"] and Interval(*values["interval"])
        return Estimate(value, interval, values.get("seeds", []))


@dataclass(frozen=True)
class Scores:
    """Estimates by name; those of single classes, where test tiles have these, stand apart."""

    figures: dict[str, Estimate]
    classes: dict[str, Estimate]

    def as_json(self, name: str = "value") -> dict[str, Any]:
        figures, classes = (
            {key: estimate.as_json(name) for key, estimate in estimates.items()}
            for estimates in (self.figures, self.classes)
        )
        return {**figures, "classes": classes} if classes else figures

    @staticmethod
    def from_json(values: Mapping[str, Any]) -> "Scores":
        figures = {key: estimate for key, estimate in values.items() if key != "classes"}
        parts = (figures, values.get("classes", {}))
        return Scores(*({k: Estimate.from_json(v) for k, v in part.items()} for part in parts))


@dataclass(frozen=True)
class StudentTest:
    """Student's t of a difference: see `student_test`."""

    cluster_sd: float
    seed_sd: float
    low: float
    """Lower end of the 95 % interval that follows from this test."""
    p: float
    detectable: float
    """Difference that this test detects with 80 % power, from the measured variances."""
    p_holm: float


@dataclass(frozen=True)
class Contrast:
    """Differences between two arms, paired by seed and cluster, and the tests of some of them.

    ``tests`` holds None for a tested figure that the test tiles say nothing about.
    """

    ours: str
    theirs: str
    question: str
    differences: Scores
    tests: dict[str, StudentTest | None]

    def __getitem__(self, name: str) -> Estimate:
        return self.differences.figures[name]

    def sign(self, name: str) -> int:
        """1 where ``ours`` is established to be above ``theirs``, -1 below, 0 where neither is."""
        test, value = self.tests[name], self[name].value
        if test is None or value is None or test.p_holm >= SIGNIFICANT:
            return 0
        return 1 if value > 0 else -1

    def as_json(self) -> dict[str, Any]:
        values = self.differences.as_json("difference")
        for name, test in self.tests.items():
            values[name] |= {"p": None, "p_holm": None} if test is None else vars(test)
        return {"ours": self.ours, "theirs": self.theirs, "question": self.question, **values}

    @staticmethod
    def from_json(values: Mapping[str, Any]) -> "Contrast":
        figures = {name: figure for name, figure in values.items() if isinstance(figure, dict)}
        names = [field.name for field in fields(StudentTest)]
        tests = {
            name: None if figure["p"] is None else StudentTest(*(figure[key] for key in names))
            for name, figure in figures.items()
            if "p" in figure
        }
        arms = (values["ours"], values["theirs"], values["question"])
        return Contrast(*arms, Scores.from_json(figures), tests)


@dataclass(frozen=True)
class Analysis:
    """What the runs of an experiment say: the figures of every arm, and the contrasts."""

    clusters: Clusters
    seeds: int
    arms: dict[str, Scores]
    contrasts: list[Contrast]
    resamples: int
    mixtures: list[Contrast]
    """Arms named KIND-RATIO against real; without tests, so that they prove nothing."""

    def contrast(self, ours: str, theirs: str) -> Contrast | None:
        """The contrast of two arms; None where these are not compared."""
        pairs = (c for c in self.contrasts if (c.ours, c.theirs) == (ours, theirs))
        return next(pairs, None)

    def as_json(self) -> dict[str, Any]:
        mixtures = []
        for mixture in self.mixtures:
            kind, _, ratio = mixture.ours.rpartition("-")
            arm = {"arm": mixture.ours, "kind": kind, "ratio": float(ratio)}
            mixtures.append(arm | mixture.differences.as_json("difference"))
        return {
            "clusters": self.clusters.as_json(),
            "seeds": self.seeds,
            "arms": {arm: scores.as_json() for arm, scores in self.arms.items()},
            "contrasts": [contrast.as_json() for contrast in self.contrasts],
            **({"ratios": mixtures} if mixtures else {}),
            "resamples": self.resamples,
        }

    @staticmethod
    def from_json(values: Mapping[str, Any]) -> "Analysis":
        """The analysis in a report.json, whatever its experiment adds."""
        return Analysis(
            Clusters(**values["clusters"]),
            values["seeds"],
            {arm: Scores.from_json(scores) for arm, scores in values["arms"].items()},
            [Contrast.from_json(contrast) for contrast in values["contrasts"]],
            values["resamples"],
            [
                Contrast.from_json({**row, "ours": row["arm"], "theirs": "real", "question": ""})
                for row in values.get("ratios", [])
            ],
        )


def analyse(
    runs: Mapping[str, Sequence[Array]],
    blocks: npt.ArrayLike | None,
    tile: str,
    statistic: Statistic,
    questions: Sequence[Question],
    floor: str,
    mixtures: Sequence[str] = (),
    resamples: int = intervals.RESAMPLES,
) -> Analysis:
    """Figures with intervals by arm, and contrasts paired by seed and cluster.

    ``runs``: arm → what each of its trainings, with the same seeds in all arms, counts on N test
    tiles, (N, K); an arm with a single run stands for all seeds. ``blocks`` (N,) are the clusters;
    where they are None every tile is its own, called ``tile``. Questions about missing arms are
    skipped. Holm's (1979) correction runs over the contrasts, once for each tested figure; those
    with the arm ``floor`` gate the others and so take no part in it.
    """
    tiles = len(next(iter(runs.values()))[0])
    cluster, clusters = intervals.codes(np.arange(tiles) if blocks is None else blocks)
    seeds = max(len(counts) for counts in runs.values())
    parts = {}
    for arm, counts in runs.items():
        sums = [intervals.cluster_sums(run, cluster, clusters)[:, :-1] for run in counts]
        parts[arm] = np.stack(sums * seeds if len(sums) == 1 else sums)

    def contrast(question: Question, tested: Sequence[str]) -> Contrast:
        return compare(parts, question, statistic, tested, resamples)

    contrasts = [
        contrast(question, statistic.tested)
        for question in questions
        if question.ours in parts and question.theirs in parts
    ]
    figures = statistic.compute
    return Analysis(
        Clusters(unit=tile if blocks is None else "block", number=clusters),
        seeds,
        {arm: _scores(sums, figures, statistic, resamples) for arm, sums in parts.items()},
        _corrected(contrasts, statistic.tested, floor),
        resamples,
        [contrast(Question(arm, "real", ""), ()) for arm in mixtures if arm in parts],
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


def _scores(parts: Floats, compute: Compute, statistic: Statistic, resamples: int) -> Scores:
    """Estimates of what ``compute`` makes of ``parts`` (S, C, K), named as in ``statistic``."""
    values = compute(parts.mean(0).sum(0)[None])[0]
    draws = compute(hierarchical(parts, resamples)).T
    by_seed = compute(parts.sum(1)).T
    estimates = {
        name: Estimate(_number(value), Interval.of(column), [_number(x) for x in seeds])
        for name, value, column, seeds in zip(
            (*statistic.names, *statistic.classes), values, draws, by_seed, strict=True
        )
    }
    return Scores(
        {name: estimates[name] for name in statistic.names},
        {name: estimates[name] for name in statistic.classes if estimates[name].interval},
    )


def compare(
    parts: Mapping[str, Floats],
    question: Question,
    statistic: Statistic,
    tested: Sequence[str] = (),
    resamples: int = intervals.RESAMPLES,
) -> Contrast:
    """Differences ours − theirs of two arms of ``parts``, (S, C, K) each; some of them tested."""
    ours, theirs = parts[question.ours], parts[question.theirs]
    both, width = np.concatenate([ours, theirs], axis=2), ours.shape[2]

    def difference(totals: Floats) -> Floats:
        return statistic.compute(totals[:, :width]) - statistic.compute(totals[:, width:])

    scores = _scores(both, difference, statistic, resamples)
    tests: dict[str, StudentTest | None] = dict.fromkeys(tested)
    if tested:
        draws = difference(intervals.resampled(both.mean(0), resamples))
    for name in tested:
        n, value = statistic.names.index(name), scores.figures[name].value
        if value is not None:
            by_seed = difference(both.sum(1))[:, n]
            tests[name] = student_test(value, draws[:, n], by_seed)
    return Contrast(question.ours, question.theirs, question.text, scores, tests)


def student_test(value: float, over_clusters: Floats, by_seed: Floats) -> StudentTest:
    """Test a difference against 0, given its values in draws of clusters (B,) and by seed (S,).

    The p-value is Student's t with seeds − 1 degrees of freedom on the difference over
    √(bootstrap variance over clusters + variance over seeds / seeds).
    """
    seeds = len(by_seed)
    cluster_sd, seed_sd = float(np.nanstd(over_clusters)), float(np.std(by_seed, ddof=1))
    error = float(np.sqrt(cluster_sd**2 + seed_sd**2 / seeds))
    p = float(2 * student.sf(abs(value) / error, seeds - 1)) if error > 0 else 1.0
    low = value - float(student.ppf(0.975, seeds - 1)) * error
    detectable = intervals.detectable(1, cluster_sd**2 / 1e4, seeds, seed_sd)
    return StudentTest(cluster_sd, seed_sd, low, p, detectable, p_holm=p)


def _corrected(contrasts: Sequence[Contrast], tested: Sequence[str], floor: str) -> list[Contrast]:
    """The contrasts with Holm's correction over those without ``floor``."""
    corrected = [dict(contrast.tests) for contrast in contrasts]
    for name in tested:
        family = [
            (tests, test)
            for contrast, tests in zip(contrasts, corrected, strict=True)
            if contrast.theirs != floor and (test := tests[name])
        ]
        adjusted = intervals.holm([test.p for _, test in family])
        for (tests, test), p in zip(family, adjusted, strict=True):
            tests[name] = replace(test, p_holm=float(p))
    return [replace(c, tests=tests) for c, tests in zip(contrasts, corrected, strict=True)]


def mean_of_known(columns: Floats) -> Floats:
    """(B, n) → (B,) means over the columns that are not NaN; NaN where all are."""
    known = ~np.isnan(columns)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(np.where(known, columns, 0).sum(1) / known.sum(1))


def _number(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
