"""What a dose–response experiment says: gain or harm by validity and ratio, break-even, and a rule.

Seeds and test scenes are random in every interval, as in `retrieval.crossed`; where a statement is
about doses in general, the doses that were tried are a sample too, and all three are drawn again
(the pigeonhole bootstrap, Owen 2007), which errs on the wide side.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from builder.experiments.dose_study import Study
from builder.experiments.statistics import Interval
from builder.experiments.validity import MEASURES, Validity
from builder.retrieval import crossed, intervals
from builder.retrieval.ranks import Floats
from builder.retrieval.result import Part

FIGURES = ("mR", "tail")
DRAWS = 2_000
REPEATED, REAL, ORACLE = "repeated", "real", "oracle"
AT = 1.0
"""Ratio that doses are compared at."""
LOGS = ("frechet", "frechet_random")
"""Measures whose logarithm is used: they span decades."""
PREDICTORS: Mapping[str, tuple[str, ...]] = {name: (name,) for name in MEASURES} | {
    "agreement + coverage": ("agreement", "coverage"),
    "agreement + frechet": ("agreement", "frechet"),
}
"""Name → measures that predict together."""


class Gap(Part):
    """A difference of two arms in points, its 95 % interval and what follows from it."""

    value: float
    interval: Interval
    p: float
    detectable: float
    """Difference that is found with 80 % power at the 5 % level."""
    seeds: tuple[float, ...]
    p_holm: float | None = None
    """After Holm's correction over the doses at ratio `AT`, class-balanced."""


class Effect(Part):
    """An arm with a dose: its differences from repeating real scenes and from real scenes."""

    arm: str
    dose: str
    family: str
    shares: str
    ratio: float
    repeated: dict[str, Gap]
    real: dict[str, Gap]


class Prediction(Part):
    """How well measures tell the gain over repeating of a dose that was left out."""

    name: str
    figure: str
    rank_correlation: float | None
    """Spearman's, of a single measure."""
    error: float
    """Root mean square error over the doses, each predicted from the others, in points."""
    explained: float
    """1 − squared error / that of predicting the mean of the others; below 0: worse than it."""
    right: int
    """Doses of which it tells from the others whether they beat repeating."""
    doses: int
    regret: float
    """Points lost per dose by following it, against the better choice for each dose."""


class BreakEven(Part):
    """The value of a measure at which balanced synthesis equals repeating real scenes."""

    measure: str
    figure: str
    value: float | None
    interval: Interval | None
    of_real: float | None
    """``value`` as a share of what held-out real tiles have."""
    of_real_interval: Interval | None
    slope: float
    """Points per unit of the measure (per factor e of a Fréchet distance)."""
    slope_interval: Interval
    undefined: float
    """Share of draws in which the line does not rise."""


class Term(Part):
    """A coefficient of the response surface."""

    name: str
    figure: str
    value: float
    interval: Interval


class Choice(Part):
    """What the rule says of a dose that it was not made from, and what came of it."""

    dose: str
    predicted: float
    observed: float
    interval: Interval

    @property
    def right(self) -> bool:
        return (self.predicted > 0) == (self.observed > 0)


class Analysis(Part):
    """All results of a study."""

    name: str
    encoder: str
    seeds: int
    scenes: int
    tail: tuple[str, ...]
    arms: dict[str, dict[str, tuple[float, ...]]]
    """Arm → figure → value of each seed."""
    effects: list[Effect]
    controls: dict[str, dict[str, Gap]]
    """Question → figures."""
    predictions: list[Prediction]
    break_even: list[BreakEven]
    surface: list[Term]
    measure: str
    """The single measure with the least error of mR on doses left out."""
    learnt: bool
    """Whether real scenes beat scenes with captions of others: without that nothing follows."""
    choices: list[Choice]
    checked: list[Choice]
    """Doses that took no part in any fit."""
    transferred: list[Choice]
    """Generators, predicted from doses of other families alone."""
    cpu_seconds: float


CONTROLS = (
    ("oracle-balanced-1", REAL, "what is balance worth with perfect tiles?"),
    ("oracle-balanced-1", REPEATED, "are perfect tiles better than repeating real scenes?"),
    ("copies-balanced-1", REPEATED, "are new scenes of known tiles better than repeating scenes?"),
    ("oracle-balanced-1", "copies-balanced-1", "what do new tiles add to new scenes?"),
    ("oracle-balanced-1", "oracle-natural-1", "does balance matter, beyond more scenes?"),
    ("texture-balanced-1", "texture-natural-1", "does it for textures?"),
    ("texture-filtered-balanced-1", "texture-balanced-1", "does filtering textures matter?"),
    (REPEATED, REAL, "what does balance by repeating do?"),
    ("longer", REAL, "do twice the steps on real scenes do as much?"),
    ("exposures", REAL, "what do half the exposures of real scenes cost?"),
    ("unrelated", REAL, "what does dilution by unrelated scenes cost?"),
    ("again", REAL, "A/A: the same arm with other seeds"),
    (REAL, "shuffled", "did the model learn from captions?"),
    ("blurred", REAL, "does the encoder see texture? blurred test tiles"),
)


