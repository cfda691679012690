"""The report of an experiment: JSON, Markdown, HTML and plots, from its analysis.

It begins with what can be concluded: NO CONCLUSION where real rows do not beat the floor.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from builder.core import figures
from builder.core.document import Document
from builder.core.files import atomic, write_json, write_text
from builder.experiments.experiment import Bench, Holding, Record
from builder.experiments.statistics import FEW, WHOLE, Analysis, Contrast, Estimate
from builder.retrieval import report as retrieval_report
from builder.retrieval.ranks import Array
from builder.retrieval.result import libraries

NO_CONCLUSION = "NO CONCLUSION"
LEAST = 0.001
"""Smaller p-values are written as smaller than this."""


@dataclass(frozen=True)
class Findings:
    """An analysis, with what an experiment says of its test tiles in report.json."""

    analysis: Analysis
    facts: Mapping[str, Any]
    label: str = ""
    """What distinguishes it from the other findings of a report."""

    def as_json(self) -> dict[str, Any]:
        return {**self.facts, **self.analysis.as_json()}


@dataclass(frozen=True)
class Panel:
    """Part of a plot: rows of estimates by name, in the colour of the name."""

    label: str
    rows: Mapping[str, Mapping[str, Estimate]]
    colours: Mapping[str, str]
    chance: float | None = None
    differences: bool = False
    """Whether estimates lie on both sides of 0."""


@dataclass(frozen=True)
class Plot:
    """Panels side by side, as one PNG of ``size`` inches."""

    alt: str
    panels: Sequence[Panel]
    size: tuple[float, float]

    def save(self, path: Path) -> None:
        shared = len({tuple(panel.rows) for panel in self.panels}) == 1
        figure, parts = figures.panels(*self.size, columns=len(self.panels), sharey=shared)
        for axes, panel in zip(parts, self.panels, strict=True):
            series = {
                name: ([_point(row.get(name)) for row in panel.rows.values()], colour)
                for name, colour in panel.colours.items()
            }
            figures.draw_points(axes, list(panel.rows), series, panel.label)
            if panel.differences:
                axes.autoscale(axis="x")
                axes.axvline(0, color=figures.INK, linewidth=0.8)
            if panel.chance is not None:
                axes.axvline(panel.chance, color=figures.INK, linestyle=":", label="chance")
            figures.legend(axes, 3)
        figures.save(figure, path)


def _point(estimate: Estimate | None) -> figures.Point:
    if estimate is None:
        return figures.Point(None, None)
    return figures.Point(estimate.value, estimate.interval, estimate.seeds)


@dataclass(frozen=True)
class Table:
    """A table under a heading of its own."""

    heading: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]

    def add_to(self, document: Document) -> None:
        document.heading(self.heading)
        document.table(self.header, self.rows)


@dataclass(frozen=True)
class Report:
    """All that is written about an experiment."""

    bench: Bench[Any]
    records: Mapping[str, Sequence[Record[Any]]]
    """Arm → its runs, in the order of seeds."""
    findings: Mapping[str, Findings]
    """Key in report.json → findings; conclusions rest on the first."""
    title: str
    question: str
    training: str
    """How every arm is trained, and ``testing``: on what it is judged, behind the test tiles."""
    testing: str
    conclusions: Sequence[str]
    limits: Sequence[str]
    release: Mapping[str, Any]
    settings: Mapping[str, Any]
    facts: Mapping[str, Any]
    """What report.json holds besides."""
    about_figures: str
    shown: Sequence[str]
    """Figures in the table of arms."""
    plots: Mapping[str, Plot]
    tables: Sequence[Table]
    notes: Sequence[str] = ()
    arrays: Mapping[str, Array] = field(default_factory=dict)
    """What ranks.npz holds, where it is written."""

    @property
    def analysis(self) -> Analysis:
        return next(iter(self.findings.values())).analysis

    @property
    def opening(self) -> str:
        bench, checks = self.bench, self.bench.checks
        checked = f" ({retrieval_report.checks(checks)})" if checks else ""
        return (
            f"{self.question} {len(self.records)} arms × {self.analysis.seeds} seeds, "
            f"{self.training}; {len(bench.rows.real):,} real and {len(bench.rows.synthetic):,} "
            f"synthetic train rows; {bench.tiles:,} real test tiles{checked}{self.testing}."
        )

    @property
    def sentences(self) -> list[str]:
        """One sentence per contrast and tested figure."""
        empty = self.bench.empty
        return [
            f"{contrast.ours} − {contrast.theirs}, {name}: {verdict(contrast, name, empty)}"
            for contrast in self.analysis.contrasts
            for name in contrast.tests
        ]

    @property
    def holdings(self) -> dict[str, Holding]:
        return {name: Holding.of(self.bench.rows, arm) for name, arm in self.bench.arms.items()}

    @property
    def losses(self) -> dict[str, list[list[float]]]:
        """Arm → first and last loss of each of its trainings."""
        runs = {arm: [run.outcome.loss for run in runs] for arm, runs in self.records.items()}
        return {
            arm: [[loss.first, loss.last] for loss in losses if loss]
            for arm, losses in runs.items()
            if any(losses)
        }

    def spent(self, clock: str) -> float | None:
        """``seconds`` or ``cpu_seconds`` of all runs; None where an earlier version's record lacks
        them."""
        times = [getattr(run, clock) for runs in self.records.values() for run in runs]
        return None if None in times else round(sum(times), 1)

    def as_json(self) -> dict[str, Any]:
        rows = self.bench.rows
        return {
            "kind": self.bench.name,
            "release": self.release,
            "settings": self.settings,
            "train": {"real": len(rows.real), "synthetic": len(rows.synthetic)},
            **self.facts,
            "arms": {name: holding.as_json() for name, holding in self.holdings.items()},
            "loss": self.losses,
            **{key: findings.as_json() for key, findings in self.findings.items()},
            "conclusions": self.conclusions,
            "contrasts_in_words": self.sentences,
            "limits": self.limits,
            "libraries": libraries(),
            "seconds": self.spent("seconds"),
            "cpu_seconds": self.spent("cpu_seconds"),
        }

    def write(self) -> None:
        """Write report.json, report.md, report.html and the plots into the experiment's folder."""
        folder = self.bench.experiment.out
        write_json(folder / "report.json", self.as_json())
        if self.arrays:
            with atomic(folder / "ranks.npz") as temporary, temporary.open("wb") as file:
                np.savez_compressed(file, **dict[str, Any](self.arrays))
        for name, plot in self.plots.items():
            plot.save(folder / name)
        document = self.document()
        write_text(folder / "report.md", document.markdown())
        write_text(folder / "report.html", document.page(folder))

    def document(self) -> Document:
        """The report as a person reads it."""
        arms, unit = self.analysis.arms, self.analysis.clusters.unit
        document = Document(self.title)
        document.text(self.opening)
        document.heading("What can be concluded")
        document.items(self.conclusions)
        document.heading("What cannot")
        document.items(self.limits)
        document.heading("Figures")
        for name, plot in self.plots.items():
            document.plot(plot.alt, name)
        document.text(
            f"Per cent, mean over seeds; 95 % intervals from a hierarchical bootstrap over seeds, "
            f"then {self.analysis.clusters.number:,} {unit}s. {self.about_figures}"
        )
        document.table(
            ["arm", *self.shown],
            [[arm, *(cell(arms[arm].figures[name]) for name in self.shown)] for arm in arms],
        )
        for findings in self.findings.values():
            contrast_table(findings).add_to(document)
        document.text(
            f"p: Student's t over seeds and {unit}s, Holm over the contrasts but real − "
            f"{self.bench.floor}, which must hold before the others count. Detectable: the "
            "difference that the test detects with 80 % power, from the measured variances, before "
            "Holm. Conclusions rest on the first table of contrasts. Interval and p are computed "
            "differently and can disagree: with few seeds p is the more careful one, and where a "
            "resample holds no tile of a class, means over classes leave that class out, which "
            "makes the interval lopsided."
        )
        document.items(self.sentences)
        for table in (*self.tables, arm_table(self.holdings, self.losses)):
            table.add_to(document)
        wall, cpu = self.spent("seconds"), self.spent("cpu_seconds")
        cost = "an unrecorded amount" if cpu is None else f"{cpu:,.0f} s"
        for note in (
            *self.notes,
            f"All runs together took {wall:,.0f} s of wall time and {cost} of processor "
            "time; runs may have shared the machine with each other and with other programs.",
        ):
            document.text(note)
        return document


