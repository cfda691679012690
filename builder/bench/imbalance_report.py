"""The imbalance experiment told: JSON, Markdown and a plot, with what it cannot show."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from builder.bench import arm_plot, contrasts, report
from builder.bench.arms import GROUNDED, describe
from builder.bench.imbalance import Bench, ranks_of
from builder.bench.retrieval import libraries
from builder.bench.verdicts import between, cell, established, few, nearness, verdict
from builder.errors import WorkFailed
from builder.files import write_json, write_text
from builder.scores.leakage import source_leak, without_digits

_EMPTY = "no test tile is dominated by these classes"


def write(bench: Bench, records: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Analyse and write report.json, report.md and report.png; returns the report."""
    by_arm: dict[str, list[dict[str, Any]]] = {}
    for record in records:
        by_arm.setdefault(record["arm"], []).append(record)
    if any(len(found) != bench.experiment.seeds for found in by_arm.values()):
        raise WorkFailed("arms have different numbers of seeds; run the same command again")
    rows, design, test = bench.rows, bench.design, bench.test
    real = [rows.texts[i] for i in rows.real]
    analysis = contrasts.analyse(
        {arm: [ranks_of(one) for one in found] for arm, found in by_arm.items()},
        test.shares.argmax(1),
        test.blocks,
        rows.shares[rows.real].argmax(1),
        design.ratio,
    )
    protocols = {
        arm: {
            name: float(np.mean([one["figures"][name]["mR"] for one in found]))
            for name in ("S", "D", "C", "L")
        }
        for arm, found in by_arm.items()
    }
    leak = source_leak(rows.texts, rows.synthetic)
    told = {
        "kind": "imbalance",
        "release": test.facts,
        "settings": asdict(bench.experiment.settings),
        "train": {"real": len(rows.real), "synthetic": len(rows.made)},
        "arms": {one.name: describe(rows, one) for one in design.arms},
        "missing_arms": design.missing,
        "numbers_in_captions": sum(without_digits(text) != text for text in real),
        "distinct_test_captions": len(set(bench.captions)),
        "source_leak_auc": leak["auc"],
        "loss": {
            arm: [[one["loss"]["first"], one["loss"]["last"]] for one in found]
            for arm, found in by_arm.items()
        },
        "protocols_mR": protocols,
        "analysis": analysis,
        "conclusions": conclusions(analysis),
        "limits": limits(analysis, test.facts, leak["auc"], len(rows.made), len(rows.real)),
        "libraries": libraries(),
        "seconds": round(sum(one["seconds"] for one in records), 1),
    }
    out = bench.experiment.out
    write_json(out / "report.json", told)
    plot(analysis, out / "report.png")
    write_text(out / "report.md", markdown(told))
    return told


def learned(analysis: Mapping[str, Any]) -> bool:
    """Whether the model trained on real pairs beats the one trained on shuffled captions."""
    return established(analysis["contrasts"], "real", contrasts.FLOOR, "mR") > 0


def conclusions(analysis: Mapping[str, Any]) -> list[str]:
    """One plain sentence per contrast and figure; first of all, whether any may be drawn."""
    lines = []
    if learned(analysis):
        lines.append("The models learnt from captions: real beats shuffled captions.")
    else:
        lines.append(
            "NO CONCLUSION about synthetic data can be drawn from this run: the model trained on "
            "real pairs cannot be told from one trained on shuffled captions, so differences "
            "between arms say nothing about what captions and tiles teach. Train longer, on more "
            "rows or with a larger model."
        )
    for one in analysis["contrasts"]:
        lines += [
            f"{one['ours']} − {one['theirs']}, {name}: {verdict(one[name], _EMPTY)}"
            for name in contrasts.TESTED
        ]
    even = f"balanced-{analysis['ratio']:g}"
    if learned(analysis) and (found := between(analysis["contrasts"], even, "real")):
        low = found["mR"]["low"]  # the bootstrap of few seeds and blocks is too narrow for this
        safe = low > -contrasts.MARGIN
        lines.append(
            f"Non-inferiority: {even} is {'' if safe else 'NOT shown to be '}within "
            f"{contrasts.MARGIN:g} point of real in mR (it may be {low:+.2f}, by Student's t at "
            "95 %)."
        )
    return lines


def limits(
    analysis: Mapping[str, Any],
    release: Mapping[str, Any],
    leak: float | None,
    made: int,
    real: int,
) -> list[str]:
    """What this run cannot show, whatever its figures are."""
    units = analysis["clusters"]
    lines = [
        f"{analysis['images']:,} test tiles in {units['number']:,} {units['unit']}s and "
        f"{analysis['seeds']} seeds: the power above is what there is.",
        "A small dual encoder trained from scratch: pretrained or larger models may react "
        "otherwise, and absolute figures are no benchmark of retrieval.",
        f"{made:,} synthetic rows of one generator beside {real:,} real ones: other generators "
        "and larger ratios are not covered.",
        "Equal steps and batch size in all arms: arms with more distinct rows see each of them "
        "less often.",
    ]
    lines += few(units) + nearness(release)
    if leak is None:
        lines.append("Too few captions to tell whether words give away the source.")
    else:
        lines.append(
            f"Words tell synthetic from real captions with AUC {leak:.2f} (0.5 or less: not at all)"
            + ("; the stream leaks the source." if leak > 0.6 else ".")
        )
    empty = [name for name in analysis["tail"] if not analysis["test_tiles"][name]]
    if not analysis["tail"]:
        lines.append("No class is rare enough among train tiles to be a tail.")
    elif empty:
        lines.append(f"No test tile is dominated by {', '.join(empty)}: that tail is unmeasured.")
    return lines