def gaps(cells: Floats) -> dict[str, Gap]:
    """Of (2, S, C) cells of differences."""
    spread = crossed.spread(cells)
    values = cells.mean((1, 2))
    reach, p = spread.reach, spread.p(values)
    return {
        name: Gap(
            value=float(values[n]),
            interval=(float(values[n] - reach[n]), float(values[n] + reach[n])),
            p=float(p[n]),
            detectable=float(spread.detectable[n]),
            seeds=tuple(cells[n].mean(1).tolist()),
        )
        for n, name in enumerate(FIGURES)
    }


def coordinates(validity: Validity, measures: Sequence[str]) -> list[float]:
    """Measures with more for better; Fréchet distances as minus their logarithm."""
    values = []
    for name in measures:
        value = float(getattr(validity, name))
        values.append(MEASURES[name] * (float(np.log(value)) if name in LOGS else value))
    return values


def fit(x: Floats, y: Floats, weights: Floats | None = None) -> Floats:
    """Least squares of y (…, D) on x (D, p) and a constant: (…, p + 1), the constant first.

    ``weights`` (…, D) are how often each row counts.
    """
    design = np.column_stack([np.ones(len(x)), x])
    weights = np.ones_like(y) if weights is None else weights
    normal = np.einsum("...d,di,dj->...ij", weights, design, design)
    normal += 1e-9 * np.eye(design.shape[1])
    right = np.einsum("...d,di,...d->...i", weights, design, y)
    return np.asarray(np.linalg.solve(normal, right[..., None])[..., 0])


@dataclass(frozen=True)
class Fits:
    """The arms of a study with doses, ready for models over doses."""

    study: Study
    draws: int = DRAWS

    @cached_property
    def doses(self) -> list[str]:
        """Those that models are fitted to."""
        return self._measured(check=False)

    @cached_property
    def checks(self) -> list[str]:
        """Those that were kept out of it."""
        return self._measured(check=True)

    def _measured(self, check: bool) -> list[str]:
        """Doses with a class-balanced arm at ratio `AT` and a measured validity."""
        facts = self.study.facts
        return [
            arm.dose
            for name, arm in facts.arms.items()
            if arm.shares == "balanced"
            and arm.ratio == AT
            and name in self.study.runs
            and facts.doses[arm.dose].validity
            and facts.doses[arm.dose].check == check
        ]

    def arm(self, dose: str) -> str:
        return f"{dose}-balanced-{AT:g}"

    def gains(self, base: str = REPEATED) -> Floats:
        """(2, D) figures of the doses at `AT` over the arm ``base``."""
        theirs = self.study.cells(base).mean((1, 2))
        ours = [self.study.cells(self.arm(dose)).mean((1, 2)) for dose in self.doses]
        return np.asarray(np.stack(ours, 1) - theirs[:, None])

    @cached_property
    def drawn(self) -> tuple[list[str], Floats]:
        """Arms, and (2, draws, A) their figures with seeds and scenes drawn again."""
        names, rng = list(self.study.runs), np.random.default_rng(0)
        cells = np.stack([self.study.cells(name)[:, : self.study.seeds] for name in names])
        _, _, seeds, scenes = cells.shape
        shape = (self.draws, seeds)
        of_seeds = rng.multinomial(seeds, np.full(seeds, 1 / seeds), self.draws) / seeds
        of_scenes = rng.multinomial(scenes, np.full(scenes, 1 / scenes), self.draws) / scenes
        assert of_seeds.shape == shape
        by_seed = np.tensordot(cells, of_scenes, axes=(3, 1))  # (A, 2, S, draws)
        return names, np.einsum("afsb,bs->fba", by_seed, of_seeds)

    def drawn_gains(self, arms: Sequence[str], base: str) -> Floats:
        """(2, draws, A) of ``arms`` over ``base``."""
        names, figures = self.drawn
        where = [names.index(arm) for arm in arms]
        return np.asarray(figures[:, :, where] - figures[:, :, [names.index(base)]])

    @cached_property
    def counts(self) -> Floats:
        """(draws, D) how often each dose is drawn."""
        number = len(self.doses)
        rng = np.random.default_rng(1)
        return rng.multinomial(number, np.full(number, 1 / number), self.draws).astype(float)

    def x(self, measures: Sequence[str], doses: Sequence[str] | None = None) -> Floats:
        names = self.doses if doses is None else doses
        return np.array([coordinates(self.study.validity(dose), measures) for dose in names])


