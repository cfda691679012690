"""The imbalance experiment told: JSON, Markdown, HTML and plots, with what it cannot show."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from builder.core.document import Document
from builder.core.errors import WorkFailed
from builder.core.figures import (
    BLUE,
    GREEN,
    GREY,
    INK,
    ORANGE,
    Point,
    Series,
    draw_points,
    legend,
    panels,
    save,
    style,
)
from builder.core.files import atomic, write_json, write_text
from builder.experiments import imbalance_analysis
from builder.experiments.imbalance import (
    AGREES,
    GROUNDED,
    JUDGED,
    ZERO_SHOT,
    Bench,
    describe,
    ranks_of,
)
from builder.experiments.imbalance_analysis import Groups, conclusions, in_words, limits
from builder.experiments.words import cell, detectable_cell, p_cell
from builder.models import clip
from builder.retrieval import metrics, report
from builder.retrieval.ranks import Pair
from builder.retrieval.result import Checks, libraries
from builder.scores.leakage import source_leak, without_digits


def plot_arms(analysis: Mapping[str, Any], path: Path) -> None:
    """mR of every arm with interval and seeds, beside head and tail, as a PNG."""
    arms = analysis["arms"]
    figure, (left, right) = panels(10, 1.6 + 0.42 * len(arms), columns=2, sharey=True)

    def series(**colours: str) -> dict[str, Series]:
        return {
            name: ([Point(**figures[name]) for figures in arms.values()], colour)
            for name, colour in colours.items()
        }

    draw_points(left, list(arms), series(mR=BLUE), "mean recall, %")
    left.axvline(analysis["chance"]["mR"], color=INK, linestyle=":", label="chance")
    label = f"mean of R@{analysis['depth']} over classes, %"
    draw_points(right, list(arms), series(head=GREY, tail=ORANGE), label)
    for axes in (left, right):
        legend(axes)
    save(figure, path)


def plot_ratios(analysis: Mapping[str, Any], path: Path) -> None:
    """Differences from the real arm by mixing ratio, natural and balanced, as a PNG."""
    ratios = sorted({one["ratio"] for one in analysis["ratios"]})
    figure, parts = panels(10, 3.4, columns=3)
    for axes, name in zip(parts, ("mR", "head", "tail"), strict=True):
        axes.axhline(0, color=INK, linewidth=0.8)
        for kind, shift, colour in (("natural", -0.08, GREY), ("balanced", 0.08, BLUE)):
            for one in analysis["ratios"]:
                found = one[name]
                if one["kind"] != kind or found["difference"] is None:
                    continue
                x = ratios.index(one["ratio"]) + shift
                axes.plot([x, x], found["interval"], color=colour, linewidth=2, alpha=0.6)
                axes.plot([x], [found["difference"]], "o", color=colour, markersize=7)
            axes.plot([], [], "o", color=colour, label=kind)
        axes.set_xticks(range(len(ratios)), [f"{one:g}" for one in ratios])
        axes.set_xlim(-0.5, len(ratios) - 0.5)
        axes.set_xlabel("synthetic rows per real one")
        axes.set_ylabel(f"{name}, points from real" if name == "mR" else name)
        style(axes, "both")
        legend(axes, 3)
    save(figure, path)


def plot_classes(analysis: Mapping[str, Any], path: Path) -> None:
    """Differences from the real arm by dominant class, as a PNG: balanced at the main ratio, and
    real rows repeated to the same shares."""
    told = {
        one["ours"]: one["classes"]
        for one in analysis["contrasts"]
        if one["theirs"] == "real" and one["ours"] != "synthetic"
    }
    names = [n for n in (*analysis["head"], *analysis["tail"]) if analysis["test_tiles"][n]]
    figure, (axes,) = panels(8, 1.4 + 0.45 * len(names))
    axes.axvline(0, color=INK, linewidth=0.8)
    colours = (BLUE, GREEN, GREY)
    for i, (arm, classes) in enumerate(told.items()):
        shift = (i - (len(told) - 1) / 2) * 0.25
        for y, name in enumerate(names):
            if name in classes:
                found = classes[name]
                axes.plot(found["interval"], [y + shift] * 2, color=colours[i % 3], alpha=0.6, lw=2)
                axes.plot([found["difference"]], [y + shift], "o", color=colours[i % 3])
        axes.plot([], [], "o", color=colours[i % 3], label=arm)
    labels = [f"{n} (tail)" if n in analysis["tail"] else n for n in names]
    axes.set_yticks(range(len(names)), labels)
    axes.invert_yaxis()
    axes.set_xlabel(f"R@{analysis['depth']}, points from real")
    style(axes, "both")
    legend(axes, 3)
    save(figure, path)


PROTOCOLS = ("S", "D", "C", "L")
PLOTS = {
    "arms.png": ("Mean recall by arm, head and tail", plot_arms),
    "ratios.png": ("Difference from real by mixing ratio", plot_ratios),
    "classes.png": ("Difference from real by class", plot_classes),
}


def write(bench: Bench, records: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Analyse and write report.json, report.md, report.html and the plots; returns the report.

    ranks.npz beside them holds the ranks of every run, arm/seed/protocol/direction/part, so that
    all figures can be computed again without a training.
    """
    by_arm: dict[str, list[dict[str, Any]]] = {}
    for record in records:
        by_arm.setdefault(record["arm"], []).append(record)
    trained = {arm: found for arm, found in by_arm.items() if arm != ZERO_SHOT}
    if any(len(found) != bench.experiment.seeds for found in trained.values()):
        raise WorkFailed("arms have different numbers of seeds; run the same command again")
    rows, design, test = bench.rows, bench.design, bench.test
    main, other = sorted(JUDGED, key=lambda name: name != bench.material.judged)
    depth = bench.material.depth
    groups = Groups.of(rows.shares[rows.real].argmax(1), rows.classes, depth)
    found = {
        name: imbalance_analysis.analyse(
            {arm: [ranks_of(one, name) for one in found] for arm, found in by_arm.items()},
            test.shares.argmax(1),
            test.blocks,
            groups,
            design.ratios,
            design.ratio,
        )
        for name in (main, other)
    }
    for name, one in found.items():
        one["protocol"] = name
        one["chance"] = {"mR": chance(ranks_of(records[0], name))}
    # Rows of like class shares: captions name classes, and balance itself is no leak.
    alike = np.unique(design.arm(f"natural-{design.ratio:g}").pool)
    leak = source_leak([rows.texts[i] for i in alike], rows.synthetic[alike])
    dominant = rows.shares[rows.real].argmax(1)
    told: dict[str, Any] = {
        "kind": "imbalance",
        "release": bench.material.facts,
        "settings": clip.settings_as_json(bench.experiment.settings),
        "train": {"real": len(rows.real), "synthetic": len(rows.made)},
        "train_tiles": {n: int((dominant == k).sum()) for k, n in enumerate(rows.classes)},
        "arms": {one.name: describe(rows, one) for one in design.arms},
        "missing_arms": design.missing,
        "numbers_in_captions": sum(
            without_digits(rows.texts[i]) != rows.texts[i] for i in rows.real
        ),
        "distinct_test_captions": len(set(test.captions)),
        "source_leak_auc": leak.auc,
        "loss": {
            arm: [[one["loss"]["first"], one["loss"]["last"]] for one in found]
            for arm, found in trained.items()
        },
        "protocols_mR": {
            arm: {
                name: float(np.mean([one["figures"][name]["mR"] for one in found]))
                for name in PROTOCOLS
            }
            for arm, found in by_arm.items()
        },
        "analysis": found[main],
        "other_protocol": found[other],
        "conclusions": conclusions(found[main]),
        "contrasts_in_words": in_words(found[main]),
        "libraries": libraries(),
        "seconds": round(sum(one["seconds"] for one in records), 1),
        "cpu_seconds": _cpu_seconds(records),
    }
    told["limits"] = limits(told)
    out = bench.experiment.out
    write_json(out / "report.json", told)
    with atomic(out / "ranks.npz") as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, **_ranks(records))
    for name, (_, plot) in PLOTS.items():
        plot(told["analysis"], out / name)
    made = document(told)
    write_text(out / "report.md", made.markdown())
    write_text(out / "report.html", made.page(out))
    return told


