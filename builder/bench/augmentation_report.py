"""The augmentation experiment told: JSON, Markdown and a plot, with what it cannot show."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from builder.bench import arm_plot, report
from builder.bench.augmentation import Arm, Bench
from builder.bench.augmentation_figures import FLOOR, POOLED, TESTED, analyse
from builder.bench.pools import TrainRows
from builder.bench.retrieval import libraries
from builder.bench.verdicts import cell, established, few, nearness, verdict
from builder.errors import WorkFailed
from builder.files import write_json, write_text
from builder.landcover import CLASSES
from builder.release.read import metadata
from builder.report.document import table
from builder.schema import KINDS

_EMPTY = "no test tile has pixels of these classes"
_COLOURS = {
    "real": arm_plot.GREY,
    "oversampled": arm_plot.GREEN,
    "synthetic": arm_plot.PINK,
    "natural": arm_plot.BLUE,
    "balanced": arm_plot.ORANGE,
}


def write(bench: Bench, records: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Analyse and write report.json, report.md and report.png; returns the report."""
    by_arm: dict[str, list[dict[str, Any]]] = {}
    for record in records:
        by_arm.setdefault(record["arm"], []).append(record)
    if any(len(found) != bench.experiment.seeds for found in by_arm.values()):
        raise WorkFailed("arms have different numbers of seeds; run the same command again")
    rows, test, experiment = bench.rows, bench.test, bench.experiment
    floor = bench.constant()
    analysis = analyse(
        {
            **{
                arm: [np.array(one["counts"], np.float64) for one in found]
                for arm, found in by_arm.items()
            },
            FLOOR: [floor] * experiment.seeds,
        },
        test.blocks,
        rows.shares[rows.real].mean(0),
    )
    made = provenance(experiment.release)
    told = {
        "kind": "augmentation",
        "release": test.facts,
        "settings": asdict(experiment.settings),
        "balance": experiment.balance,
        "train": {"real": len(rows.real), "synthetic": len(rows.made)},
        "synthetic": made,
        "arms": {one.name: describe(rows, one) for one in bench.design},
        "loss": {
            arm: [[one["loss"]["first"], one["loss"]["last"]] for one in found]
            for arm, found in by_arm.items()
        },
        "analysis": analysis,
        "conclusions": conclusions(analysis),
        "limits": limits(analysis, test.facts, made),
        "libraries": libraries(),
        "seconds": round(sum(one["seconds"] for one in records), 1),
    }
    write_json(experiment.out / "report.json", told)
    plot(analysis, experiment.out / "report.png")
    write_text(experiment.out / "report.md", markdown(told))
    return told


def describe(rows: TrainRows, arm: Arm) -> dict[str, Any]:
    """What an arm holds: rows, distinct ones, synthetic ones, class shares."""
    shares = rows.shares[arm.pool].mean(0)
    return {
        "what": arm.what,
        "rows": len(arm.pool),
        "distinct": len(np.unique(arm.pool)),
        "synthetic": int(rows.synthetic[arm.pool].sum()),
        "class_shares": {n: round(float(s), 4) for n, s in zip(CLASSES, shares, strict=True)},
    }


def provenance(release: Path) -> dict[str, Any]:
    """Who made the synthetic rows, and how far a segmenter agrees with masks, by kind of row."""
    names = ("kind", "gen_model", "mask_agreement")
    table = pa.concat_tables([one for _, one in metadata(release, names)])
    kind = table.column("kind").to_numpy()
    agreement = table.column("mask_agreement").to_pylist()
    generators = {one for one in table.column("gen_model").to_pylist() if one}
    told: dict[str, Any] = {"generators": sorted(generators)}
    for number, name in enumerate(KINDS):
        known = [x for x, k in zip(agreement, kind, strict=True) if k == number and x is not None]
        told[f"mask_agreement_{name}"] = float(np.mean(known)) if known else None
    return told


