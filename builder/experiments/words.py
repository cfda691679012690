"""Plain words for figures and contrasts of experiments over seeds."""

from collections.abc import Mapping, Sequence
from typing import Any

SIGNIFICANT = 0.05
LEAST = 0.001
"""Smaller p-values are not told apart."""
WHOLE = 100.0
"""Figures lie between 0 and this: no difference can reach it."""
FEW = 10
"""Fewer clusters than this and a bootstrap over them is rough."""


def verdict(found: Mapping[str, Any], empty: str) -> str:
    """One contrast of one figure in words; ``empty`` says why there may be no figure."""
    if found["difference"] is None:
        return f"{empty}; nothing can be said"
    low, high = found["interval"]
    text = f"{found['difference']:+.2f} points (95 % {low:+.2f} … {high:+.2f}"
    text += f", {p_text(found['p_holm'])})"
    if not found["cluster_sd"] and not found["seed_sd"]:
        return f"{text}: the same in every seed and cluster, so its spread cannot be measured"
    if found["p_holm"] < SIGNIFICANT:
        return f"{text}: {'a gain' if found['difference'] > 0 else 'a loss'}"
    if found["detectable"] >= WHOLE:
        return f"{text}: no difference established, and none could be, whatever its size"
    return (
        f"{text}: no difference established; one below {found['detectable']:.1f} points would "
        "go unseen (80 % power, before Holm)"
    )


def p_text(p: float) -> str:
    """A p-value to three places: "p = 0.031", or "p < 0.001"."""
    return f"p = {p:.3f}" if p >= LEAST else f"p < {LEAST:g}"


def p_cell(p: float) -> str:
    """The same, as a table has it."""
    return p_text(p).removeprefix("p ").removeprefix("= ")


def detectable_cell(points: float) -> str:
    """The smallest difference that would be found; a dash where no difference could be."""
    return "none" if points >= WHOLE else f"{points:.2f}"


def between(contrasts: Sequence[Mapping[str, Any]], ours: str, theirs: str) -> Any:
    """The contrast of two arms; None where it was not made."""
    for one in contrasts:
        if (one["ours"], one["theirs"]) == (ours, theirs):
            return one
    return None


def established(contrasts: Sequence[Mapping[str, Any]], ours: str, theirs: str, figure: str) -> int:
    """1 where ``ours`` is established to be above ``theirs``, -1 below, 0 where neither is."""
    found = between(contrasts, ours, theirs)
    if found is None or found[figure]["difference"] is None:
        return 0
    if found[figure]["p_holm"] >= SIGNIFICANT:
        return 0
    return 1 if found[figure]["difference"] > 0 else -1


def few(clusters: Mapping[str, Any]) -> list[str]:
    """A warning where there are too few clusters for good intervals."""
    if clusters["number"] >= FEW:
        return []
    return [
        f"Only {clusters['number']} {clusters['unit']}s: intervals and tests over so few are "
        "rough and may be too narrow."
    ]


def nearness(release: Mapping[str, Any]) -> list[str]:
    """What was not checked, or kept, of test tiles near train tiles."""
    if not release["checks"]["distance_checked"]:
        return ["Places of tiles are unknown, so nearness of test to train is unchecked."]
    near = release["checks"]["near"]
    if near["rows"] and near["rule"] == "keep":
        return [f"{near['rows']} test tiles lie near train tiles and were kept."]
    return []


def cell(figure: Mapping[str, Any], digits: int = 2) -> str:
    """A figure and its interval, as a table has it."""
    if figure["value"] is None:
        return "–"
    low, high = figure["interval"]
    return f"{figure['value']:.{digits}f} ({low:.{digits}f}–{high:.{digits}f})"
