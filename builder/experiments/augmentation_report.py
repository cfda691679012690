"""The augmentation experiment told: JSON, Markdown, HTML and a plot, with what it cannot show."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from builder.core import figures
from builder.core.document import Document
from builder.core.errors import WorkFailed
from builder.core.files import write_json, write_text
from builder.experiments.augmentation import Arm, Bench
from builder.experiments.augmentation_analysis import (
    FLOOR,
    POOLED,
    TESTED,
    analyse,
    conclusions,
    limits,
)
from builder.experiments.experiment import TrainRows
from builder.experiments.words import cell
from builder.land.classes import CLASSES
from builder.land.columns import KINDS
from builder.release.read import metadata
from builder.retrieval import report
from builder.retrieval.result import Checks, libraries

PLOT = "report.png"
_COLOURS = {
    "real": figures.GREY,
    "oversampled": figures.GREEN,
    "synthetic": figures.PINK,
    "natural": figures.BLUE,
    "balanced": figures.ORANGE,
}


def write(bench: Bench, records: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Analyse and write report.json, report.md, report.html and the plot; returns the report."""
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
    origin = provenance(experiment.release)
    told = {
        "kind": "augmentation",
        "release": test.facts.as_json(),
        "settings": asdict(experiment.settings),
        "balance": experiment.balance,
        "train": {"real": len(rows.real), "synthetic": len(rows.made)},
        "synthetic": origin,
        "arms": {one.name: describe(rows, one) for one in bench.design},
        "loss": {
            arm: [[one["loss"]["first"], one["loss"]["last"]] for one in found]
            for arm, found in by_arm.items()
        },
        "analysis": analysis,
        "conclusions": conclusions(analysis),
        "limits": limits(analysis, test.facts.as_json(), origin),
        "libraries": libraries(),
        "seconds": round(sum(one["seconds"] for one in records), 1),
    }
    write_json(experiment.out / "report.json", told)
    plot(analysis, experiment.out / PLOT)
    made = document(told)
    write_text(experiment.out / "report.md", made.markdown())
    write_text(experiment.out / "report.html", made.page(experiment.out))
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


def document(told: Mapping[str, Any]) -> Document:
    """The report as a person reads it."""
    analysis, settings, release = told["analysis"], told["settings"], told["release"]
    units, checks = analysis["clusters"], Checks.model_validate(release["checks"])
    made = Document(f"Synthetic tiles as augmentation: {release['name']} {release['version']}")
    made.text(
        "Do synthetic tiles help a segmenter on real ones? "
        f"{len(told['arms'])} arms × {analysis['seeds']} seeds, {settings['steps']} steps of "
        f"{settings['batch']} crops of {settings['crop']} pixels each; {told['train']['real']:,} "
        f"real and {told['train']['synthetic']:,} synthetic train rows; {analysis['tiles']:,} real "
        f"test tiles in {units['number']:,} {units['unit']}s ({report.checks(checks)})."
    )
    made.heading("What can be concluded")
    made.items(told["conclusions"])
    made.heading("What cannot")
    made.items(told["limits"])
    made.heading("Figures")
    made.plot("Macro F1 by arm, and F1 by class", PLOT)
    made.text(
        "Per cent over the pixels of all test tiles pooled, mean over seeds; 95 % intervals from a "
        f"hierarchical bootstrap over seeds, then {units['unit']}s. Tail: "
        f"{', '.join(analysis['tail']) or 'none'} (the rarest classes of real train pixels that "
        f"together hold at most a fifth). {FLOOR}: every pixel called the commonest class."
    )
    made.table(
        ["arm", *POOLED],
        [[arm, *(cell(one[n]) for n in POOLED)] for arm, one in analysis["arms"].items()],
    )
    arms = [arm for arm in analysis["arms"] if arm != FLOOR]
    for figure in ("F1", "IoU"):
        made.table(
            [f"{figure} of", "test pixels, %", f"{units['unit']}s", *arms],
            [
                [
                    name,
                    f"{100 * analysis['test_shares'][name]:.2f}",
                    f"{analysis['test_clusters'][name]:,}",
                    *(cell(analysis["arms"][arm][f"{figure} {name}"], 1) for arm in arms),
                ]
                for name in CLASSES
            ],
        )
    made.heading("Contrasts")
    made.table(_HEADER, [_row(one) for one in analysis["contrasts"]])
    made.text(
        "p: Student's t over seeds and clusters, Holm over the contrasts but that with "
        f"{FLOOR}, which must hold before the others count; detectable: the difference found "
        "with 80 % power, from the measured variances, before Holm."
    )
    made.heading("Arms")
    made.table(_ARMS, [_arm(name, one, told["loss"][name]) for name, one in told["arms"].items()])
    return made


_ARMS = ["arm", "holds", "rows", "distinct", "synthetic", "shares, %", "last loss"]
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


def _arm(name: str, one: Mapping[str, Any], losses: Sequence[Sequence[float]]) -> list[str]:
    counts = [f"{one[key]:,}" for key in ("rows", "distinct", "synthetic")]
    shares = ", ".join(f"{k} {100 * v:.1f}" for k, v in one["class_shares"].items())
    return [name, one["what"], *counts, shares, f"{np.mean([last for _, last in losses]):.2f}"]


def plot(analysis: Mapping[str, Any], path: Path) -> None:
    """Macro and tail F1 of every arm, beside the F1 of every class, as a PNG."""
    arms = analysis["arms"]
    figure, (left, right) = figures.panels(11, 5.2, columns=2)
    pooled = {
        name: ([figures.Point(**arm[name]) for arm in arms.values()], colour)
        for name, colour in (("macro F1", figures.BLUE), ("tail F1", figures.ORANGE))
    }
    figures.draw_points(left, list(arms), pooled, "mean F1 over classes, %")
    by_class = {
        arm: ([figures.Point(**arms[arm][f"F1 {name}"]) for name in CLASSES], colour)
        for arm, colour in _COLOURS.items()
    }
    figures.draw_points(right, CLASSES, by_class, "F1, %")
    figures.legend(left)
    figures.legend(right, 5)
    figures.save(figure, path)
