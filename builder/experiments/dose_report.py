"""The report of the dose–response experiment: one page, from the records of its studies alone."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from builder.core.document import Document
from builder.core.errors import ArasError
from builder.core.figures import BLUE, GREEN, GREY, INK, ORANGE, PINK, SKY, panels, save, style
from builder.core.files import write_json, write_text
from builder.experiments.dose_analysis import (
    AT,
    FIGURES,
    LOGS,
    Analysis,
    BreakEven,
    Choice,
    Effect,
    Gap,
    analyse,
)
from builder.experiments.dose_study import Study
from builder.experiments.report import NO_CONCLUSION
from builder.experiments.validity import MEASURES
from builder.release.expected_gain import Rule

if TYPE_CHECKING:
    from matplotlib.axes import Axes

TITLE = "To what extent does synthetic data made for class balance degrade retrieval?"
COLOURS = {"real": BLUE, "wrong class": ORANGE, "wrong pixels": GREY, "generator": GREEN}
ENCODERS = {
    "random": "random features, frozen, with a trained readout",
    "convolutions": "convolutions, trained from pixels",
}
NAMES = {
    "agreement": "agreement, convolutions",
    "agreement_random": "agreement, random features",
    "discrimination": "discrimination (AUC)",
    "frechet": "Fréchet distance, convolutions",
    "frechet_random": "Fréchet distance, random features",
    "coverage": "coverage",
    "realism": "realism",
    "transfer": "accuracy on real tiles after learning from these",
}
OWN = {"random": "agreement_random", "convolutions": "agreement"}
"""Encoder → the agreement by a classifier of its own kind."""


def write(folder: Path, studies: Mapping[str, Study]) -> dict[str, Analysis]:
    """Write report.md, report.html, report.json and plots of studies, the main one first."""
    analyses = {name: analyse(study) for name, study in studies.items()}
    main, *_ = studies
    draw_curve(folder / "curve.png", {main: studies[main]}, analyses)
    if len(studies) > 1:
        draw_curve(folder / "curves.png", studies, analyses)
    if several(analyses[main]):
        draw_ratios(folder / "ratios.png", analyses[main])
    write_json(folder / "report.json", {name: own.as_json() for name, own in analyses.items()})
    document = page(studies, analyses)
    write_text(folder / "report.md", document.markdown())
    write_text(folder / "report.html", document.page(folder))
    return analyses


def page(studies: Mapping[str, Study], analyses: Mapping[str, Analysis]) -> Document:
    """The report as a person reads it."""
    main, *others = studies
    study, analysis = studies[main], analyses[main]
    document = Document(TITLE)
    document.items(answer(analysis, [analyses[name] for name in others]))
    document.plot(
        "Gain or loss of mean recall against repeating real scenes, by how often a classifier "
        "agrees with what is said of the tiles",
        "curve.png",
    )
    document.text(
        "Each point is a dose: real scenes plus as many synthetic ones with equal class shares. "
        "Above 0 it is better to publish them than to repeat real scenes; below 0 it is worse. "
        "Bars are 95 % intervals over seeds crossed with test scenes; the band is that of the "
        "line, over seeds, scenes and doses."
    )
    document.heading("Design")
    for line in design(studies, analyses):
        document.text(line)
    document.heading("How good the doses are")
    document.table(*validity_table(study))
    document.text(
        "Measured on the tiles of the arm at ratio 1, class-balanced, by models that learn from "
        "real tiles in no arm, against real test tiles. Agreement: share of the tiles that a "
        "classifier gives the class that is said of them; real held-out tiles (oracle) show what "
        "the classifier can do. Copies: nearer to a train tile than 99 % of held-out tiles are."
    )
    document.heading("Gain or loss by dose")
    document.table(*effect_table(analysis, AT, "balanced"))
    document.text(
        "Points, class-balanced at ratio 1, with 95 % intervals from `retrieval.crossed`: seeds "
        "and test scenes random. mR is the mean of six recalls; tail the mean of R@10 over the "
        f"rarest classes ({', '.join(analysis.tail)}), scenes weighted by the share of their "
        "tiles. p after Holm's correction over the doses; detectable: found with 80 % power."
    )
    document.heading("Controls")
    document.table(*control_table(analysis))
    document.heading("By ratio, and natural shares")
    if several(analysis):
        document.plot("Gain over real scenes by ratio", "ratios.png")
    document.table(*ratio_table(analysis))
    document.heading("The response surface")
    document.text(
        f"Gain over real scenes, fitted over all arms with doses; the measure is "
        f"{NAMES[analysis.measure]}, counted from that of real held-out tiles, a unit of it being "
        "100 points. Intervals: seeds, test scenes and doses drawn again together (the pigeonhole "
        "bootstrap, Owen 2007), which errs on the wide side."
    )
    document.table(*surface_table(analysis))
    document.heading("Which measure tells harm from help?")
    document.table(*prediction_table(analysis))
    document.text(
        "Every dose is predicted from the others by a line. Explained: 1 minus the squared error "
        "over that of the mean of the others; below 0 a measure is worse than none. Right: doses "
        "of which it tells whether they beat repeating; regret: points of mR lost per dose by "
        "following it."
    )
    document.heading("Break-even against repeating real scenes")
    document.table(*break_even_table(analysis))
    document.heading("The rule, on doses that it was not made from")
    document.table(*choice_table(analysis.choices))
    if analysis.checked:
        document.text("Doses that took no part in any fit:")
        document.table(*choice_table(analysis.checked))
    if analysis.transferred:
        document.text(
            "Generators, predicted from doses of the other families alone (held-out real tiles "
            "and what was done to them):"
        )
        document.table(*choice_table(analysis.transferred))
    for name in others:
        more(document, studies[name], analyses[name])
    if others:
        document.plot("The same curve in every study", "curves.png")
    document.heading("What cannot be concluded")
    document.items(limits(studies, analyses))
    document.heading("Cost, and how to compute all this again")
    document.text(
        "All trainings together took "
        + ", ".join(f"{own.cpu_seconds:,.0f} CPU s ({name})" for name, own in analyses.items())
        + ". `python scripts/doses_report.py docs/results/doses` computes every figure and plot "
        "from `study.json` and `runs.jsonl` of each study; "
        "`python scripts/doses_eurosat.py eurosat.tar --doses TABLE --out OUT` trains."
    )
    return document


def answer(analysis: Analysis, others: Sequence[Analysis]) -> list[str]:
    """The answer in sentences, with figures from the analysis alone."""
    if not analysis.learnt:
        return [
            f"{NO_CONCLUSION} can be drawn from this run: the model trained on real scenes cannot "
            "be distinguished from one trained on captions of other scenes. Train longer, or on "
            "more tiles."
        ]
    effects = {effect.arm: effect for effect in analysis.effects}
    lines = []
    if perfect := effects.get(f"oracle-balanced-{AT:g}"):
        lines.append(
            f"With perfect tiles (held-out real ones) class-balanced synthesis is worth "
            f"{_points(perfect.real['mR'])} of mean recall and {_points(perfect.real['tail'])} of "
            f"tail recall over real scenes alone, and {_points(perfect.repeated['mR'])} of mean "
            "recall over repeating real scenes to the same class shares."
        )
    line = _own_line(analysis)
    if line.value is not None and line.interval is not None and line.of_real is not None:
        low, high = line.interval
        lines.append(
            f"Every 10 points of lost agreement (a classifier of the encoder's kind, trained on "
            f"real tiles, no longer gives tiles the class that is said of them) cost "
            f"{line.slope / 10:.1f} points of mean recall (95 % {line.slope_interval[0] / 10:.1f} "
            f"to {line.slope_interval[1] / 10:.1f}). Synthesis equals repeating real scenes at an "
            f"agreement of {line.value:.2f} ({low:.2f} to {high:.2f}), {line.of_real:.0%} of that "
            "of real tiles; below, it degrades retrieval."
        )
    rates = {p.name: p for p in analysis.predictions if p.figure == "mR"}
    lines.append(
        f"What tells harm from help best is {NAMES[analysis.measure]}: it explains "
        f"{rates[analysis.measure].explained:.0%} of the differences between doses left out and "
        f"is right about {rates[analysis.measure].right} of {rates[analysis.measure].doses}; "
        f"Fréchet distance explains {rates['frechet_random'].explained:.0%}."
    )
    drawn = [e for e in analysis.effects if e.family == "generator" and _main(e)]
    if drawn:
        listed = "; ".join(f"{e.dose} {_points(e.repeated['mR'])}" for e in drawn)
        lines.append(f"Generators against repeating real scenes, mean recall: {listed}.")
    for other in others:
        mine = _own_line(other)
        if mine.value is not None and mine.of_real is not None:
            lines.append(
                f"{other.name}, {ENCODERS[other.encoder]}: {mine.slope / 10:.1f} points of mean "
                f"recall per 10 points of agreement, break-even at {mine.value:.2f}, "
                f"{mine.of_real:.0%} of that of real tiles."
            )
    return lines


def _own_line(analysis: Analysis) -> BreakEven:
    """The line by agreement of a classifier of the encoder's kind."""
    own = OWN[analysis.encoder]
    return next(b for b in analysis.break_even if (b.measure, b.figure) == (own, "mR"))