def conclude(analysis: Analysis, bench: Bench[Any], ours: str) -> list[str]:
    """Whether arm ``ours`` helps, by every tested figure; nothing where real rows do not beat the
    floor by the first of them.

    To help means: above real rows alone, and above repeating them to the same class shares.
    """
    floor = analysis.contrast("real", bench.floor)
    if floor is None or floor.sign(next(iter(floor.tests))) <= 0:
        return [
            f"{NO_CONCLUSION} about synthetic data can be drawn from this run: the model trained "
            f"on real rows cannot be distinguished from {bench.floor_model}. Train longer, on more "
            "rows or with a larger model."
        ]
    real, repeated = (analysis.contrast(ours, theirs) for theirs in ("real", "oversampled"))
    if real is None or repeated is None:
        return []
    lines = []
    for name in real.tests:
        if real.tests[name] is None:
            answer = f"not known: {bench.empty}"
        elif real.sign(name) > 0 and repeated.sign(name) > 0:
            answer = "yes: above real rows, and above real rows repeated to the same class shares"
        elif real.sign(name) > 0:
            answer = (
                "above real rows alone, but not shown to be above real rows repeated to the same "
                "class shares: the shares may be what helps, not the synthetic tiles"
            )
        elif real.sign(name) < 0:
            answer = "no, they hurt: below real rows alone"
        else:
            answer = "not shown: no difference from real rows is established"
        lines.append(
            f"Do class-balanced synthetic tiles help, by {name}? {answer} ({ours} − real "
            f"{tested(real, name)}; {ours} − oversampled {tested(repeated, name)})."
        )
    return lines


