"""What the records of the imbalance experiment say: figures by arm, contrasts, ratios, power."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from builder.bench import intervals, metrics, seeded
from builder.bench.ranks import Floats, Ints, Pair
from builder.landcover import CLASSES

MARGIN = 1.0
"""Loss of mR, in percentage points, below which an arm counts as not worse."""
FIGURES = ("t2i R@1", "t2i R@5", "t2i R@10", "i2t R@1", "i2t R@5", "i2t R@10", "mR",
           "head", "tail")  # fmt: skip
"""Figures of every arm; head and tail are the mean of R@K over their classes, both ways."""
TESTED = ("mR", "tail")
COMPARED = ("mR", "head", "tail")
FLOOR = "shuffled"
"""The arm that the others must beat before they are compared; its test gates the rest and so
takes no part in Holm's correction."""
DEPTH = 10
_SIX = 6


@dataclass(frozen=True)
class Groups:
    """Class names, which of them are head and tail, and the K of their R@K."""

    names: tuple[str, ...]
    head: list[int]
    tail: list[int]
    depth: int = DEPTH

    @staticmethod
    def of(train_dominant: Ints, names: Sequence[str] = CLASSES, depth: int = DEPTH) -> "Groups":
        """By number of real train tiles: the tail are the rarest that together hold at most a
        fifth."""
        tail = metrics.tail(train_dominant, len(names))
        head = [k for k in range(len(names)) if k not in tail and (train_dominant == k).any()]
        return Groups(tuple(names), head, tail, depth)


def pairs_at(ratio: float, arms: Sequence[str]) -> list[tuple[str, str, str]]:
    """(arm, against, question) of every contrast whose arms there are."""
    even, some = f"balanced-{ratio:g}", f"natural-{ratio:g}"
    wanted = [
        (even, "real", "does balanced synthesis help or hurt?"),
        (even, "oversampled", "does it beat repeating real rows to the same class shares?"),
        (even, some, "does balance matter, beyond more rows?"),
        ("oversampled", "real", "what does balance alone do, with no synthetic row?"),
        ("filtered", even, "does filtering the synthetic rows matter?"),
        ("synthetic", "real", "can synthetic rows replace real ones?"),
        ("real", "shuffled", "did the model learn from captions at all?"),
        ("real", "zero-shot", "what does training on the real rows add?"),
        ("stripped", "real", "what do numbers in the captions change?"),
    ]
    return [one for one in wanted if one[0] in arms and one[1] in arms]


def sums(pair: Pair, dominant: Ints, cluster: Ints, clusters: int, groups: Groups) -> Floats:
    """(clusters, 6 + 2K + 2 + 2K): hits at 1, 5, 10 of both ways, hits at ``depth`` by dominant
    class, then the queries and the queries by class. One caption an image, (N,) queries a way."""
    member = np.eye(len(groups.names))[dominant]
    columns = [metrics.credit(one, k) for one in pair for k in metrics.KS]
    for one in pair:
        columns += list((member * metrics.credit(one, groups.depth)[:, None]).T)
    ones = np.ones(len(dominant))
    columns += [ones, ones, *member.T, *member.T]
    return intervals.cluster_sums(np.stack(columns, axis=1), cluster, clusters)[:, :-1]


def by_class(totals: Floats, groups: Groups) -> Floats:
    """Totals (B, …) as in `sums` → R@depth of each class, mean of both ways, (B, K) per cent."""
    k = len(groups.names)
    with np.errstate(invalid="ignore", divide="ignore"):
        ways = 100 * totals[:, _SIX : _SIX + 2 * k] / totals[:, _SIX + 2 * k + 2 :]
    return (ways[:, :k] + ways[:, k:]) / 2


def figures(totals: Floats, groups: Groups) -> Floats:
    """Totals (B, …) → (B, 9) in per cent, as in `FIGURES`; NaN where a group has no query."""
    queries = totals[:, _SIX + 2 * len(groups.names) :][:, :2]
    recalls = 100 * totals[:, :_SIX] / np.repeat(np.maximum(queries, 1), 3, axis=1)
    each = by_class(totals, groups)
    means = []
    for group in (groups.head, groups.tail):
        columns = each[:, group]
        there = ~np.isnan(columns)
        with np.errstate(invalid="ignore", divide="ignore"):
            means.append(np.where(there, columns, 0).sum(1) / there.sum(1))
    return np.concatenate([recalls, recalls.mean(1, keepdims=True), np.stack(means, 1)], axis=1)


def analyse(
    ranks: Mapping[str, Sequence[Pair]],
    dominant: Ints,
    blocks: npt.ArrayLike | None,
    groups: Groups,
    ratios: Sequence[float],
    ratio: float,
    *,
    resamples: int = intervals.RESAMPLES,
    seed: int = 0,
) -> dict[str, Any]:
    """Figures with intervals by arm, contrasts paired by seed and cluster, and arms by ratio.

    ``ranks``: arm → one pair of ranks per seed, the same seeds in every arm (an arm with a single
    pair stands for all seeds). `seeded` says how contrasts are tested; Holm's correction runs
    over them, once for mR and once for the tail. What is told by class and by ratio has intervals
    and no tests: it describes, and proves nothing.
    """
    cluster, clusters = intervals.codes(np.arange(len(dominant)) if blocks is None else blocks)
    seeds = max(len(pairs) for pairs in ranks.values())
    parts = {
        arm: np.stack([sums(pair, dominant, cluster, clusters, groups) for pair in pairs])
        for arm, pairs in ranks.items()
    }
    parts = {a: np.repeat(p, seeds, 0) if len(p) == 1 else p for a, p in parts.items()}
    names = (*FIGURES, *groups.names)

    def statistic(totals: Floats) -> Floats:
        return np.concatenate([figures(totals, groups), by_class(totals, groups)], axis=1)

    contrasts = [
        {"ours": a, "theirs": b, "question": question}
        | _by_group(
            seeded.contrast(parts[a], parts[b], statistic, names, TESTED, resamples, seed), groups
        )
        for a, b, question in pairs_at(ratio, list(parts))
    ]
    seeded.correct(contrasts, TESTED, FLOOR)
    mixed = [(k, r) for k in ("natural", "balanced") for r in ratios if f"{k}-{r:g}" in parts]
    return {
        "images": len(dominant),
        "clusters": {"unit": "image" if blocks is None else "block", "number": clusters},
        "seeds": seeds,
        "ratio": ratio,
        "depth": groups.depth,
        "head": [groups.names[k] for k in groups.head],
        "tail": [groups.names[k] for k in groups.tail],
        "test_tiles": {n: int((dominant == k).sum()) for k, n in enumerate(groups.names)},
        "arms": {
            arm: _by_group(seeded.figures(one, statistic, names, resamples, seed), groups)
            for arm, one in parts.items()
        },
        "contrasts": contrasts,
        "ratios": [
            {"arm": f"{kind}-{r:g}", "kind": kind, "ratio": r}
            | _by_group(
                seeded.differences(
                    parts[f"{kind}-{r:g}"], parts["real"], statistic, names, resamples, seed
                ),
                groups,
            )
            for kind, r in mixed
        ],
        "resamples": resamples,
    }


def _by_group(told: dict[str, dict[str, Any]], groups: Groups) -> dict[str, Any]:
    """Figures, and under "classes" those of each class that has test tiles."""
    classes = {name: told[name] for name in groups.names if told[name]["interval"]}
    return {name: told[name] for name in FIGURES} | {"classes": classes}
