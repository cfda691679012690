"""Plots of the imbalance experiment: figures by arm, and differences by ratio and by class."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from builder.bench.arm_plot import BLUE, GREEN, GREY, ORANGE, draw, legend, panels, save


def by_arm(analysis: Mapping[str, Any], path: Path) -> None:
    """mR of every arm with interval and seeds, beside head and tail, as a PNG."""
    arms = analysis["arms"]
    figure, (left, right) = panels(10, 1.6 + 0.42 * len(arms), sharey=True)

    def series(**colours: str) -> dict[str, Any]:
        return {name: ([one[name] for one in arms.values()], c) for name, c in colours.items()}

    draw(left, series(mR=BLUE), list(arms), "mean recall, %")
    left.axvline(analysis["chance"]["mR"], color="#333333", linestyle=":", label="chance")
    label = f"mean of R@{analysis['depth']} over classes, %"
    draw(right, series(head=GREY, tail=ORANGE), list(arms), label)
    for axes in (left, right):
        legend(axes)
    save(figure, path)


def by_ratio(analysis: Mapping[str, Any], path: Path) -> None:
    """Differences from the real arm by mixing ratio, natural and balanced, as a PNG."""
    ratios = sorted({one["ratio"] for one in analysis["ratios"]})
    figure, parts = panels(10, 3.4, 3)
    for axes, name in zip(parts, ("mR", "head", "tail"), strict=True):
        axes.axhline(0, color="#333333", linewidth=0.8)
        for kind, shift, colour in (("natural", -0.08, GREY), ("balanced", 0.08, BLUE)):
            for one in analysis["ratios"]:
                found = one[name]
                if one["kind"] != kind or found["difference"] is None:
                    continue
                x = ratios.index(one["ratio"]) + shift
                axes.plot([x, x], found["interval"], color=colour, linewidth=2, alpha=0.6)
                axes.plot([x], [found["difference"]], "o", color=colour, markersize=7)
            axes.plot([], [], "o", color=colour, label=kind)
        axes.set_xticks(range(len(ratios)), [f"{one:g}" for one in ratios])
        axes.set_xlim(-0.5, len(ratios) - 0.5)
        axes.set_xlabel("synthetic rows per real one")
        axes.set_ylabel(f"{name}, points from real" if name == "mR" else name)
        _plain(axes)
    save(figure, path)


def by_class(analysis: Mapping[str, Any], path: Path) -> None:
    """Differences from the real arm by dominant class, as a PNG: balanced at the main ratio, and
    real rows repeated to the same shares."""
    told = {
        one["ours"]: one["classes"]
        for one in analysis["contrasts"]
        if one["theirs"] == "real" and one["ours"] != "synthetic"
    }
    names = [n for n in (*analysis["head"], *analysis["tail"]) if analysis["test_tiles"][n]]
    figure, (axes,) = panels(8, 1.4 + 0.45 * len(names), 1)
    axes.axvline(0, color="#333333", linewidth=0.8)
    colours = (BLUE, GREEN, GREY)
    for i, (arm, classes) in enumerate(told.items()):
        shift = (i - (len(told) - 1) / 2) * 0.25
        for y, name in enumerate(names):
            if name in classes:
                found = classes[name]
                axes.plot(found["interval"], [y + shift] * 2, color=colours[i % 3], alpha=0.6, lw=2)
                axes.plot([found["difference"]], [y + shift], "o", color=colours[i % 3])
        axes.plot([], [], "o", color=colours[i % 3], label=arm)
    labels = [f"{n} (tail)" if n in analysis["tail"] else n for n in names]
    axes.set_yticks(range(len(names)), labels)
    axes.invert_yaxis()
    axes.set_xlabel(f"R@{analysis['depth']}, points from real")
    _plain(axes)
    save(figure, path)


def _plain(axes: Any) -> None:
    axes.grid(visible=True, color="#dddddd", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(axis="y", length=0)
    legend(axes, 3)