def rule(analysis: Analysis, others: Sequence[Analysis]) -> Rule:
    """The rule that a release is judged by, from the first study; ``others`` say how far it holds.

    Raises ArasError where no break-even is known.
    """
    line = _own_line(analysis)
    strictest, where = max((_own_line(a).of_real or 0.0, a.name) for a in (analysis, *others))
    if line.value is None or line.of_real is None or line.of_real_interval is None:
        raise ArasError(f"{analysis.name}: the line does not rise, so there is no break-even")
    low, high = (round(end, 3) for end in line.of_real_interval)
    return Rule(
        break_even=round(line.of_real, 3),
        low=low,
        high=high,
        points=round(line.slope * line.value / line.of_real, 1),
        source=f"an experiment on {analysis.name}, docs/results/doses/report.md",
        strictest=round(strictest, 3),
        strictest_in=where,
    )


def _main(effect: Effect) -> bool:
    return effect.shares == "balanced" and effect.ratio == AT


def _points(gap: Gap) -> str:
    low, high = gap.interval
    return f"{gap.value:+.1f} points (95 % {low:+.1f} to {high:+.1f})"


def _cell(gap: Gap) -> str:
    low, high = gap.interval
    return f"{gap.value:+.1f} ({low:+.1f} … {high:+.1f})"


