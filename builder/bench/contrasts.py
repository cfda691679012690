"""What the records of the imbalance experiment say: figures by arm, contrasts, power, verdicts."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.stats import t as student

from builder.bench import intervals, metrics
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


def hierarchical(parts: Floats, resamples: int = intervals.RESAMPLES, seed: int = 0) -> Floats:
    """Totals (B, K) of draws of seeds, then of clusters, with replacement; ``parts`` (S, C, K)."""
    rng = np.random.default_rng(seed)
    seeds, clusters, width = parts.shape
    out = np.empty((resamples, width))
    for b in range(resamples):
        weight = np.bincount(rng.integers(0, clusters, clusters), minlength=clusters)
        drawn = np.bincount(rng.integers(0, seeds, seeds), minlength=seeds) / seeds
        out[b] = weight @ np.tensordot(drawn, parts, axes=1)
    return out


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
    most a fifth. A contrast's p-value is Student's t with seeds − 1 degrees of freedom on its
    difference over √(bootstrap variance over clusters + variance over seeds / seeds), and ``low``
    the lower end of the 95 % interval that follows from the same; Holm's
    correction runs over the contrasts, once for mR and once for the tail. ``detectable`` is the
    difference that this test would find with 80 % power, from the same measured variances.
    """
    images = len(dominant)
    cluster, clusters = intervals.codes(np.arange(images) if blocks is None else blocks)
    tail = metrics.tail(train_dominant, _K)
    head = [k for k in range(_K) if k not in tail and (train_dominant == k).any()]
    parts = {
        arm: np.stack([sums(pair, dominant, cluster, clusters) for pair in pairs])
        for arm, pairs in ranks.items()
    }
    seeds = len(next(iter(parts.values())))
    told = {
        arm: {
            name: {
                "value": _number(point),
                "interval": _span(column),
                "seeds": [_number(x) for x in each],
            }
            for name, point, column, each in zip(
                FIGURES,
                figures(one.mean(0).sum(0)[None], head, tail)[0],
                figures(hierarchical(one, resamples, seed), head, tail).T,
                figures(one.sum(1), head, tail).T,
                strict=True,
            )
        }
        for arm, one in parts.items()
    }
    contrasts = []
    for ours, theirs, question in pairs_at(ratio, list(parts)):
        found = _contrast(parts[ours], parts[theirs], head, tail, resamples, seed)
        contrasts.append({"ours": ours, "theirs": theirs, "question": question, **found})
    for name in TESTED:
        for one in contrasts:
            one[name]["p_holm"] = one[name]["p"]
        rows = [
            one[name] for one in contrasts if one[name]["p"] is not None and one["theirs"] != FLOOR
        ]
        for row, p in zip(rows, intervals.holm([row["p"] for row in rows]), strict=True):
            row["p_holm"] = float(p)
    return {
        "images": images,
        "clusters": {"unit": "image" if blocks is None else "block", "number": clusters},
        "seeds": seeds,
        "ratio": ratio,
        "head": [CLASSES[k] for k in head],
        "tail": [CLASSES[k] for k in tail],
        "test_tiles": {CLASSES[k]: int((dominant == k).sum()) for k in range(_K)},
        "train_tiles": {CLASSES[k]: int((train_dominant == k).sum()) for k in range(_K)},
        "chance": {"mR": float(np.mean([min(100.0, 100 * k / images) for k in metrics.KS]))},
        "arms": told,
        "contrasts": contrasts,
        "resamples": resamples,
    }


def _contrast(
    ours: Floats, theirs: Floats, head: list[int], tail: list[int], resamples: int, seed: int
) -> dict[str, Any]:
    width, seeds = ours.shape[2], len(ours)
    both = np.concatenate([ours, theirs], axis=2)

    def difference(totals: Floats) -> Floats:
        return figures(totals[:, :width], head, tail) - figures(totals[:, width:], head, tail)

    draws = difference(hierarchical(both, resamples, seed))
    over_clusters = difference(intervals.resampled(both.mean(0), resamples, seed))
    each = difference(both.sum(1))
    points = difference(both.mean(0).sum(0)[None])[0]
    told: dict[str, Any] = {}
    for n, name in enumerate(FIGURES):
        if name not in TESTED:
            continue
        point = _number(points[n])
        if point is None:
            told[name] = {"difference": None, "interval": None, "p": None}
            continue
        cluster_sd = float(np.nanstd(over_clusters[:, n]))
        seed_sd = float(np.std(each[:, n], ddof=1))
        error = np.sqrt(cluster_sd**2 + seed_sd**2 / seeds)
        p = float(2 * student.sf(abs(point) / error, seeds - 1)) if error > 0 else 1.0
        told[name] = {
            "difference": point,
            "interval": _span(draws[:, n]),
            "seeds": [_number(x) for x in each[:, n]],
            "cluster_sd": cluster_sd,
            "seed_sd": seed_sd,
            "low": point - float(student.ppf(0.975, seeds - 1)) * float(error),
            "p": p,
            "detectable": intervals.detectable(1, cluster_sd**2 / 1e4, seeds, seed_sd),
        }
    return told


def _number(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


def _span(column: Floats) -> list[float] | None:
    known = column[~np.isnan(column)]
    return intervals.percentile(known) if len(known) else None
