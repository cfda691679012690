"""Plots of figures with intervals and seeds, by arm, for the reports of experiments."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from builder.core.files import atomic

# Okabe & Ito's palette (2008), told apart with every common colour vision deficiency.
BLUE, ORANGE, GREY = "#0072B2", "#E69F00", "#999999"
GREEN, PINK = "#009E73", "#CC79A7"


def panels(
    width: float, height: float, count: int = 2, **options: Any
) -> tuple[Figure, Sequence[Axes]]:
    """A figure of panels side by side that needs no display."""
    figure = Figure(figsize=(width, height), dpi=130, layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.subplots(1, count, squeeze=False, **options)[0]


def draw(
    axes: Axes,
    series: Mapping[str, tuple[Sequence[Mapping[str, Any]], str]],
    rows: Sequence[str],
    label: str,
) -> None:
    """One series a colour over common rows: the value, its interval as a line, seeds as dots.

    ``series``: name → (one figure of `seeded.figures` per row, colour).
    """
    step = min(0.3, 0.8 / max(1, len(series)))
    for place, (name, (found, colour)) in enumerate(series.items()):
        shift = (place - (len(series) - 1) / 2) * step
        for row, one in enumerate(found):
            if one["value"] is None:
                continue
            y = row + shift
            axes.plot(one["interval"], [y, y], color=colour, linewidth=2, alpha=0.6)
            seeds = [x for x in one["seeds"] if x is not None]
            axes.plot(seeds, [y] * len(seeds), ".", color=colour, markersize=5, alpha=0.6)
            axes.plot([one["value"]], [y], "o", color=colour, markersize=6, clip_on=False)
        axes.plot([], [], "o", color=colour, label=name)
    axes.set_yticks(range(len(rows)), rows)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_xlabel(label)
    axes.set_xlim(0, None)
    axes.xaxis.grid(visible=True, color="#dddddd", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(axis="y", length=0)


def legend(axes: Axes, columns: int = 2) -> None:
    """The legend above a panel."""
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=columns, frameon=False)


def save(figure: Figure, path: Path) -> None:
    """Write a PNG whose bytes are equal for equal numbers."""
    with atomic(path) as temporary:
        figure.savefig(temporary, format="png", metadata={"Software": None})