def _p(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}" if value >= 0.001 else "< 0.001"


Cells = tuple[list[str], list[list[str]]]


def design(studies: Mapping[str, Study], analyses: Mapping[str, Analysis]) -> list[str]:
    """How the studies were made."""
    lines = []
    for name, study in studies.items():
        facts, analysis = study.facts, analyses[name]
        counts = dict(zip(facts.classes, facts.train_tiles, strict=True))
        real = facts.arms["real"]
        lines.append(
            f"{name}: {facts.name}, {ENCODERS[analysis.encoder]}; {facts.training['steps']} steps "
            f"of {facts.training['batch']} pairs, {analysis.seeds} seeds, {len(study.runs)} arms. "
            f"{real.scenes:,} real scenes of {real.distinct:,} tiles with a long tail "
            f"({', '.join(f'{k} {n}' for k, n in counts.items())}); {analysis.scenes:,} test "
            "scenes of tiles that no arm has seen, every class as often. "
            + (
                "The right answer to a caption is its own scene."
                if facts.protocol == "S"
                else "Any scene of the class that a caption names is right."
            )
        )
    lines.append(
        "Held-out real tiles stand for a perfect generator (oracle). A dose makes them worse "
        "(labels-N: N % of the tiles are of another class than is said; blur: Gaussian, in "
        "pixels; colour: a wrong white balance; phases: random phases, spectrum and mean kept) or "
        "draws tiles from the real train tiles alone (texture, quilt; copies: these tiles "
        "themselves in new scenes). Layouts, captions, numbers of distinct tiles and of steps are "
        "the same in all doses of a ratio, so that these arms differ in pixels alone; all real "
        "scenes are in every arm. Repeated: real scenes and as many repeats, drawn towards equal "
        "class shares."
    )
    return lines