def common_limits(analysis: Analysis, bench: Bench[Any]) -> list[str]:
    """What no experiment over seeds and clusters of test tiles can show."""
    clusters, checks = analysis.clusters, bench.checks
    lines = [
        f"{bench.tiles:,} test tiles in {clusters.number:,} {clusters.unit}s and {analysis.seeds} "
        "seeds: smaller differences than the detectable ones stay unseen.",
        "Equal steps and batch size in all arms: arms with more distinct rows see each of them "
        "less often.",
    ]
    if clusters.number < FEW:
        lines.append(
            f"Only {clusters.number} {clusters.unit}s: intervals and tests over so few are "
            "rough and may be too narrow."
        )
    if checks and not checks.distance_checked:
        lines.append("Places of tiles are unknown, so nearness of test to train is unchecked.")
    elif checks and checks.near.rows and checks.near.rule == "keep":
        lines.append(f"{checks.near.rows} test tiles lie near train tiles and were kept.")
    return lines


def verdict(contrast: Contrast, name: str, empty: str) -> str:
    """One contrast of one tested figure in words; ``empty`` says why there may be no figure."""
    test = contrast.tests[name]
    if test is None:
        return f"{empty}; nothing can be said"
    text = tested(contrast, name)
    if not test.cluster_sd and not test.seed_sd:
        return f"{text}: the same in every seed and cluster, so its spread cannot be measured"
    if sign := contrast.sign(name):
        return f"{text}: {'a gain' if sign > 0 else 'a loss'}"
    if test.detectable >= WHOLE:
        return f"{text}: no difference established, and none could be, whatever its size"
    return (
        f"{text}: no difference established; a difference below {test.detectable:.1f} points "
        "would stay unseen (80 % power, before Holm)"
    )


