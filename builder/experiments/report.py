"""The report of an experiment: JSON, Markdown, HTML and plots, from its analysis.

It begins with what can be concluded: NO CONCLUSION where real rows do not beat the floor.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from builder.core.document import Document
from builder.core.figures import Panel, save_panels
from builder.core.files import atomic, write_json, write_text
from builder.experiments.experiment import Bench, Record
from builder.experiments.rows import Holding
from builder.experiments.statistics import (
    FEW,
    WHOLE,
    Analysis,
    Contrast,
    Difference,
    Effect,
    Estimate,
)
from builder.retrieval import report as retrieval_report
from builder.retrieval.crossed import FEWEST
from builder.retrieval.ranks import Array
from builder.retrieval.result import libraries

NO_CONCLUSION = "NO CONCLUSION"
LEAST = 0.001
"""Smaller p-values are written as smaller than this."""


class Plot(NamedTuple):
    """Panels side by side, as one PNG of ``size`` inches."""

    alt: str
    panels: Sequence[Panel]
    size: tuple[float, float]


class Table(NamedTuple):
    """A table under a heading of its own."""

    heading: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True)
class Report:
    """All that is written about an experiment."""

    bench: Bench[Any]
    records: Mapping[str, Sequence[Record]]
    """Arm → its runs, in the order of seeds."""
    analyses: Mapping[str, Analysis]
    """Key in report.json → analysis; conclusions rest on the first."""
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
    headings: Sequence[str] = ("Contrasts",)
    """Of the contrasts of each analysis."""
    notes: Sequence[str] = ()
    arrays: Mapping[str, Array] = field(default_factory=dict)
    """What ranks.npz holds, where it is written."""

    @property
    def analysis(self) -> Analysis:
        return next(iter(self.analyses.values()))

    @property
    def sentences(self) -> list[str]:
        """One sentence per contrast and tested figure."""
        return [
            f"{contrast.ours} − {contrast.theirs}, {name}: {verdict(difference, self.bench.empty)}"
            for contrast in self.analysis.contrasts
            for name, difference in contrast.tested.items()
        ]

    @property
    def holdings(self) -> dict[str, Holding]:
        return {name: Holding.of(self.bench.rows, arm) for name, arm in self.bench.arms.items()}

    @property
    def losses(self) -> dict[str, list[list[float]]]:
        """Arm → first and last loss of each of its trainings."""
        return {
            arm: [[run.loss.first, run.loss.last] for run in self.records[arm] if run.loss]
            for arm in self.bench.arms
        }

    def spent(self, clock: str) -> float | None:
        """``seconds`` or ``cpu_seconds`` of all runs; None where an older record lacks them."""
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
            **{key: analysis.as_json() for key, analysis in self.analyses.items()},
            "conclusions": self.conclusions,
            "contrasts_in_words": self.sentences,
            "limits": self.limits,
            "libraries": libraries(),
            "seconds": self.spent("seconds"),
            "cpu_seconds": self.spent("cpu_seconds"),
        }

    def write(self, folder: Path) -> None:
        """Write report.json, report.md, report.html and the plots into ``folder``."""
        write_json(folder / "report.json", self.as_json())
        if self.arrays:
            with atomic(folder / "ranks.npz") as temporary, temporary.open("wb") as file:
                np.savez_compressed(file, **dict[str, Any](self.arrays))
        for name, plot in self.plots.items():
            save_panels(folder / name, plot.panels, plot.size, 3)
        document = self.document()
        write_text(folder / "report.md", document.markdown())
        write_text(folder / "report.html", document.page(folder))

    def document(self) -> Document:
        """The report as a person reads it."""
        bench, analysis = self.bench, self.analysis
        clusters, unit = f"{analysis.clusters.number:,}", analysis.clusters.unit
        checked = f" ({retrieval_report.checks(bench.checks)})" if bench.checks else ""
        document = Document(self.title)
        document.text(
            f"{self.question} {len(self.records)} arms × {analysis.seeds} seeds, {self.training}; "
            f"{len(bench.rows.real):,} real and {len(bench.rows.synthetic):,} synthetic train "
            f"rows; {bench.tiles:,} real test tiles{checked}{self.testing}."
        )
        document.heading("What can be concluded")
        document.items(self.conclusions)
        document.heading("What cannot")
        document.items(self.limits)
        document.heading("Figures")
        for name, plot in self.plots.items():
            document.plot(plot.alt, name)
        document.text(
            "Per cent, mean over seeds; 95 % intervals over seeds crossed with "
            f"{clusters} {unit}s, both random. {self.about_figures}"
        )
        document.table(
            ["arm", *self.shown],
            [
                [arm, *(cell(scores[name]) for name in self.shown)]
                for arm, scores in analysis.arms.items()
            ],
        )
        for heading, compared in zip(self.headings, self.analyses.values(), strict=True):
            document.heading(heading)
            document.table(*contrast_table(compared.contrasts))
        document.text(
            f"p and interval follow from one model, seeds crossed with {unit}s, both random: where "
            "an interval excludes 0, p is below 0.05 before Holm's correction. That runs over the "
            f"contrasts but real − {bench.floor}, which must hold before the others count. "
            "Detectable: the difference that the test detects with 80 % power, from the measured "
            "variances, before Holm. Conclusions rest on the first table of contrasts."
        )
        document.items(self.sentences)
        for table in (*self.tables, arm_table(self.holdings, self.losses)):
            document.heading(table.heading)
            document.table(table.header, table.rows)
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
    floor, clusters = analysis.contrast("real", bench.floor), analysis.clusters
    if clusters.number < FEWEST:
        return [
            f"{NO_CONCLUSION} can be drawn from {clusters.number} {clusters.unit}s: how figures "
            f"vary shows from {FEWEST} on. Make a release whose test tiles lie in more of them."
        ]
    if floor is None or next(iter(floor.tested.values())).sign <= 0:
        return [
            f"{NO_CONCLUSION} about synthetic data can be drawn from this run: the model trained "
            f"on real rows cannot be distinguished from {bench.floor_model}. Train longer, on more "
            "rows or with a larger model."
        ]
    real, repeated = (analysis.contrast(ours, theirs) for theirs in ("real", "oversampled"))
    if real is None or repeated is None:
        return []
    lines = []
    for name, difference in real.tested.items():
        if not isinstance(difference, Effect):
            answer = f"not known: {bench.empty}"
        elif difference.sign > 0 and repeated[name].sign > 0:
            answer = "yes: above real rows, and above real rows repeated to the same class shares"
        elif difference.sign > 0:
            answer = (
                "above real rows alone, but not shown to be above real rows repeated to the same "
                "class shares: the shares may be what helps, not the synthetic tiles"
            )
        elif difference.sign < 0:
            answer = "no, they hurt: below real rows alone"
        else:
            answer = "not shown: no difference from real rows is established"
        lines.append(
            f"Do class-balanced synthetic tiles help, by {name}? {answer} ({ours} − real "
            f"{points(difference)}; {ours} − oversampled {points(repeated[name])})."
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
    if clusters.number < FEWEST:
        lines.append(
            f"Only {clusters.number} {clusters.unit}s: no interval and no test, which need "
            f"{FEWEST}; make a release whose test tiles lie in more of them."
        )
    elif clusters.number < FEW:
        lines.append(
            f"Only {clusters.number} {clusters.unit}s: intervals and tests over so few are "
            "rough and may be too narrow."
        )
    if checks and not checks.distance_checked:
        lines.append("Places of tiles are unknown, so nearness of test to train is unchecked.")
    elif checks and checks.near.rows and checks.near.rule == "keep":
        lines.append(f"{checks.near.rows} test tiles lie near train tiles and were kept.")
    return lines


def verdict(difference: Difference, empty: str) -> str:
    """A tested difference in words; ``empty`` says why there may be no figure."""
    if difference.value is None:
        return f"{empty}; nothing can be said"
    text = points(difference)
    if not isinstance(difference, Effect):
        return f"{text}: not tested, test tiles lie in fewer than {FEWEST} clusters"
    if not difference.cluster_sd and not difference.seed_sd:
        return f"{text}: the same in every seed and cluster, so its spread cannot be measured"
    if difference.sign:
        return f"{text}: {'a gain' if difference.sign > 0 else 'a loss'}"
    if difference.detectable >= WHOLE:
        return f"{text}: no difference established, and none could be, whatever its size"
    return (
        f"{text}: no difference established; a difference below {difference.detectable:.1f} points "
        "would stay unseen (80 % power, before Holm)"
    )


def cell(estimate: Estimate | None, digits: int = 2) -> str:
    """A figure "7.40 (5.48–9.62)" or a difference "+1.20 (-0.10 … +2.50)", with its interval."""
    if estimate is None or estimate.value is None:
        return "–"
    sign, to = ("+", " … ") if isinstance(estimate, Difference) else ("", "–")
    if estimate.interval is None:
        return f"{estimate.value:{sign}.{digits}f}"
    value, low, high = (f"{x:{sign}.{digits}f}" for x in (estimate.value, *estimate.interval))
    return f"{value} ({low}{to}{high})"


def points(difference: Difference) -> str:
    """A difference in a sentence: "+1.20 points (95 % -0.10 … +2.50, p = 0.031)"."""
    text = cell(difference)
    if difference.interval is None:
        return text if difference.value is None else f"{text} points"
    text = text.replace(" (", " points (95 % ")
    return f"{text[:-1]}, p {p_value(difference)})" if isinstance(difference, Effect) else text


def p_value(effect: Effect) -> str:
    """To three places, after Holm's correction: "= 0.031", or "< 0.001"."""
    return f"= {effect.p_holm:.3f}" if effect.p_holm >= LEAST else f"< {LEAST:g}"


def contrast_table(contrasts: Sequence[Contrast]) -> tuple[list[str], list[list[str]]]:
    """Arms, question, and difference, p and detectable difference of each test.

    The detectable difference is "none" where the test could detect no difference.
    """
    rows = []
    for contrast in contrasts:
        cells = [f"{contrast.ours} − {contrast.theirs}", contrast.question]
        for difference in contrast.tested.values():
            p = detectable = "–"
            if isinstance(difference, Effect):
                p, least = p_value(difference).removeprefix("= "), difference.detectable
                detectable = "none" if least >= WHOLE else f"{least:.2f}"
            cells += [cell(difference), p, detectable]
        rows.append(cells)
    tested = contrasts[0].tested
    columns = [column for name in tested for column in (f"Δ {name}", "p", "detectable")]
    return ["contrast", "question", *columns], rows


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