def validity_table(study: Study) -> Cells:
    header = ["dose", "what is wrong", *NAMES.values(), "copies"]
    rows = []
    for name, dose in study.facts.doses.items():
        if (measured := dose.validity) is None:
            continue
        values = [getattr(measured, measure) for measure in NAMES]
        rows.append(
            [name, "nothing" if dose.family == "real" else dose.family]
            + [
                f"{value:.2f}" if measure not in LOGS else f"{value:.3g}"
                for measure, value in zip(NAMES, values, strict=True)
            ]
            + [f"{measured.copies:.2f}"]
        )
    return header, rows


def effect_table(analysis: Analysis, ratio: float, shares: str) -> Cells:
    header = ["dose", "mR over repeated", "p", "detectable", "tail over repeated", "p",
              "mR over real", "tail over real"]  # fmt: skip
    own = [e for e in analysis.effects if e.ratio == ratio and e.shares == shares]
    own.sort(key=lambda effect: -effect.repeated["mR"].value)
    rows = [
        [
            e.dose, _cell(e.repeated["mR"]), _p(e.repeated["mR"].p_holm),
            f"{e.repeated['mR'].detectable:.1f}", _cell(e.repeated["tail"]),
            _p(e.repeated["tail"].p_holm), _cell(e.real["mR"]), _cell(e.real["tail"]),
        ]
        for e in own
    ]  # fmt: skip
    return header, rows


def control_table(analysis: Analysis) -> Cells:
    rows = [
        [name, _cell(own["mR"]), _p(own["mR"].p), f"{own['mR'].detectable:.1f}", _cell(own["tail"])]
        for name, own in analysis.controls.items()
    ]
    return ["contrast", "mR", "p", "detectable", "tail"], rows


def ratio_table(analysis: Analysis) -> Cells:
    rows = [
        [e.dose, e.shares, f"{e.ratio:g}", *(_cell(e.real[name]) for name in FIGURES),
         *(_cell(e.repeated[name]) for name in FIGURES)]
        for e in sorted(analysis.effects, key=lambda e: (e.dose, e.shares, e.ratio))
    ]  # fmt: skip
    return ["dose", "shares", "ratio", "mR over real", "tail over real",
            "mR over repeated (ratio 1)", "tail over repeated"], rows  # fmt: skip


def surface_table(analysis: Analysis) -> Cells:
    rows: dict[str, list[str]] = {}
    for term in analysis.surface:
        low, high = term.interval
        rows.setdefault(term.name, [term.name]).append(
            f"{term.value:+.1f} ({low:+.1f} … {high:+.1f})"
        )
    return ["term", *FIGURES], list(rows.values())


def prediction_table(analysis: Analysis) -> Cells:
    own = sorted((p for p in analysis.predictions if p.figure == "mR"), key=lambda p: p.error)
    rows = [
        [
            NAMES.get(p.name, p.name),
            "–" if p.rank_correlation is None else f"{p.rank_correlation:.2f}",
            f"{p.error:.1f}", f"{p.explained:.2f}", f"{p.right} of {p.doses}", f"{p.regret:.2f}",
        ]
        for p in own
    ]  # fmt: skip
    return ["measure", "rank correlation", "error, points", "explained", "right", "regret"], rows


