"""Figures: one palette, one style, and PNG bytes that are equal for equal numbers.

matplotlib is imported where a figure is drawn, so that commands which draw none start without it.
"""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np
import numpy.typing as npt

from builder.core.files import atomic

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe & Ito's palette (2008), distinct with every common colour vision deficiency.
BLUE, ORANGE, GREEN, PINK = "#0072B2", "#E69F00", "#009E73", "#CC79A7"
SKY, RED, GREY = "#56B4E9", "#D55E00", "#999999"
COLOURS = (BLUE, ORANGE, GREEN, PINK, SKY, RED, GREY)
INK, GRID = "#222222", "#dddddd"
"""Reference lines and outlines; grid lines."""

# A colour means one thing in every figure: real rows are blue and, where a figure takes them apart,
# their splits blue, pink and green; synthetic rows, which are nearly all for training, are orange.
KIND_COLOURS = {"real": BLUE, "synthetic": ORANGE}
SPLIT_COLOURS = {"train": BLUE, "validation": PINK, "test": GREEN}
PART_COLOURS = {
    **{f"real/{split}": colour for split, colour in SPLIT_COLOURS.items()},
    "synthetic/train": ORANGE,
    "synthetic/validation": RED,
    "synthetic/test": SKY,
}

DPI = 130
Direction = Literal["x", "y", "both"]


@dataclass(frozen=True)
class Point:
    """A value with its interval, and the values of single seeds; None where there is no value."""

    value: float | None
    interval: Sequence[float] | None
    seeds: Sequence[float | None] = ()


class Measured(Protocol):
    """What a point is drawn of: a `Point`, or anything else with its attributes."""

    @property
    def value(self) -> float | None: ...
    @property
    def interval(self) -> Sequence[float] | None: ...
    @property
    def seeds(self) -> Sequence[float | None]: ...


@dataclass(frozen=True)
class Panel:
    """Part of a figure: points of every row by name, in the colour of the name."""

    label: str
    rows: Mapping[str, Mapping[str, Measured]]
    colours: Mapping[str, str]
    chance: float | None = None
    differences: bool = False
    """Whether values lie on both sides of 0."""


def new_figure(width: float, height: float, dpi: int = DPI) -> "Figure":
    """An empty figure of ``width`` × ``height`` inches that needs no display."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=dpi, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def panels(
    width: float, height: float, rows: int = 1, columns: int = 1, dpi: int = DPI, **options: Any
) -> "tuple[Figure, list[Axes]]":
    """A figure and its panels, in reading order; ``options`` are those of `Figure.subplots`."""
    figure = new_figure(width, height, dpi)
    axes = list(figure.subplots(rows, columns, squeeze=False, **options).flat)
    for panel in axes:
        panel.spines[["top", "right"]].set_visible(False)
    return figure, axes


def style(axes: "Axes", values: Direction = "x") -> None:
    """A light grid along the axis of values; no frame and no ticks along the axis of names."""
    axes.grid(visible=True, axis=values, color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(axis="x" if values == "y" else "y", length=0)


def draw_points(axes: "Axes", panel: Panel) -> None:
    """Draw a panel: values, intervals as lines, seeds as dots."""
    step = min(0.3, 0.8 / max(1, len(panel.colours)))
    for place, (name, colour) in enumerate(panel.colours.items()):
        shift = (place - (len(panel.colours) - 1) / 2) * step
        for row, points in enumerate(panel.rows.values()):
            point = points.get(name)
            if point is None or point.value is None:
                continue
            y = row + shift
            if point.interval is not None:
                axes.plot(point.interval, [y, y], color=colour, linewidth=2, alpha=0.6)
            seeds = [value for value in point.seeds if value is not None]
            axes.plot(seeds, [y] * len(seeds), ".", color=colour, markersize=5, alpha=0.6)
            axes.plot([point.value], [y], "o", color=colour, markersize=6, clip_on=False)
        axes.plot([], [], "o", color=colour, label=name)
    axes.set_yticks(range(len(panel.rows)), list(panel.rows))
    axes.set_ylim(len(panel.rows) - 0.5, -0.5)
    axes.set_xlabel(panel.label)
    axes.set_xlim(0, None)
    style(axes)
    if panel.differences:
        axes.autoscale(axis="x")
        axes.axvline(0, color=INK, linewidth=0.8)
    if panel.chance is not None:
        axes.axvline(panel.chance, color=INK, linestyle=":", label="chance")


def save_panels(path: Path, drawn: Sequence[Panel], size: tuple[float, float], names: int) -> None:
    """Write panels side by side as a PNG of ``size`` inches, ``names`` of a legend in a line."""
    shared = len({tuple(panel.rows) for panel in drawn}) == 1
    figure, parts = panels(*size, columns=len(drawn), sharey=shared)
    for axes, panel in zip(parts, drawn, strict=True):
        draw_points(axes, panel)
        legend(axes, names)
    save(figure, path)


def draw_bars(
    axes: "Axes",
    groups: Sequence[str],
    series: Mapping[str, tuple[npt.ArrayLike, str]],
    label: str,
    upright: bool = False,
) -> list[Any]:
    """Draw a bar per group and series, (values, colour), side by side; returns them by series."""
    width = 0.8 / max(1, len(series))
    drawn = []
    for place, (name, (values, colour)) in enumerate(series.items()):
        middle = np.arange(len(groups)) + (place - (len(series) - 1) / 2) * width
        bars = axes.bar if upright else axes.barh
        drawn.append(bars(middle, values, 0.92 * width, label=name, color=colour))
    if upright:
        axes.set_xticks(range(len(groups)), groups)
        axes.set_ylabel(label)
    else:
        axes.set_yticks(range(len(groups)), groups)
        axes.invert_yaxis()
        axes.set_xlabel(label)
    style(axes, "y" if upright else "x")
    return drawn


def legend(axes: "Axes", columns: int = 2) -> None:
    """Put the legend above a panel."""
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=columns, frameon=False)


def png(figure: "Figure") -> bytes:
    """The figure as PNG, without a date or a library's version in it."""
    out = io.BytesIO()
    figure.savefig(out, format="png", metadata={"Software": None})
    return out.getvalue()


def save(figure: "Figure", path: Path) -> None:
    """Write the figure as PNG, atomically. Raises OSError as the file system does."""
    data = png(figure)
    with atomic(path) as temporary:
        temporary.write_bytes(data)