def tested(contrast: Contrast, name: str) -> str:
    """A difference with its interval and p-value."""
    test = contrast.tests[name]
    return points(contrast[name], f", {p_text(test.p_holm)}" if test else "")


def points(difference: Estimate, more: str = "") -> str:
    """A difference with its interval, as a sentence has it."""
    if difference.interval is None:
        return "–"
    low, high = difference.interval
    return f"{difference.value:+.2f} points (95 % {low:+.2f} … {high:+.2f}{more})"


def p_text(p: float) -> str:
    """A p-value to three places: "p = 0.031", or "p < 0.001"."""
    return f"p = {p:.3f}" if p >= LEAST else f"p < {LEAST:g}"


def p_cell(p: float) -> str:
    """The same, as a table has it."""
    return p_text(p).removeprefix("p ").removeprefix("= ")


def detectable_cell(detectable: float) -> str:
    """The smallest difference that a test detects; "none" where it could detect no difference."""
    return "none" if detectable >= WHOLE else f"{detectable:.2f}"


def cell(estimate: Estimate | None, digits: int = 2) -> str:
    """A figure and its interval, as a table has it."""
    if estimate is None or estimate.interval is None:
        return "–"
    low, high = estimate.interval
    return f"{estimate.value:.{digits}f} ({low:.{digits}f}–{high:.{digits}f})"


def difference_cell(difference: Estimate) -> str:
    """A difference and its interval, as a table has it."""
    return points(difference).replace("points (95 % ", "(")


def contrast_table(findings: Findings) -> Table:
    """Arms, question, and difference, p and detectable difference of each test."""
    rows = []
    for contrast in findings.analysis.contrasts:
        cells = [f"{contrast.ours} − {contrast.theirs}", contrast.question]
        for name, test in contrast.tests.items():
            known = test and [p_cell(test.p_holm), detectable_cell(test.detectable)]
            cells += [difference_cell(contrast[name]), *(known or ["–", "–"])]
        rows.append(cells)
    tests = findings.analysis.contrasts[0].tests
    columns = [column for name in tests for column in (f"Δ {name}", "p", "detectable")]
    return Table(f"Contrasts{findings.label}", ["contrast", "question", *columns], rows)


def class_table(
    heading: str,
    counts: Mapping[str, Mapping[str, str]],
    arms: Mapping[str, Mapping[str, Estimate]],
) -> Table:
    """``counts``: header → class → cell; ``arms``: arm → class → figure."""
    rows = [
        [name, *(cells[name] for cells in counts.values()),
         *(cell(by_class.get(name), 1) for by_class in arms.values())]
        for name in next(iter(counts.values()))
    ]  # fmt: skip
    return Table(heading, ["class", *counts, *arms], rows)


def arm_table(
    holdings: Mapping[str, Holding], losses: Mapping[str, Sequence[Sequence[float]]]
) -> Table:
    """What arms hold, and their last loss."""
    columns = ["rows", "distinct", "synthetic", "captions"]
    if any(holding.captions is None for holding in holdings.values()):
        columns.remove("captions")
    rows = []
    for name, holding in holdings.items():
        counts = [f"{getattr(holding, column):,}" for column in columns]
        shares = ", ".join(f"{k} {100 * v:.1f}" for k, v in holding.class_shares.items())
        last = np.mean([loss[-1] for loss in losses[name]])
        rows.append([name, holding.what, *counts, shares, f"{last:.2f}"])
    return Table("Arms", ["arm", "holds", *columns, "shares, %", "last loss"], rows)