def learned(analysis: Mapping[str, Any]) -> bool:
    """Whether the model trained on real rows beats calling everything the commonest class."""
    return established(analysis["contrasts"], "real", FLOOR, "macro F1") > 0


def conclusions(analysis: Mapping[str, Any]) -> list[str]:
    """First the answer to the question, then one plain sentence per contrast and figure."""
    lines = []
    if not learned(analysis):
        lines.append(
            "NO CONCLUSION about synthetic data can be drawn from this run: the model trained on "
            "real rows cannot be told from one that calls every pixel the commonest class. Train "
            "longer, on more rows or with a larger model."
        )
    else:
        lines += [_answer(analysis, figure) for figure in TESTED]
    for one in analysis["contrasts"]:
        lines += [
            f"{one['ours']} − {one['theirs']}, {name}: {verdict(one[name], _EMPTY)}"
            for name in TESTED
        ]
    return lines


def _answer(analysis: Mapping[str, Any], figure: str) -> str:
    """Help means: above real rows alone, and above repeating them to the same class shares."""
    real, oversampled = (
        established(analysis["contrasts"], "balanced", arm, figure)
        for arm in ("real", "oversampled")
    )
    if real > 0 and oversampled > 0:
        answer = "yes: above real rows, and above real rows repeated to the same class shares"
    elif real > 0:
        answer = (
            "above real rows alone, but not shown to be above real rows repeated to the same "
            "class shares: the shares may be what helps, not the synthetic tiles"
        )
    elif real < 0:
        answer = "no, they hurt: below real rows alone"
    else:
        answer = "not shown: no difference from real rows is established"
    return f"Do class-balanced synthetic tiles help the segmenter, by {figure}? {answer}."


def limits(
    analysis: Mapping[str, Any], release: Mapping[str, Any], made: Mapping[str, Any]
) -> list[str]:
    """What this run cannot show, whatever its figures are."""
    units = analysis["clusters"]
    lines = [
        f"{analysis['tiles']:,} test tiles in {units['number']:,} {units['unit']}s and "
        f"{analysis['seeds']} seeds: the power above is what there is.",
        "One segmenter architecture trained from scratch: pretrained or larger models may react "
        "otherwise, and absolute figures are no benchmark of segmentation.",
        f"Synthetic rows of {', '.join(made['generators']) or 'an unnamed generator'} only: a "
        "better or worse generator may help or hurt.",
        "Equal steps and batch size in all arms: arms with more distinct rows see each of them "
        "less often.",
        "Both mixtures draw from the same synthetic rows by composition: a generator's run made "
        "for either would repeat fewer of them.",
        "All classes count alike in macro F1, and the rarest have few test pixels.",
        *few(units),
        *nearness(release),
    ]
    agreement = [made[f"mask_agreement_{name}"] for name in KINDS]
    if None not in agreement:
        lines.append(
            "The release's segmenter agrees with the mask on "
            f"{100 * agreement[0]:.1f} % of the pixels of real rows and {100 * agreement[1]:.1f} % "
            "of synthetic ones: far less on synthetic ones means that they do not show what their "
            "masks say."
        )
    if empty := [name for name, n in analysis["test_clusters"].items() if not n]:
        lines.append(f"No test tile has {', '.join(empty)}: left out of every mean.")
    return lines