def chance(pair: Pair) -> float:
    """Mean recall, per cent, of a random order with as many positives: a hit among the first k is
    missed with the probability that k draws are all negatives."""
    found = []
    for ranks in pair:
        gallery = len(ranks.above)
        for k in metrics.KS:
            drawn = np.arange(min(k, gallery))[:, None]
            missed = np.maximum(ranks.negatives[None] - drawn, 0) / (gallery - drawn)
            found.append(100 * float(1 - missed.prod(0).mean()))
    return float(np.mean(found))


def document(told: Mapping[str, Any]) -> Document:
    """The report as a person reads it."""
    analysis, settings, facts = told["analysis"], told["settings"], told["release"]
    made = Document(f"Class imbalance and retrieval: {facts['name']} {facts['version']}")
    checked = ""
    if "checks" in facts:
        checked = f" ({report.checks(Checks.model_validate(facts['checks']))})"
    made.text(
        "Does class-balanced synthesis help or hurt image–text retrieval on real tiles? "
        f"{len(analysis['arms'])} arms × {analysis['seeds']} seeds, {settings['steps']} steps of "
        f"{settings['batch']} pairs each, {settings['size']}-pixel inputs, caption stream "
        f"`{settings['stream']}` in all arms; {told['train']['real']:,} real and "
        f"{told['train']['synthetic']:,} synthetic train rows; {analysis['images']:,} real test "
        f"tiles{checked}, {told['distinct_test_captions']:,} distinct captions. Protocol "
        f"{analysis['protocol']}, chance mR {analysis['chance']['mR']:.2f}."
    )
    made.heading("What can be concluded")
    made.items(told["conclusions"])
    made.heading("What cannot")
    made.items(told["limits"])
    made.heading("Figures")
    for name, (alt, _) in PLOTS.items():
        made.plot(alt, name)
    units = analysis["clusters"]
    made.text(
        f"Protocol {analysis['protocol']}, per cent, mean over seeds; 95 % intervals from a "
        f"hierarchical bootstrap over seeds, then {units['number']} {units['unit']}s. Head: "
        f"{_listed(analysis['head'])}; tail: {_listed(analysis['tail'])} (by dominant class of "
        f"real train tiles, mean over classes of R@{analysis['depth']}, both directions)."
    )
    header = ["arm", "mR", "head", "tail", *[f"mR, {name}" for name in PROTOCOLS]]
    made.table(
        header,
        [
            [
                arm,
                *[cell(figures[name]) for name in imbalance_analysis.COMPARED],
                *[f"{told['protocols_mR'][arm][name]:.2f}" for name in PROTOCOLS],
            ]
            for arm, figures in analysis["arms"].items()
        ],
    )
    made.text(
        "S: a caption's own tile; D: equal captions merged; C: like composition counts as right; "
        "L: numbers removed from test captions."
    )
    for name in ("analysis", "other_protocol"):
        made.heading(f"Contrasts, protocol {told[name]['protocol']}")
        made.table(_HEADER, [_row(one) for one in told[name]["contrasts"]])
    made.text(
        "p: Student's t over seeds and clusters, Holm over the contrasts but real − shuffled, "
        "which must hold before the others count; detectable: the difference found with 80 % "
        "power, from the measured variances, before Holm. The conclusions are those of the first "
        "table; the second is for comparison. Interval and p come from different computations "
        "and can disagree: p by Student's t is the more careful one with few seeds, and where a "
        "resample holds no tile of a class, the tail is the mean over the classes that are left, "
        "which makes the interval lopsided."
    )
    made.items(told["contrasts_in_words"])
    made.heading("By mixing ratio, against real")
    made.table(
        ["arm", "mR", "head", "tail"],
        [
            [one["arm"], *[_span(one[n]) for n in imbalance_analysis.COMPARED]]
            for one in analysis["ratios"]
        ],
    )
    made.heading(f"By class: R@{analysis['depth']}, both directions")
    shown = [n for n in (*analysis["head"], *analysis["tail"]) if analysis["test_tiles"][n]]
    counts = [f"{n} ({told['train_tiles'][n]}/{analysis['test_tiles'][n]})" for n in shown]
    made.table(
        ["arm (train/test tiles)", *counts],
        [
            [arm, *[f"{figures['classes'][n]['value']:.2f}" for n in shown]]
            for arm, figures in analysis["arms"].items()
        ],
    )
    made.heading("Arms")
    made.table(_ARMS, [_arm(name, one, told["loss"][name]) for name, one in told["arms"].items()])
    made.text(
        f"Filter: grounding of the caption at least {GROUNDED:g}, no percentage of the tile in "
        "it, no copy of a train tile, and the segmenter agrees with the mask on no fewer pixels "
        f"than in the worst {100 * AGREES:.0f} % of real tiles."
    )
    spent = told["cpu_seconds"]
    made.text(
        f"All runs together took {told['seconds']:,.0f} s of wall time and "
        f"{f'{spent:,.0f} s' if spent is not None else 'an unrecorded amount'} of processor time; "
        "runs may have shared the machine with each other and with other programs."
    )
    return made


