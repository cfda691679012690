"""What the records of the imbalance experiment say: figures by arm, contrasts, ratios, power."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from builder.experiments import statistics
from builder.experiments.words import FEW, between, established, few, nearness, p_text, verdict
from builder.land.classes import CLASSES
from builder.retrieval import intervals, metrics
from builder.retrieval.ranks import Floats, Ints, Pair

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
            statistics.contrast(parts[a], parts[b], statistic, names, TESTED, resamples, seed),
            groups,
        )
        for a, b, question in pairs_at(ratio, list(parts))
    ]
    statistics.correct(contrasts, TESTED, FLOOR)
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
            arm: _by_group(statistics.figures(one, statistic, names, resamples, seed), groups)
            for arm, one in parts.items()
        },
        "contrasts": contrasts,
        "ratios": [
            {"arm": f"{kind}-{r:g}", "kind": kind, "ratio": r}
            | _by_group(
                statistics.differences(
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


_EMPTY = "no test tile is dominated by these classes"


def learned(analysis: Mapping[str, Any]) -> bool:
    """Whether the model trained on real pairs beats the one trained on shuffled captions."""
    return established(analysis["contrasts"], "real", FLOOR, "mR") > 0


def conclusions(analysis: Mapping[str, Any]) -> list[str]:
    """The answer first: whether any may be drawn, then gain or loss, ratios and classes."""
    if not learned(analysis):
        lines = [
            "NO CONCLUSION about synthetic data can be drawn from this run: the model trained on "
            "real pairs cannot be told from one trained on shuffled captions, so differences "
            "between arms say nothing about what captions and tiles teach. Train longer, on more "
            "rows or with a larger model."
        ]
    else:
        lines = ["The models learnt from captions: real beats shuffled captions."]
        lines += [*_answer(analysis), _ratios(analysis), *gains_and_losses(analysis)]
    return lines


def in_words(analysis: Mapping[str, Any]) -> list[str]:
    """One plain sentence per contrast and tested figure."""
    return [
        f"{one['ours']} − {one['theirs']}, {name}: {verdict(one[name], _EMPTY)}"
        for one in analysis["contrasts"]
        for name in TESTED
    ]


def points(found: Mapping[str, Any]) -> str:
    """A difference with its interval."""
    low, high = found["interval"]
    return f"{found['difference']:+.2f} points (95 % {low:+.2f} … {high:+.2f})"


def _answer(analysis: Mapping[str, Any]) -> list[str]:
    even = f"balanced-{analysis['ratio']:g}"
    lines = []
    for theirs, what in (("real", "real rows alone"), ("oversampled", "real rows oversampled")):
        if found := between(analysis["contrasts"], even, theirs):
            sign = established(analysis["contrasts"], even, theirs, "mR")
            says = ("is not told from", "improves on", "degrades against")[sign]
            tail = found["tail"]
            about = "; the tail is not measured" if tail["difference"] is None else (
                f"; tail {points(tail)}, {p_text(tail['p_holm'])}"
            )  # fmt: skip
            lines.append(
                f"Class-balanced synthesis at ratio {analysis['ratio']:g} {says} {what}: mR "
                f"{points(found['mR'])}, {p_text(found['mR']['p_holm'])}{about}."
            )
    if found := between(analysis["contrasts"], even, "real"):
        low = found["mR"]["low"]  # the bootstrap of few seeds and blocks is too narrow for this
        lines.append(
            f"Non-inferiority: {even} is {'' if low > -MARGIN else 'NOT shown to be '}within "
            f"{MARGIN:g} point of real in mR (it may be {low:+.2f}, by Student's t at 95 %)."
        )
    return lines


def _ratios(analysis: Mapping[str, Any]) -> str:
    told = [
        f"{one['arm']} {one['mR']['difference']:+.2f} ({_apart(one['mR'])})"
        for one in analysis["ratios"]
    ]
    return f"mR against real by ratio (intervals, no test): {', '.join(told)}."


def _apart(found: Mapping[str, Any]) -> str:
    low, high = found["interval"]
    return "below 0" if high < 0 else "above 0" if low > 0 else "interval holds 0"


def gains_and_losses(analysis: Mapping[str, Any]) -> list[str]:
    """Classes whose interval, balanced against real at the main ratio, leaves 0 out."""
    found = between(analysis["contrasts"], f"balanced-{analysis['ratio']:g}", "real")
    if not found:
        return []
    lines = []
    for what, sign in (("gain", 1), ("loss", -1)):
        named = [
            f"{name} {points(one)}"
            for name, one in found["classes"].items()
            if one["interval"] and min(sign * x for x in one["interval"]) > 0
        ]
        lines.append(
            f"Classes with a {what} of R@{analysis['depth']} at that ratio (interval without 0, "
            f"no test): {'; '.join(named) or 'none'}."
        )
    return lines


def limits(told: Mapping[str, Any]) -> list[str]:
    """What a run cannot show, whatever its figures are; ``told`` is the report so far."""
    analysis, facts, train = told["analysis"], told["release"], told["train"]
    units, leak = analysis["clusters"], told["source_leak_auc"]
    start = told["settings"]["weights"]
    model = "fine-tuned from given weights" if start else "trained from scratch"
    lines = [
        f"{analysis['images']:,} test tiles in {units['number']:,} {units['unit']}s and "
        f"{analysis['seeds']} seeds: the power above is what there is.",
        f"A dual encoder {model}: other models may react otherwise, and absolute figures are no "
        "benchmark of retrieval.",
        f"{train['synthetic']:,} synthetic rows of one generator beside {train['real']:,} real "
        "ones: other generators and larger ratios are not covered.",
        "Equal steps and batch size in all arms: arms with more distinct rows see each of them "
        "less often.",
    ]
    lines += few(units)
    lines += nearness(facts) if "checks" in facts else []
    if leak is None:
        lines.append("Too few captions to tell whether words give away the source.")
    else:
        lines.append(
            f"Words tell synthetic from real captions of like class shares with AUC {leak:.2f} "
            "(0.5 or less: not at all)" + ("; the stream leaks the source." if leak > 0.6 else ".")
        )
    counts = analysis["test_tiles"]
    scarce = [f"{n} ({counts[n]})" for n in analysis["tail"] if 0 < counts[n] < FEW]
    if scarce:
        lines.append(
            f"Few test tiles are dominated by {', '.join(scarce)}: the tail is the mean over "
            "classes, so it hangs on these, and their intervals are too narrow."
        )
    empty = [name for name in analysis["tail"] if not analysis["test_tiles"][name]]
    if not analysis["tail"]:
        lines.append("No class is rare enough among train tiles to be a tail.")
    elif empty:
        lines.append(f"No test tile is dominated by {', '.join(empty)}: unmeasured.")
    lines += facts.get("limits", ())
    return lines + [f"Not run — {one}." for one in told["missing_arms"]]
