"""What the imbalance experiment says, over head and tail classes and by mixing ratio."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from builder.core.figures import BLUE, GREEN, GREY, ORANGE, PINK, Panel
from builder.experiments import report, statistics
from builder.experiments.imbalance import (
    ACCURATE,
    AGREES,
    DEPTH,
    DISCRIMINATES,
    FLOOR,
    JUDGED,
    Bench,
    Design,
    Judged,
)
from builder.experiments.report import Plot, Report, Table, points
from builder.experiments.statistics import FEW, Analysis, Effect, Statistic
from builder.land.classes import CLASSES
from builder.models.freshness import retriever_identity
from builder.retrieval import metrics
from builder.retrieval.ranks import Floats, Ints, Pair
from builder.retrieval.report import LABELS
from builder.retrieval.result import WAYS
from builder.scores.leakage import source_leak, without_digits

MARGIN = 1.0
"""Loss of mR, in percentage points, below which an arm counts as not worse."""
RECALLS = tuple(f"{way} R@{k}" for way in WAYS for k in metrics.KS)
COMPARED = ("mR", "head", "tail")
"""Mean of the six recalls; head and tail are the mean of R@depth over their classes, both ways."""


@dataclass(frozen=True)
class Groups:
    """Class names, which of them are head and tail, and the K of their R@K."""

    names: tuple[str, ...]
    head: list[str]
    tail: list[str]
    depth: int = DEPTH

    @staticmethod
    def of(train_dominant: Ints, names: Sequence[str] = CLASSES, depth: int = DEPTH) -> "Groups":
        """By number of real train tiles: the tail are the rarest that together hold at most a
        fifth."""
        tail = metrics.tail(train_dominant, len(names))
        head = [k for k in np.unique(train_dominant) if k not in tail]
        return Groups(tuple(names), [names[k] for k in head], [names[k] for k in tail], depth)

    @property
    def statistic(self) -> Statistic:
        names = (*RECALLS, *COMPARED)
        return Statistic(lambda totals: figures(totals, self), names, ("mR", "tail"), self.names)


def counts(pair: Pair, dominant: Ints, groups: Groups) -> Floats:
    """(N, 6 + 2K + 1 + K) of N tiles with a caption each: hits at 1, 5, 10 of both ways, hits at
    ``depth`` by dominant class, then the queries of a way and those by class."""
    member = np.eye(len(groups.names))[dominant]
    hits = [metrics.credit(ranks, k) for ranks in pair for k in metrics.KS]
    by_class = [member * metrics.credit(ranks, groups.depth)[:, None] for ranks in pair]
    return np.column_stack([*hits, *by_class, np.ones(len(dominant)), member])


def figures(totals: Floats, groups: Groups) -> Floats:
    """Totals (B, …) of `counts` → (B, 9 + K) in per cent: `RECALLS`, `COMPARED`, then R@depth of
    each class, mean of both ways. NaN for classes and groups without a query."""
    six, k = len(RECALLS), len(groups.names)
    hits, t2i, i2t, queries, by_class = np.split(totals, np.cumsum([six, k, k, 1]), axis=1)
    recalls = 100 * hits / np.maximum(queries, 1)
    with np.errstate(invalid="ignore", divide="ignore"):
        each = (100 * t2i / by_class + 100 * i2t / by_class) / 2
    head, tail = (
        statistics.mean_of_known(each[:, [groups.names.index(name) for name in group]])
        for group in (groups.head, groups.tail)
    )
    means = np.stack([recalls.mean(1), head, tail], axis=1)
    return np.concatenate([recalls, means, each], axis=1)


def analyse(
    ranks: Mapping[str, Sequence[Pair]],
    dominant: Ints,
    blocks: npt.ArrayLike | None,
    groups: Groups,
    design: Design,
    protocol: str = "S",
) -> Analysis:
    """Figures with intervals by arm, contrasts paired by seed and cluster, and arms by ratio.

    ``ranks``: arm → one pair of ranks per seed (or one for all), of N test tiles with ``dominant``
    (N,) classes in ``blocks``. Differences by class and by ratio have intervals and no tests: they
    describe, and prove nothing.
    """
    runs = {arm: [counts(pair, dominant, groups) for pair in pairs] for arm, pairs in ranks.items()}
    mixed = [name for name, arm in design.arms.items() if arm.factors]
    by_kind = sorted(mixed, key=lambda name: str(design.arms[name].factors["kind"]), reverse=True)
    factors = {name: design.arms[name].factors for name in by_kind}
    analysis = statistics.analyse(
        runs, blocks, "image", groups.statistic, design.questions, FLOOR, factors
    )
    tiles = len(dominant)
    facts = {
        "images": tiles,
        "ratio": design.ratio,
        "depth": groups.depth,
        "head": groups.head,
        "tail": groups.tail,
        "test_tiles": {n: int((dominant == k).sum()) for k, n in enumerate(groups.names)},
        "protocol": protocol,
        "chance": {"mR": metrics.chance(*next(iter(ranks.values()))[0], tiles, tiles).mR},
    }
    return analysis.model_copy(update=facts)


def conclusions(analysis: Analysis, bench: Bench) -> list[str]:
    """The answer first: whether any may be drawn, then gain or loss, ratios and classes."""
    even = bench.design.even
    lines = report.conclude(analysis, bench, even)
    contrast = analysis.contrast(even, "real")
    if lines[0].startswith(report.NO_CONCLUSION) or contrast is None:
        return lines
    if isinstance(effect := contrast["mR"], Effect):
        lines.append(
            f"Non-inferiority: {even} is {'NOT shown to be ' * (effect.low <= -MARGIN)}within "
            f"{MARGIN:g} point of real in mR (it may be {effect.low:+.2f})."
        )
    ratios = [f"{response.arm} {points(response['mR'])}" for response in analysis.responses]
    lines.append(f"mR against real by ratio (intervals, no test): {'; '.join(ratios)}.")
    for what, sign in (("gain", 1), ("loss", -1)):
        classes = [
            f"{name} {points(difference)}"
            for name, difference in contrast.classes.items()
            if difference.sign == sign
        ]
        lines.append(
            f"Classes with a {what} of R@{bench.material.depth}, {even} against real (interval "
            f"without 0, no test): {'; '.join(classes) or 'none'}."
        )
    return lines


def limits(analysis: Analysis, bench: Bench, leak: float | None) -> list[str]:
    """What a run cannot show; ``leak``: AUC of telling synthetic captions from real ones."""
    rows, given, facts = bench.rows, bench.settings.weights, analysis.facts
    lines = [
        *report.common_limits(analysis, bench),
        f"A dual encoder {'fine-tuned from given weights' if given else 'trained from scratch'}: "
        "other models may react otherwise, and absolute figures are no benchmark of retrieval.",
        f"{len(rows.synthetic):,} synthetic rows of one generator beside {len(rows.real):,} real "
        "rows: other generators and larger ratios are not covered.",
    ]
    if leak is None:
        lines.append("Too few captions to measure whether words give away the source.")
    else:
        lines.append(
            f"Words tell synthetic from real captions of like class shares with AUC {leak:.2f} "
            "(0.5 or less: not at all)" + ("; the stream leaks the source." if leak > 0.6 else ".")
        )
    tail = {name: facts["test_tiles"][name] for name in facts["tail"]}
    if scarce := [f"{name} ({n})" for name, n in tail.items() if 0 < n < FEW]:
        lines.append(
            f"Few test tiles are dominated by {', '.join(scarce)}: the tail is the mean over "
            "classes, so it hangs on these, and their intervals are too narrow."
        )
    if empty := [name for name, n in tail.items() if not n]:
        lines.append(f"No test tile is dominated by {', '.join(empty)}: not measured.")
    if not tail:
        lines.append("No class is rare enough among train tiles to be a tail.")
    missing = [f"Not run — {reason}." for reason in bench.design.missing]
    return [*lines, *bench.material.limits, *missing]


def plots(analysis: Analysis) -> dict[str, Plot]:
    """Figures by arm, and differences from real by mixing ratio and by dominant class."""
    facts = analysis.facts
    depth, tail = facts["depth"], facts["tail"]
    arms = {arm: scores.figures for arm, scores in analysis.arms.items()}
    ratios = {response.arm: response.figures for response in analysis.responses}
    against_real = {
        contrast.ours: contrast.classes
        for contrast in analysis.contrasts
        if contrast.theirs == "real" and contrast.ours != "synthetic"
    }
    classes = {
        f"{name} (tail)" if name in tail else name: {
            arm: by_class[name] for arm, by_class in against_real.items() if name in by_class
        }
        for name in (*facts["head"], *tail)
        if facts["test_tiles"][name]
    }
    by_arm = [
        Panel("mean recall, %", arms, {"mR": BLUE}, facts["chance"]["mR"]),
        Panel(f"mean of R@{depth} over classes, %", arms, {"head": GREY, "tail": ORANGE}),
    ]
    by_ratio = [
        Panel("points from real", ratios, {name: colour}, differences=True)
        for name, colour in zip(COMPARED, (BLUE, GREY, ORANGE), strict=True)
    ]
    colours = dict(zip(against_real, (BLUE, GREEN, PINK), strict=False))
    by_class = [Panel(f"R@{depth}, points from real", classes, colours, differences=True)]
    return {
        name: Plot(alt, panels, (width, space + row * len(panels[0].rows)))
        for name, alt, panels, width, space, row in (
            ("arms.png", "Mean recall by arm, head and tail", by_arm, 10, 1.6, 0.42),
            ("ratios.png", "Difference from real by mixing ratio", by_ratio, 10, 1.6, 0.42),
            ("classes.png", "Difference from real by class", by_class, 8, 1.4, 0.45),
        )
    }


def tables(
    analysis: Analysis, recalls: Mapping[str, Mapping[str, float]], train_tiles: Mapping[str, int]
) -> list[Table]:
    """mR by protocol, differences by mixing ratio, and recall by class with its tiles."""
    facts = analysis.facts
    names = [name for name in (*facts["head"], *facts["tail"]) if facts["test_tiles"][name]]
    tiles = {"train tiles": train_tiles, "test tiles": facts["test_tiles"]}
    return [
        Table(
            "mR by protocol",
            ["arm", *(f"{name}: {LABELS[name]}" for name in "SDCL")],
            [[arm, *(f"{value:.2f}" for value in by.values())] for arm, by in recalls.items()],
        ),
        Table(
            "By mixing ratio, against real",
            ["arm", *COMPARED],
            [[r.arm, *(report.cell(r[name]) for name in COMPARED)] for r in analysis.responses],
        ),
        report.class_table(
            f"By class: R@{facts['depth']}, both directions",
            {key: {name: f"{counts[name]:,}" for name in names} for key, counts in tiles.items()},
            {arm: scores.classes for arm, scores in analysis.arms.items()},
        ),
    ]


def report_of(bench: Bench, records: Mapping[str, Sequence[Judged]]) -> Report:
    """The report on all runs; ranks.npz beside it holds arm/seed/protocol/direction/part, so that
    all figures can be computed again without a training."""
    rows, test, design, material = bench.rows, bench.test, bench.design, bench.material
    facts, settings, captions = material.facts, bench.settings, len(set(test.captions))
    dominant = rows.shares[rows.real].argmax(1)
    groups = Groups.of(dominant, rows.classes, material.depth)
    main, other = sorted(JUDGED, key=lambda name: name != material.judged)
    analysis, compared = (
        analyse(
            {arm: [run.ranks[name] for run in runs] for arm, runs in records.items()},
            test.shares.argmax(1),
            test.blocks,
            groups,
            design,
            name,
        )
        for name in (main, other)
    )
    # Captions name classes, and balance itself is no leak: only rows of like class shares count.
    like = np.unique(design.arms[f"natural-{design.ratio:g}"].pool)
    leak = source_leak([rows.texts[i] for i in like], rows.is_synthetic[like]).auc
    recalls = {
        arm: {name: float(np.mean([run.figures[name]["mR"] for run in runs])) for name in "SDCL"}
        for arm, runs in records.items()
    }
    train_tiles = {name: int((dominant == k).sum()) for k, name in enumerate(rows.classes)}
    return Report(
        bench,
        records,
        {"analysis": analysis, "other_protocol": compared},
        title=f"Class imbalance and retrieval: {facts.name} {facts.version}",
        question=("Does class-balanced synthesis help or hurt image–text retrieval on real tiles?"),
        training=(
            f"{settings.steps} steps of {settings.batch} pairs each, {settings.size}-pixel inputs, "
            f"caption stream `{settings.stream}` in all arms"
        ),
        testing=(
            f", {captions:,} distinct captions. Protocol {main}, chance mR "
            f"{analysis.facts['chance']['mR']:.2f}"
        ),
        conclusions=conclusions(analysis, bench),
        limits=limits(analysis, bench, leak),
        release=facts.as_json(),
        settings=retriever_identity(settings),
        facts={
            "train_tiles": train_tiles,
            "missing_arms": design.missing,
            "numbers_in_captions": sum(
                without_digits(rows.texts[i]) != rows.texts[i] for i in rows.real
            ),
            "distinct_test_captions": captions,
            "source_leak_auc": leak,
            "protocols_mR": recalls,
        },
        about_figures=(
            f"Protocol {main}. Head: {', '.join(groups.head) or 'none'}; tail: "
            f"{', '.join(groups.tail) or 'none'} (by dominant class of real train tiles, mean "
            f"over classes of R@{groups.depth}, both directions)."
        ),
        shown=COMPARED,
        plots=plots(analysis),
        tables=tables(analysis, recalls, train_tiles),
        headings=[f"Contrasts, protocol {name}" for name in (main, other)],
        notes=[
            "Filter: discrimination of the caption among the synthetic tiles at least "
            f"{DISCRIMINATES:g}, its accuracy at least {ACCURATE:g}, no percentage of the tile in "
            "it, no copy of a train tile, and the segmenter agrees with the mask on no fewer "
            f"pixels than in the worst {100 * AGREES:.0f} % of real tiles."
        ],
        arrays={
            f"{run.arm}/{run.seed}/{name}/{way}/{part}": values.astype(np.int32)
            for runs in records.values()
            for run in runs
            for name, pair in run.ranks.items()
            for way, ranks in zip(WAYS, pair, strict=True)
            for part, values in ranks.parts.items()
        },
    )