def break_even_table(analysis: Analysis) -> Cells:
    rows = []
    for line in analysis.break_even:
        if MEASURES[line.measure] < 0 and line.slope_interval[0] <= 0:
            at, share = "none: the line may not rise", "–"
        elif line.value is None or line.interval is None:
            at, share = "none", "–"
        else:
            low, high = line.interval
            at = f"{line.value:.3g} ({low:.3g} … {high:.3g})"
            share = "–" if line.of_real is None else f"{line.of_real:.0%}"
        low, high = line.slope_interval
        slope = f"{line.slope:+.1f} ({low:+.1f} … {high:+.1f})"
        rows.append([NAMES[line.measure], line.figure, at, share, slope])
    header = ["measure", "figure", "break-even", "of real tiles'", "points per unit"]
    return header, rows


def choice_table(choices: Sequence[Choice]) -> Cells:
    rows = [
        [
            c.dose, f"{c.predicted:+.1f}", f"{c.observed:+.1f} ({c.interval[0]:+.1f} … "
            f"{c.interval[1]:+.1f})", "publish" if c.predicted > 0 else "repeat real scenes",
            "right" if c.right else "open" if c.interval[0] < 0 < c.interval[1] else "wrong",
        ]
        for c in choices
    ]  # fmt: skip
    return ["dose", "predicted", "observed", "the rule says", "it is"], rows


def more(document: Document, study: Study, analysis: Analysis) -> None:
    """A study that shows whether the answer is one encoder's or one material's."""
    document.heading(f"{study.facts.name}, {ENCODERS[analysis.encoder]}")
    document.table(*effect_table(analysis, AT, "balanced"))
    document.table(*control_table(analysis))
    document.table(*prediction_table(analysis))
    document.table(*break_even_table(analysis))
    document.table(*choice_table(analysis.choices))


def limits(studies: Mapping[str, Study], analyses: Mapping[str, Analysis]) -> list[str]:
    main, *_ = studies
    analysis = analyses[main]
    again = next((own for name, own in analysis.controls.items() if name.startswith("again")), None)
    lines = [
        "Small encoders trained from scratch on some hundred tiles: large pretrained models may "
        "need less of what balance gives, and absolute figures are no benchmark.",
        "Captions are a template of class names and places: richer text may say more of a tile "
        "than its class, and be wrong about it in more ways.",
        "Scenes are put together of tiles of single classes, and classes were made rare by leaving "
        "tiles out at random: rare classes in nature may differ in more than number.",
        "EuroSAT gives no places: test tiles may lie beside train tiles, in every arm alike.",
        "The real train tiles, and the draw of every dose, are one sample: seeds vary weights and "
        "batches. Intervals speak of other seeds, scenes and (where said) doses, and not of other "
        "train tiles.",
    ]
    if again:
        gap = again["mR"]
        lines.append(
            f"A/A: the same arm with other seeds differs by {_points(gap)}, p {_p(gap.p)}."
        )
    gaps = [e.repeated["mR"].detectable for e in analysis.effects if _main(e)]
    lines.append(
        f"Power: at ratio 1 differences of {min(gaps):.1f} to {max(gaps):.1f} points of mean "
        "recall are found with 80 % power; smaller ones stay unseen."
    )
    lines += [limit for study in studies.values() for limit in study.facts.limits]
    return list(dict.fromkeys(lines))


def draw_curve(path: Path, studies: Mapping[str, Study], analyses: Mapping[str, Analysis]) -> None:
    """Gain over repeating against agreement, a panel for each study."""
    wide = 7.5 if len(studies) == 1 else 5.2 * len(studies)
    figure, axes = panels(wide, 5, columns=len(studies))
    for place, (name, study) in enumerate(studies.items()):
        _curve(axes[place], study, analyses[name], name if len(studies) > 1 else "")
    save(figure, path)


