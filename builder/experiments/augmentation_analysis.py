"""What the records of the augmentation experiment say: scores by arm, contrasts, power."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from builder.experiments import statistics
from builder.experiments.words import established, few, nearness, verdict
from builder.land.classes import CLASSES
from builder.land.columns import KINDS
from builder.retrieval import intervals, metrics
from builder.retrieval.ranks import Floats

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
            **statistics.contrast(
                parts[ours], parts[theirs], statistic, FIGURES, TESTED, resamples, seed
            ),
        }
        for ours, theirs, question in CONTRASTS
    ]
    statistics.correct(contrasts, TESTED, FLOOR)
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
            arm: statistics.figures(one, statistic, FIGURES, resamples, seed)
            for arm, one in parts.items()
        },
        "contrasts": contrasts,
        "resamples": resamples,
    }


def _named(shares: Floats) -> dict[str, float]:
    return {name: round(float(one), 5) for name, one in zip(CLASSES, shares, strict=True)}


_EMPTY = "no test tile has pixels of these classes"


def learned(analysis: Mapping[str, Any]) -> bool:
    """Whether the model trained on real rows beats calling everything the commonest class."""
    return established(analysis["contrasts"], "real", FLOOR, "macro F1") > 0


def unfound(analysis: Mapping[str, Any]) -> list[str]:
    """Classes of the test tiles of which no trained arm gets any pixel right."""
    arms = [one for name, one in analysis["arms"].items() if name != FLOOR]
    return [k for k in CLASSES if all(one[f"F1 {k}"]["value"] == 0 for one in arms)]


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
    if lost := unfound(analysis):
        lines.append(
            f"No arm finds {', '.join(lost)} at all: their F1 is 0 everywhere, and whether "
            "synthetic tiles help them is not known. Train longer or a larger model."
        )
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
