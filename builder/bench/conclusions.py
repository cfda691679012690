"""What the imbalance experiment allows to say, and what it does not, in plain sentences."""

from collections.abc import Mapping
from typing import Any

from builder.bench.contrasts import FLOOR, MARGIN, TESTED
from builder.bench.verdicts import FEW, between, established, few, nearness, p_text, verdict

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
