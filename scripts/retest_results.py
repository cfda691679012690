"""Test the contrasts of a finished experiment again, old and new beside each other.

    python scripts/retest_results.py docs/results/augmentation docs/results/imbalance-*

Earlier versions tested differences with seeds − 1 degrees of freedom. Where a folder holds
ranks.npz of test images that lie class by class and in no blocks (EuroSAT), everything is computed
again from them. Elsewhere the published variances are tested: of the difference over clusters and
over seeds. They do not say how much of both is the rest of single cells, which is then counted
twice, so that p-values of these are a little too large. Writes retest.md into each folder.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np

from builder.core.document import table
from builder.core.files import write_text
from builder.experiments import imbalance
from builder.experiments.imbalance_report import Groups
from builder.experiments.imbalance_report import analyse as analyse_ranks
from builder.experiments.statistics import Analysis, Effect
from builder.retrieval import crossed, intervals
from builder.retrieval.ranks import PARTS, Pair, Ranks
from builder.retrieval.result import WAYS

FLOORS = {"augmentation": "constant", "imbalance": imbalance.FLOOR}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("folders", type=Path, nargs="+", help="folders with a report.json")
    for folder in parser.parse_args().folders:
        report = json.loads((folder / "report.json").read_text(encoding="utf-8"))
        text = retested(folder, report)
        write_text(folder / "retest.md", text)
        print(text)


def retested(folder: Path, report: dict[str, Any]) -> str:
    """Markdown: a table for each tested figure, and which verdicts change."""
    old = Analysis.model_validate(report["analysis"])
    new, source = again(folder, report, old)
    adjust(new, FLOORS[report["kind"]])
    parts = [
        f"# {folder.name}: contrasts tested again\n",
        f"{old.seeds} seeds × {old.clusters.number:,} {old.clusters.unit}s; {source}. Old: "
        "Student's t with seeds − 1 degrees of freedom, the interval from a bootstrap. New: seeds "
        f"crossed with {old.clusters.unit}s, both random (docs/benchmark-protocol.md). p after "
        "Holm's correction. Written by `python scripts/retest_results.py`.\n",
    ]
    header = ["contrast", "difference", "old interval", "new interval", "old p", "new p",
              "old detectable", "new detectable", "verdict"]  # fmt: skip
    for name in old.contrasts[0].tested:
        rows = []
        for before in old.contrasts:
            effect, now = before[name], new[before.ours, before.theirs].get(name)
            if isinstance(effect, Effect) and now:
                rows.append([f"{before.ours} − {before.theirs}", *compared(effect, now)])
        parts += [f"## {name}\n", table(header, rows)]
    return "\n".join(parts)


def compared(old: Effect, new: Effect) -> list[str]:
    """Cells of a row: the difference, and each figure of the old test and of the new."""
    spans = [
        f"{low:+.2f} … {high:+.2f}" for low, high in (e.interval or (0, 0) for e in (old, new))
    ]
    ps = ["< 0.001" if effect.p_holm < 0.001 else f"{effect.p_holm:.3f}" for effect in (old, new)]
    change = "stays" if old.sign == new.sign else f"{word(old.sign)} → **{word(new.sign)}**"
    if old.sign == new.sign:
        change += f": {word(new.sign)}"
    return [
        f"{old.value:+.2f}",
        *spans,
        *ps,
        f"{old.detectable:.1f}",
        f"{new.detectable:.1f}",
        change,
    ]


def word(sign: int) -> str:
    return {1: "a gain", -1: "a loss", 0: "none established"}[sign]


Effects = dict[tuple[str, str], dict[str, Effect]]


def again(folder: Path, report: dict[str, Any], old: Analysis) -> tuple[Effects, str]:
    """The tested figures of each contrast, and what they were computed from."""
    if old.clusters.unit == "image" and (folder / "ranks.npz").exists():
        analysis = from_ranks(folder, report, old)
        return {
            (c.ours, c.theirs): {k: v for k, v in c.tested.items() if isinstance(v, Effect)}
            for c in analysis.contrasts
        }, "computed again from ranks.npz"
    return {
        (c.ours, c.theirs): {
            name: from_variances(effect, old.seeds, old.clusters.number)
            for name, effect in c.tested.items()
            if isinstance(effect, Effect)
        }
        for c in old.contrasts
    }, "from the published variances, since counts by tile and block were not kept"


def from_ranks(folder: Path, report: dict[str, Any], old: Analysis) -> Analysis:
    """Everything again; test images lie class by class, in the order of ``train_tiles``."""
    names = list(report["train_tiles"])
    train = np.repeat(np.arange(len(names)), list(report["train_tiles"].values()))
    facts = old.facts
    dominant = np.repeat(np.arange(len(names)), list(facts["test_tiles"].values()))
    with np.load(folder / "ranks.npz") as kept:
        pairs = {
            arm: [read(kept, arm, seed, facts["protocol"]) for seed in range(old.seeds)]
            for arm in old.arms
        }
    design = imbalance.Design({}, facts["ratio"])
    return analyse_ranks(pairs, dominant, None, Groups.of(train, names, facts["depth"]), design)


def read(kept: Any, arm: str, seed: int, protocol: str) -> Pair:
    t2i, i2t = (
        Ranks(*(kept[f"{arm}/{seed}/{protocol}/{way}/{part}"].astype(np.int64) for part in PARTS))
        for way in WAYS
    )
    return t2i, i2t


def from_variances(effect: Effect, seeds: int, clusters: int) -> Effect:
    """The test that the published standard deviations allow.

    ``cluster_sd`` came from a bootstrap, whose variance is (C − 1)/C of that over clusters.
    """
    of_seeds = (effect.seed_sd or 0.0) ** 2 / seeds
    of_clusters = effect.cluster_sd**2 * clusters / (clusters - 1)
    error = np.sqrt(of_seeds + of_clusters)
    share = np.array(of_seeds / error**2 if error else 0.0)
    spread = crossed.Spread(
        np.array(error), crossed.freedom_of(share, seeds, clusters), share, share
    )
    low, high = (effect.value + side * float(spread.reach) for side in (-1, 1))
    p = float(spread.p(np.array(effect.value)))
    return effect.model_copy(
        update={"interval": (low, high), "low": low, "p": p, "p_holm": p,
                "freedom": float(spread.freedom), "detectable": float(spread.detectable)}
    )  # fmt: skip


def adjust(effects: Effects, floor: str) -> None:
    """Holm's correction over the contrasts but those with the floor, once for each figure."""
    family = [by_name for (_, theirs), by_name in effects.items() if theirs != floor]
    for name in {name for by_name in family for name in by_name}:
        tested = [by_name for by_name in family if name in by_name]
        holm = intervals.holm([by_name[name].p for by_name in tested])
        for by_name, p in zip(tested, holm, strict=True):
            by_name[name] = by_name[name].model_copy(update={"p_holm": float(p)})


if __name__ == "__main__":
    main()