def markdown(told: Mapping[str, Any]) -> str:
    """The report as a person reads it."""
    analysis, settings, release = told["analysis"], told["settings"], told["release"]
    parts = [
        f"# Class imbalance and retrieval: {release['name']} {release['version']}\n",
        f"Does class-balanced synthesis help or hurt image–text retrieval on real tiles? "
        f"{len(analysis['arms'])} arms × {analysis['seeds']} seeds, {settings['steps']} steps of "
        f"{settings['batch']} pairs each, {settings['size']}-pixel inputs, caption stream "
        f"`{settings['stream']}` in all arms; {told['train']['real']:,} real and "
        f"{told['train']['synthetic']:,} synthetic train rows; {analysis['images']:,} real test "
        f"tiles ({report.checks(release)}), {told['distinct_test_captions']:,} distinct captions. "
        f"Chance mR {analysis['chance']['mR']:.2f}.\n",
        "## What can be concluded\n",
        *[f"- {line}" for line in told["conclusions"]],
        "\n## What cannot\n",
        *[f"- {line}" for line in told["limits"]],
        *[f"- Not run — {line}." for line in told["missing_arms"]],
        "\n![mR by arm, head and tail](report.png)\n",
        "## Figures\n",
        "Strict protocol, per cent, mean over seeds; 95 % intervals from a hierarchical bootstrap "
        f"over seeds, then {analysis['clusters']['unit']}s. Head: {_listed(analysis['head'])}; "
        f"tail: {_listed(analysis['tail'])} (by dominant class of real train tiles, macro R@10 "
        "of both directions).\n",
    ]
    rows = []
    for arm, figures in analysis["arms"].items():
        cells = [cell(figures[name]) for name in ("mR", "head R@10", "tail R@10")]
        others = [f"{told['protocols_mR'][arm][name]:.2f}" for name in ("D", "C", "L")]
        rows.append([arm, *cells, *others])
    header = ["arm", "mR", "head R@10", "tail R@10", "mR, D", "mR, C", "mR, L"]
    parts.append(report.table(header, rows))
    parts.append(
        "D: equal captions merged; C: like composition counts as right; L: numbers removed from "
        "test captions.\n"
    )
    parts.append("## Contrasts\n")
    parts.append(report.table(_HEADER, [_row(one) for one in analysis["contrasts"]]))
    parts.append(
        "p: Student's t over seeds and clusters, Holm over the contrasts but real − shuffled, "
        "which must hold before the others count; detectable: the "
        "difference found with 80 % power, from the measured variances, before Holm.\n"
    )
    parts.append("## Arms\n")
    rows = [
        [
            name,
            one["what"],
            f"{one['rows']:,}",
            f"{one['distinct']:,}",
            f"{one['synthetic']:,}",
            f"{one['captions']:,}",
            ", ".join(f"{k} {100 * v:.0f}" for k, v in one["class_shares"].items()),
            f"{np.mean([last for _, last in told['loss'][name]]):.2f}",
        ]
        for name, one in told["arms"].items()
    ]
    header = ["arm", "holds", "rows", "distinct", "synthetic", "captions", "shares, %", "last loss"]
    parts.append(report.table(header, rows))
    parts.append(
        f"Filter: grounding of the caption at least {GROUNDED:g}, no percentage of the tile in "
        "it, no copy of a train tile.\n"
    )
    return "\n".join(parts)


_HEADER = ["contrast", "question", "Δ mR", "p", "detectable", "Δ tail R@10", "p"]


def _row(one: Mapping[str, Any]) -> list[str]:
    cells = [f"{one['ours']} − {one['theirs']}", one["question"]]
    for name in contrasts.TESTED:
        found = one[name]
        if found["difference"] is None:
            cells += ["–", "–"]
            continue
        low, high = found["interval"]
        cells.append(f"{found['difference']:+.2f} ({low:+.2f} … {high:+.2f})")
        cells.append(f"{found['p_holm']:.3f}")
        if name == "mR":
            cells.append(f"{found['detectable']:.2f}")
    return cells


def _listed(classes: Sequence[str]) -> str:
    return ", ".join(classes) or "none"


def plot(analysis: Mapping[str, Any], path: Path) -> None:
    """mR of every arm with interval and seeds, beside head and tail R@10, as a PNG."""
    arms = analysis["arms"]
    figure, (left, right) = arm_plot.panels(10, 1.6 + 0.42 * len(arms), sharey=True)

    def series(*names: tuple[str, str]) -> dict[str, Any]:
        return {name: ([one[name] for one in arms.values()], colour) for name, colour in names}

    arm_plot.draw(left, series(("mR", arm_plot.BLUE)), list(arms), "mean recall, %")
    left.axvline(analysis["chance"]["mR"], color="#333333", linestyle=":", label="chance")
    groups = series(("head R@10", arm_plot.GREY), ("tail R@10", arm_plot.ORANGE))
    arm_plot.draw(right, groups, list(arms), "macro R@10 over classes, %")
    for axes in (left, right):
        arm_plot.legend(axes)
    arm_plot.save(figure, path)