def predictions(fits: Fits) -> list[Prediction]:
    """Every predictor of both figures, each dose predicted from the others."""
    from scipy.stats import spearmanr

    out, gains, number = [], fits.gains(), len(fits.doses)
    others = 1 - np.eye(number)
    for f, figure in enumerate(FIGURES):
        y = gains[f]
        means = (y.sum() - y) / (number - 1)
        for name, measures in PREDICTORS.items():
            x = fits.x(measures)
            lines = fit(x, np.broadcast_to(y, (number, number)), others)
            guess = lines[:, 0] + (lines[:, 1:] * x).sum(1)
            wrong = (guess > 0) != (y > 0)
            single = len(measures) == 1 and np.ptp(x) > 0 and np.ptp(y) > 0
            spread = ((means - y) ** 2).sum()
            rank = float(spearmanr(x[:, 0], y).statistic) if single else None
            out.append(
                Prediction(
                    name=name,
                    figure=figure,
                    rank_correlation=rank,
                    error=float(np.sqrt(((guess - y) ** 2).mean())),
                    explained=float(1 - ((guess - y) ** 2).sum() / spread) if spread else 0.0,
                    right=int((~wrong).sum()),
                    doses=number,
                    regret=float((np.abs(y) * wrong).mean()),
                )
            )
    return out


def break_even(fits: Fits, measure: str, figure: str) -> BreakEven:
    """Where the line of the gain over repeating on a measure is 0, with all three drawn again."""
    f, x = FIGURES.index(figure), fits.x([measure])
    constant, slope = fit(x, fits.gains()[f])
    gains = fits.drawn_gains([fits.arm(dose) for dose in fits.doses], REPEATED)[f]
    lines = fit(x, gains, fits.counts)
    rising = lines[:, 1] > 0
    at = -lines[rising, 0] / lines[rising, 1]
    back = (lambda v: float(np.exp(-v))) if measure in LOGS else float
    ends = sorted(back(v) for v in np.quantile(at, (0.025, 0.975))) if rising.any() else None
    low, high = np.quantile(lines[:, 1], (0.025, 0.975))
    value = back(-constant / slope) if slope > 0 else None
    real = float(getattr(fits.study.validity(ORACLE), measure)) if ORACLE in fits.doses else None
    return BreakEven(
        measure=measure,
        figure=figure,
        value=value,
        interval=(ends[0], ends[1]) if ends else None,
        of_real=value / real if real and value is not None else None,
        of_real_interval=(ends[0] / real, ends[1] / real) if real and ends else None,
        slope=float(slope),
        slope_interval=(float(low), float(high)),
        undefined=float(1 - rising.mean()),
    )


def surface(fits: Fits, measure: str) -> list[Term]:
    """The gain over real scenes on the measure v, the ratio and the shares, over arms with real
    scenes: 1 + v + log2 ratio + v · log2 ratio + natural + v · natural, v 0 for perfect tiles."""
    facts = fits.study.facts
    arms = [
        name
        for name, arm in facts.arms.items()
        if arm.dose in fits.doses and arm.shares != "alone" and name in fits.study.runs
    ]
    own = [facts.arms[name] for name in arms]
    v = fits.x([measure], [arm.dose for arm in own])[:, 0]
    if ORACLE in fits.doses:
        v = v - fits.x([measure], [ORACLE])[0, 0]
    log = np.log2([arm.ratio for arm in own])
    natural = np.array([arm.shares == "natural" for arm in own], float)
    x = np.stack([v, log, v * log, natural, v * natural], 1)
    names = ("perfect, balanced, ratio 1", measure, "log2 ratio", f"{measure} × log2 ratio",
             "natural shares", f"{measure} × natural shares")  # fmt: skip
    gains = fits.drawn_gains(arms, REAL)
    place = [fits.doses.index(arm.dose) for arm in own]
    lines = fit(x, gains, np.broadcast_to(fits.counts[:, place], gains.shape))
    terms = []
    for f, figure in enumerate(FIGURES):
        real = fits.study.cells(REAL).mean((1, 2))[f]
        y = np.array([fits.study.cells(name).mean((1, 2))[f] for name in arms]) - real
        values = fit(x, y)
        ends = np.quantile(lines[f], (0.025, 0.975), axis=0)
        terms += [
            Term(name=name, figure=figure, value=float(values[k]),
                 interval=(float(ends[0, k]), float(ends[1, k])))
            for k, name in enumerate(names)
        ]  # fmt: skip
    return terms