def markdown(told: Mapping[str, Any]) -> str:
    """The report as a person reads it."""
    analysis, settings, release = told["analysis"], told["settings"], told["release"]
    units = analysis["clusters"]
    parts = [
        f"# Synthetic tiles as augmentation: {release['name']} {release['version']}\n",
        "Do synthetic tiles help a segmenter on real ones? "
        f"{len(told['arms'])} arms × {analysis['seeds']} seeds, {settings['steps']} steps of "
        f"{settings['batch']} crops of {settings['crop']} pixels each; {told['train']['real']:,} "
        f"real and {told['train']['synthetic']:,} synthetic train rows; {analysis['tiles']:,} real "
        f"test tiles in {units['number']:,} {units['unit']}s ({report.checks(release)}).\n",
        "## What can be concluded\n",
        *[f"- {line}" for line in told["conclusions"]],
        "\n## What cannot\n",
        *[f"- {line}" for line in told["limits"]],
        "\n![Macro F1 by arm, and F1 by class](report.png)\n",
        "## Figures\n",
        "Per cent over the pixels of all test tiles pooled, mean over seeds; 95 % intervals from a "
        f"hierarchical bootstrap over seeds, then {units['unit']}s. Tail: "
        f"{', '.join(analysis['tail']) or 'none'} (the rarest classes of real train pixels that "
        f"together hold at most a fifth). {FLOOR}: every pixel called the commonest class.\n",
        table(
            ["arm", *POOLED],
            [[arm, *(cell(one[n]) for n in POOLED)] for arm, one in analysis["arms"].items()],
        ),
    ]
    arms = [arm for arm in analysis["arms"] if arm != FLOOR]
    for figure in ("F1", "IoU"):
        rows = [
            [
                name,
                f"{100 * analysis['test_shares'][name]:.2f}",
                f"{analysis['test_clusters'][name]:,}",
                *(cell(analysis["arms"][arm][f"{figure} {name}"], 1) for arm in arms),
            ]
            for name in CLASSES
        ]
        parts.append(table([f"{figure} of", "test pixels, %", f"{units['unit']}s", *arms], rows))
    parts.append("## Contrasts\n")
    parts.append(table(_HEADER, [_row(one) for one in analysis["contrasts"]]))
    parts.append(
        "p: Student's t over seeds and clusters, Holm over the contrasts but that with "
        f"{FLOOR}, which must hold before the others count; detectable: the difference found "
        "with 80 % power, from the measured variances, before Holm.\n"
    )
    parts.append("## Arms\n")
    rows = [
        [
            name,
            one["what"],
            f"{one['rows']:,}",
            f"{one['distinct']:,}",
            f"{one['synthetic']:,}",
            ", ".join(f"{k} {100 * v:.1f}" for k, v in one["class_shares"].items()),
            f"{np.mean([last for _, last in told['loss'][name]]):.2f}",
        ]
        for name, one in told["arms"].items()
    ]
    header = ["arm", "holds", "rows", "distinct", "synthetic", "shares, %", "last loss"]
    parts.append(table(header, rows))
    return "\n".join(parts)


_HEADER = ["contrast", "question"]
_HEADER += [column for name in TESTED for column in (f"Δ {name}", "p", "detectable")]


def _row(one: Mapping[str, Any]) -> list[str]:
    cells = [f"{one['ours']} − {one['theirs']}", one["question"]]
    for name in TESTED:
        found = one[name]
        if found["difference"] is None:
            cells += ["–", "–", "–"]
            continue
        low, high = found["interval"]
        cells.append(f"{found['difference']:+.2f} ({low:+.2f} … {high:+.2f})")
        cells += [f"{found['p_holm']:.3f}", f"{found['detectable']:.2f}"]
    return cells


def plot(analysis: Mapping[str, Any], path: Path) -> None:
    """Macro and tail F1 of every arm, beside the F1 of every class, as a PNG."""
    arms = analysis["arms"]
    figure, (left, right) = arm_plot.panels(11, 5.2)
    pooled = {
        name: ([one[name] for one in arms.values()], colour)
        for name, colour in (("macro F1", arm_plot.BLUE), ("tail F1", arm_plot.ORANGE))
    }
    arm_plot.draw(left, pooled, list(arms), "mean F1 over classes, %")
    by_class = {
        arm: ([arms[arm][f"F1 {name}"] for name in CLASSES], colour)
        for arm, colour in _COLOURS.items()
    }
    arm_plot.draw(right, by_class, CLASSES, "F1, %")
    arm_plot.legend(left)
    arm_plot.legend(right, 5)
    arm_plot.save(figure, path)
