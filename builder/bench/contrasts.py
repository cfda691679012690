"""What the records of the imbalance experiment say: figures by arm, contrasts, power, verdicts."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from builder.bench import intervals, metrics, seeded
from builder.bench.protocol import Pair
from builder.bench.ranks import Floats, Ints
from builder.landcover import CLASSES

MARGIN = 1.0
"""Loss of mR, in percentage points, below which an arm counts as not worse."""
FIGURES = ("t2i R@1", "t2i R@5", "t2i R@10", "i2t R@1", "i2t R@5", "i2t R@10", "mR",
           "head R@10", "tail R@10")  # fmt: skip
TESTED = ("mR", "tail R@10")
FLOOR = "shuffled"
"""The arm that the others must beat before they are compared; its test gates the rest and so
takes no part in Holm's correction."""
_K = len(CLASSES)


def pairs_at(ratio: float, arms: Sequence[str]) -> list[tuple[str, str, str]]:
    """(arm, against, question) of every contrast whose arms there are."""
    even, some = f"balanced-{ratio:g}", f"random-{ratio:g}"
    wanted = [
        (even, "real", "does balanced synthesis help or hurt?"),
        (even, "oversampled", "does it beat repeating real rows to the same class shares?"),
        (even, some, "does balance matter, beyond more rows?"),
        ("filtered", even, "does filtering the synthetic rows matter?"),
        ("synthetic", "real", "can synthetic rows replace real ones?"),
        ("real", "shuffled", "did the model learn from captions at all?"),
        ("stripped", "real", "what do numbers in the captions change?"),
    ]
    return [one for one in wanted if one[0] in arms and one[1] in arms]


def sums(pair: Pair, dominant: Ints, cluster: Ints, clusters: int) -> Floats:
    """(clusters, 6 + 14 + 2 + 14): hits at 1, 5, 10 of both ways, hits at 10 by dominant class,
    then the queries and the queries by class. One caption an image, (N,) queries each way."""
    columns: list[npt.NDArray[np.float64]] = []
    member = np.eye(_K)[dominant]
    for one in pair:
        columns += [metrics.credit(one, k) for k in metrics.KS]
    for one in pair:
        columns += list((member * metrics.credit(one, 10)[:, None]).T)
    ones = np.ones(len(dominant))
    columns += [ones, ones, *member.T, *member.T]
    return intervals.cluster_sums(np.stack(columns, axis=1), cluster, clusters)[:, :-1]


def figures(totals: Floats, head: Sequence[int], tail: Sequence[int]) -> Floats:
    """Totals (B, 36) → (B, 9) in per cent, as in `FIGURES`; NaN where a group has no query."""
    recalls = 100 * totals[:, :6] / np.repeat(np.maximum(totals[:, 20:22], 1), 3, axis=1)
    hits, queries = totals[:, 6:20], totals[:, 22:36]
    with np.errstate(invalid="ignore", divide="ignore"):
        by_class = 100 * hits / queries
    groups = []
    for group in (head, tail):
        columns = by_class[:, [*group, *(k + _K for k in group)]]
        there = ~np.isnan(columns)
        total = np.where(there, columns, 0).sum(1)
        with np.errstate(invalid="ignore", divide="ignore"):
            groups.append(total / there.sum(1))
    return np.concatenate([recalls, recalls.mean(1, keepdims=True), np.stack(groups, 1)], axis=1)


def analyse(
    ranks: Mapping[str, Sequence[Pair]],
    dominant: Ints,
    blocks: npt.ArrayLike | None,
    train_dominant: Ints,
    ratio: float,
    *,
    resamples: int = intervals.RESAMPLES,
    seed: int = 0,
) -> dict[str, Any]:
    """Figures with intervals by arm, and contrasts paired by seed and cluster.

    ``ranks``: arm → one pair of ranks per seed, the same seeds in every arm. Head and tail are
    classes by their number of real train tiles: the tail are the rarest that together hold at
    most a fifth. `seeded` says how contrasts are tested; Holm's correction runs over them, once
    for mR and once for the tail.
    """
    images = len(dominant)
    cluster, clusters = intervals.codes(np.arange(images) if blocks is None else blocks)
    tail = metrics.tail(train_dominant, _K)
    head = [k for k in range(_K) if k not in tail and (train_dominant == k).any()]
    parts = {
        arm: np.stack([sums(pair, dominant, cluster, clusters) for pair in pairs])
        for arm, pairs in ranks.items()
    }

    def statistic(totals: Floats) -> Floats:
        return figures(totals, head, tail)

    contrasts = [
        {
            "ours": ours,
            "theirs": theirs,
            "question": question,
            **seeded.contrast(
                parts[ours], parts[theirs], statistic, FIGURES, TESTED, resamples, seed
            ),
        }
        for ours, theirs, question in pairs_at(ratio, list(parts))
    ]
    seeded.correct(contrasts, TESTED, FLOOR)
    return {
        "images": images,
        "clusters": {"unit": "image" if blocks is None else "block", "number": clusters},
        "seeds": len(next(iter(parts.values()))),
        "ratio": ratio,
        "head": [CLASSES[k] for k in head],
        "tail": [CLASSES[k] for k in tail],
        "test_tiles": {CLASSES[k]: int((dominant == k).sum()) for k in range(_K)},
        "train_tiles": {CLASSES[k]: int((train_dominant == k).sum()) for k in range(_K)},
        "chance": {"mR": float(np.mean([min(100.0, 100 * k / images) for k in metrics.KS]))},
        "arms": {
            arm: seeded.figures(one, statistic, FIGURES, resamples, seed)
            for arm, one in parts.items()
        },
        "contrasts": contrasts,
        "resamples": resamples,
    }
