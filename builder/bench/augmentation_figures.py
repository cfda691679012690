"""What the records of the augmentation experiment say: scores by arm, contrasts, power."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from builder.bench import intervals, metrics, seeded
from builder.bench.ranks import Floats
from builder.landcover import CLASSES

_K = len(CLASSES)
FLOOR = "constant"
"""Every pixel called the commonest class: what a model must beat before arms are compared."""
POOLED = ("macro F1", "tail F1", "mean IoU", "accuracy")
BY_CLASS = tuple(f"{figure} {name}" for figure in ("F1", "IoU") for name in CLASSES)
FIGURES = (*POOLED, *BY_CLASS)
TESTED = ("macro F1", "tail F1")
CONTRASTS = (
    ("balanced", "real", "do balanced synthetic tiles help?"),
    ("balanced", "oversampled", "do they beat repeating real tiles to the same class shares?"),
    ("balanced", "natural", "does balance matter, beyond more tiles?"),
    ("natural", "real", "do synthetic tiles of natural shares help?"),
    ("oversampled", "real", "does repeating rare real tiles help?"),
    ("synthetic", "real", "can synthetic tiles replace real ones?"),
    ("real", FLOOR, "did the model learn more than the commonest class?"),
)
"""(arm, against, question)."""


def scores(totals: Floats, tail: Sequence[int]) -> Floats:
    """Pixel counts (B, 21) → figures (B, 18) in per cent, as in `FIGURES`.

    F1 = 2TP/(2TP+FP+FN) and IoU = TP/(TP+FP+FN) over all pixels pooled; NaN for a class that the
    truth lacks. Macro means run over the classes that the truth has.
    """
    hit, truth, found = totals[:, :_K], totals[:, _K : 2 * _K], totals[:, 2 * _K :]
    there = truth > 0
    with np.errstate(invalid="ignore", divide="ignore"):
        f1 = np.where(there, 100 * 2 * hit / (truth + found), np.nan)
        iou = np.where(there, 100 * hit / (truth + found - hit), np.nan)
        accuracy = 100 * hit.sum(1) / truth.sum(1)
    means = [_mean(f1), _mean(f1[:, list(tail)]), _mean(iou), accuracy]
    return np.concatenate([np.stack(means, axis=1), f1, iou], axis=1)


def _mean(columns: Floats) -> Floats:
    there = ~np.isnan(columns)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(np.where(there, columns, 0).sum(1) / there.sum(1))


def analyse(
    counts: Mapping[str, Sequence[Floats]],
    blocks: Sequence[str] | None,
    train_shares: Floats,
    *,
    resamples: int = intervals.RESAMPLES,
    seed: int = 0,
) -> dict[str, Any]:
    """Figures with intervals by arm, and contrasts paired by seed and cluster.

    ``counts``: arm → one (n, 21) of each seed, over the same n test tiles; ``blocks`` (n) names
    the spatial block of each, None for tiles as their own clusters. ``train_shares`` (7,) are
    those of real train pixels: the tail are the rarest classes that together hold at most a
    fifth. `seeded` says how contrasts are tested; Holm's correction runs over them, once for
    each of `TESTED`.
    """
    first = next(iter(counts.values()))[0]
    cluster, clusters = intervals.codes(np.arange(len(first)) if blocks is None else blocks)
    tail = metrics.rarest(train_shares)
    parts = {
        arm: np.stack([intervals.cluster_sums(one, cluster, clusters)[:, :-1] for one in found])
        for arm, found in counts.items()
    }

    def statistic(totals: Floats) -> Floats:
        return scores(totals, tail)

    contrasts = [
        {
            "ours": ours,
            "theirs": theirs,
            "question": question,
            **seeded.contrast(
                parts[ours], parts[theirs], statistic, FIGURES, TESTED, resamples, seed
            ),
        }
        for ours, theirs, question in CONTRASTS
    ]
    seeded.correct(contrasts, TESTED, FLOOR)
    truth = first[:, _K : 2 * _K]
    return {
        "tiles": len(first),
        "clusters": {"unit": "tile" if blocks is None else "block", "number": clusters},
        "seeds": len(next(iter(parts.values()))),
        "tail": [CLASSES[k] for k in tail],
        "test_shares": _named(truth.sum(0) / truth.sum()),
        "test_clusters": {
            name: int(((parts["real"][0][:, _K + k]) > 0).sum()) for k, name in enumerate(CLASSES)
        },
        "train_shares": _named(train_shares),
        "arms": {
            arm: seeded.figures(one, statistic, FIGURES, resamples, seed)
            for arm, one in parts.items()
        },
        "contrasts": contrasts,
        "resamples": resamples,
    }


def _named(shares: Floats) -> dict[str, float]:
    return {name: round(float(one), 5) for name, one in zip(CLASSES, shares, strict=True)}