def _ranks(records: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    return {
        f"{one['arm']}/{one['seed']}/{protocol}/{way}/{part}": np.array(values, dtype=np.int32)
        for one in records
        for protocol, ways in one["ranks"].items()
        for way, parts in ways.items()
        for part, values in parts.items()
    }


def _cpu_seconds(records: Sequence[Mapping[str, Any]]) -> float | None:
    """Processor time of all runs; None where a record, made by an earlier version, has none."""
    spent = [one["cpu_seconds"] for one in records if "cpu_seconds" in one]
    return round(sum(spent), 1) if len(spent) == len(records) else None


_HEADER = ["contrast", "question", "Δ mR", "p", "detectable", "Δ tail", "p"]
_ARMS = ["arm", "holds", "rows", "distinct", "synthetic", "captions", "shares, %", "last loss"]


def _row(one: Mapping[str, Any]) -> list[str]:
    cells = [f"{one['ours']} − {one['theirs']}", one["question"]]
    for name in imbalance_analysis.TESTED:
        found = one[name]
        known = found["difference"] is not None
        cells += [_span(found), p_cell(found["p_holm"]) if known else "–"]
        if name == "mR":
            cells.append(detectable_cell(found["detectable"]) if known else "–")
    return cells


def _arm(name: str, one: Mapping[str, Any], losses: Sequence[Sequence[float]]) -> list[str]:
    counts = [f"{one[key]:,}" for key in ("rows", "distinct", "synthetic", "captions")]
    shares = ", ".join(f"{k} {100 * v:.0f}" for k, v in one["class_shares"].items())
    return [name, one["what"], *counts, shares, f"{np.mean([last for _, last in losses]):.2f}"]


def _span(found: Mapping[str, Any]) -> str:
    if found["difference"] is None:
        return "–"
    low, high = found["interval"]
    return f"{found['difference']:+.2f} ({low:+.2f} … {high:+.2f})"


def _listed(classes: Sequence[str]) -> str:
    return ", ".join(classes) or "none"