def choices(fits: Fits, measure: str, effects: Mapping[str, Effect]) -> list[Choice]:
    """The rule on each dose, made from the other doses."""
    y, x = fits.gains()[0], fits.x([measure])
    out = []
    for n, dose in enumerate(fits.doses):
        rest = np.arange(len(y)) != n
        constant, slope = fit(x[rest], y[rest])
        out.append(_choice(dose, constant + slope * x[n, 0], effects[fits.arm(dose)]))
    return out


def checked(fits: Fits, measure: str, effects: Mapping[str, Effect]) -> list[Choice]:
    """The rule on doses that were kept out of all fits."""
    if not fits.checks:
        return []
    constant, slope = fit(fits.x([measure]), fits.gains()[0])
    guesses = constant + slope * fits.x([measure], fits.checks)[:, 0]
    return [
        _choice(dose, guess, effects[fits.arm(dose)])
        for dose, guess in zip(fits.checks, guesses, strict=True)
    ]


def transferred(fits: Fits, measure: str, effects: Mapping[str, Effect]) -> list[Choice]:
    """The rule on generators, made from doses of the other families; empty where there are none."""
    family = [fits.study.facts.doses[dose].family for dose in fits.doses]
    drawn = np.array([name == "generator" for name in family])
    if not drawn.any() or (~drawn).sum() < 3:
        return []
    y, x = fits.gains()[0], fits.x([measure])
    constant, slope = fit(x[~drawn], y[~drawn])
    return [
        _choice(fits.doses[n], constant + slope * x[n, 0], effects[fits.arm(fits.doses[n])])
        for n in np.flatnonzero(drawn)
    ]


def learnt(cells: Mapping[str, Floats], floor: str) -> bool:
    """Whether the arm with real scenes beats the arm ``floor`` in mR."""
    if floor not in cells:
        return False
    gap = gaps(cells[REAL] - cells[floor])["mR"]
    return gap.value > 0 and gap.p < crossed.ALPHA


def correct(effects: Iterable[Effect]) -> None:
    """Holm's correction of mR, and of the tail, over the doses at `AT`, class-balanced."""
    family = [e for e in effects if e.shares == "balanced" and e.ratio == AT]
    for base in (REPEATED, REAL):
        for name in FIGURES:
            group = [getattr(effect, base) for effect in family]
            adjusted = intervals.holm([gaps[name].p for gaps in group])
            for own, p in zip(group, adjusted, strict=True):
                own[name] = own[name].model_copy(update={"p_holm": float(p)})


def _choice(dose: str, predicted: float, effect: Effect) -> Choice:
    gap = effect.repeated["mR"]
    return Choice(dose=dose, predicted=float(predicted), observed=gap.value, interval=gap.interval)


def analyse(study: Study, draws: int = DRAWS) -> Analysis:
    """Every result of a study, from its records alone."""
    seeds = study.seeds
    cells = {arm: study.cells(arm)[:, :seeds] for arm in study.runs}
    fits = Fits(study, draws)
    effects = {
        name: Effect(
            arm=name,
            dose=arm.dose,
            family=study.facts.doses[arm.dose].family,
            shares=arm.shares,
            ratio=arm.ratio,
            repeated=gaps(cells[name] - cells[REPEATED]),
            real=gaps(cells[name] - cells[REAL]),
        )
        for name, arm in study.facts.arms.items()
        if arm.dose and name in cells
    }
    correct(effects.values())
    ranked = predictions(fits)
    single = [p for p in ranked if p.figure == "mR" and p.name in MEASURES]
    measure = min(single, key=lambda p: p.error).name
    return Analysis(
        name=study.facts.name,
        encoder=str(study.facts.training["encoder"]),
        seeds=seeds,
        scenes=len(study.facts.layouts),
        tail=tuple(study.groups.tail),
        arms={
            arm: {name: tuple(own[n].mean(1).tolist()) for n, name in enumerate(FIGURES)}
            for arm, own in cells.items()
        },
        effects=list(effects.values()),
        controls={
            f"{ours} − {theirs}: {question}": gaps(cells[ours] - cells[theirs])
            for ours, theirs, question in CONTROLS
            if ours in cells and theirs in cells
        },
        predictions=ranked,
        break_even=[break_even(fits, name, figure) for name in MEASURES for figure in FIGURES],
        surface=surface(fits, measure),
        measure=measure,
        learnt=learnt(cells, study.facts.floor),
        choices=choices(fits, measure, effects),
        checked=checked(fits, measure, effects),
        transferred=transferred(fits, measure, effects),
        cpu_seconds=round(study.cost, 1),
    )