def _curve(axes: "Axes", study: Study, analysis: Analysis, title: str) -> None:
    from builder.experiments.dose_analysis import REPEATED, Fits, fit

    measure = OWN[analysis.encoder]
    fits = Fits(study, 500)
    x = fits.x([measure])[:, 0]
    grid = np.linspace(0, max(1.0, x.max()), 50)
    gains = fits.drawn_gains([fits.arm(dose) for dose in fits.doses], REPEATED)[0]
    lines = fit(x[:, None], gains, fits.counts)
    band = np.quantile(lines[:, :1] + lines[:, 1:] * grid, (0.025, 0.975), axis=0)
    constant, slope = fit(x[:, None], fits.gains()[0])
    axes.fill_between(grid, band[0], band[1], color=SKY, alpha=0.25, linewidth=0)
    axes.plot(grid, constant + slope * grid, color=BLUE, linewidth=1.5)
    axes.axhline(0, color=INK, linewidth=1)
    effects = {effect.arm: effect for effect in analysis.effects}
    shown = [*fits.doses, *fits.checks]
    places = fits.x([measure], shown)[:, 0]
    for dose, at in zip(shown, places, strict=True):
        gap = effects[fits.arm(dose)].repeated["mR"]
        colour = COLOURS[study.facts.doses[dose].family]
        axes.plot([at, at], gap.interval, color=colour, linewidth=1.5, alpha=0.7)
        axes.plot([at], [gap.value], "o", color=colour, markersize=7)
        axes.annotate(dose, (at, gap.value), (6, 4), textcoords="offset points", fontsize=8)
    values = [effects[fits.arm(dose)].repeated["mR"] for dose in shown]
    low, high = min(v.interval[0] for v in values), max(v.interval[1] for v in values)
    axes.set_ylim(low - 3, high + 3)
    axes.set_xlim(max(0.0, places.min() - 0.1), min(1.0, places.max() + 0.15))
    axes.axhspan(0, high + 3, color=GREEN, alpha=0.05, linewidth=0)
    axes.axhspan(low - 3, 0, color=PINK, alpha=0.07, linewidth=0)
    left = axes.get_xlim()[0]
    axes.text(left, high + 2.5, " better than repeating real scenes", va="top", color=GREEN)
    axes.text(left, low - 2.5, " worse than repeating real scenes", va="bottom", color=PINK)
    axes.set_xlabel("share of synthetic tiles that show what is said of them\n"
                    "(agreement of an independent classifier of the encoder's kind)")  # fmt: skip
    axes.set_ylabel("mean recall, points over repeating real scenes")
    if title:
        axes.set_title(title)
    for family, colour in COLOURS.items():
        axes.plot([], [], "o", color=colour, label="real tiles" if family == "real" else family)
    axes.legend(loc="lower right", frameon=False)
    style(axes, "both")


def several(analysis: Analysis) -> dict[str, list[Effect]]:
    """Doses that were given at more than two ratios, by ratio."""
    doses: dict[str, list[Effect]] = {}
    for effect in analysis.effects:
        if effect.shares == "balanced":
            doses.setdefault(effect.dose, []).append(effect)
    by_ratio = {name: sorted(own, key=lambda e: e.ratio) for name, own in doses.items()}
    return {name: own for name, own in by_ratio.items() if len(own) > 2}


def draw_ratios(path: Path, analysis: Analysis) -> None:
    """Gain over real scenes by ratio, a line for each dose that has several."""
    figure, axes = panels(10, 4, columns=2)
    colours = (BLUE, SKY, ORANGE, PINK, GREY, INK, GREEN)
    for panel, name in zip(axes, FIGURES, strict=True):
        for k, (dose, own) in enumerate(several(analysis).items()):
            ratios = [effect.ratio for effect in own]
            gaps = [effect.real[name] for effect in own]
            colour = colours[k % len(colours)]
            panel.plot(ratios, [g.value for g in gaps], "o-", color=colour, label=dose)
            for ratio, gap in zip(ratios, gaps, strict=True):
                panel.plot([ratio * 1.03**k] * 2, gap.interval, color=colour, alpha=0.4)
        panel.axhline(0, color=INK, linewidth=1)
        panel.set_xscale("log", base=2)
        panel.set_xticks([0.25, 0.5, 1, 3], ["¼", "½", "1", "3"])
        panel.set_xlabel("synthetic scenes per real scene")
        panel.set_ylabel(f"{name}, points over real scenes")
        style(panel, "both")
    axes[0].legend(frameon=False, fontsize=8)
    save(figure, path)
