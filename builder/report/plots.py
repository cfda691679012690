"""Plots of the report as data URLs, narrow enough to be read on a phone."""

import base64
import io
from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from builder.landcover import CLASSES
from builder.report.streams import BINS

WIDTH, DPI = 4.2, 160
"""Inches and dots per inch: at 390 CSS pixels a point is about a pixel high."""
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#999999")
"""Okabe & Ito's palette (2008), told apart with every common colour vision deficiency."""
PART_COLOURS = {"real test": "#0072B2", "synthetic": "#E69F00"}


def uri(png: bytes) -> str:
    """A picture as a data URL."""
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"


def class_shares(pixels: Mapping[str, Mapping[str, int]]) -> str:
    """Share of each class in the pixels of every part."""
    figure, axes = _drawing(5.2)
    height = 0.8 / len(pixels)
    for i, (part, counts) in enumerate(pixels.items()):
        values = np.array(list(counts.values()), dtype=float)
        place = np.arange(len(CLASSES)) + (i - (len(pixels) - 1) / 2) * height
        shares = 100 * values / max(1.0, values.sum())
        axes.barh(place, shares, 0.92 * height, label=part, color=COLOURS[i % len(COLOURS)])
    axes.set_yticks(range(len(CLASSES)), CLASSES)
    axes.invert_yaxis()
    axes.set_xlabel("share of pixels, %")
    axes.tick_params(axis="y", length=0)
    axes.xaxis.grid(visible=True, color="#dddddd", linewidth=0.8)
    axes.set_axisbelow(True)
    figure.legend(loc="outside upper center", ncols=2, frameon=False, fontsize=8)
    return _png(figure)


def grounding_by_class(streams: Mapping[str, Any]) -> str:
    """Mean grounding of each stream on tiles of each dominant class, as colours and numbers."""
    figure, axes = _drawing(0.9 + 0.36 * len(streams))
    values = np.array(
        [
            [np.nan if v is None else v for v in one["grounding_by_class"].values()]
            for one in streams.values()
        ],
        dtype=float,
    ).reshape(len(streams), len(CLASSES))
    axes.imshow(values, cmap="cividis", vmin=0, vmax=1, aspect="auto")
    for (row, column), value in np.ndenumerate(values):
        told = "–" if np.isnan(value) else f"{value:.2f}"
        dark = np.isnan(value) or value > 0.6
        axes.text(
            column, row, told, ha="center", va="center", fontsize=8, color="k" if dark else "w"
        )
    axes.set_xticks(range(len(CLASSES)), CLASSES, fontsize=8)
    axes.set_yticks(range(len(streams)), [_short(name) for name in streams], fontsize=8)
    axes.tick_params(length=0, top=False)
    axes.spines[:].set_visible(False)
    return _png(figure)


def grounding(streams: Mapping[str, Any]) -> str:
    """Distribution of grounding, a row for each stream, with its mean and that of its nulls."""
    figure, every = _drawing(0.8 + 0.62 * len(streams), rows=len(streams))
    for axes, (name, one) in zip(every, streams.items(), strict=True):
        counts = np.array(one["grounding_histogram"], dtype=float)
        axes.stairs(counts / max(1.0, counts.max()), BINS, fill=True, color="#56B4E9")
        nulls = one["null_grounding"]
        for value, style in ((nulls["own"], "-"), (nulls["shuffled"], ":")):
            if value is not None:
                axes.axvline(value, color="#222222", linestyle=style, linewidth=1.5)
        axes.set_title(_short(name), loc="left", fontsize=8, pad=2)
        axes.set(xlim=(0, 1), yticks=[])
        axes.spines["left"].set_visible(False)
    every[-1].set_xlabel("grounding (solid: mean, dotted: mean on shuffled tiles)", fontsize=8)
    return _png(figure)


def measure(told: Mapping[str, Any]) -> str:
    """Distribution of one image measure, real test tiles beside synthetic ones."""
    figure, axes = _drawing(1.9)
    bins = np.array(told["bins"])
    for part, one in told["parts"].items():
        counts = np.array(one["histogram"], dtype=float)
        label = f"{part}, mean {one['mean']:.3g}"
        shares = counts / max(1.0, counts.sum())
        axes.stairs(shares, bins, fill=True, color=PART_COLOURS[part], alpha=0.25)
        axes.stairs(shares, bins, label=label, color=PART_COLOURS[part], linewidth=1.5)
    axes.set_yticks([])
    axes.set_ylim(bottom=0)
    axes.spines["left"].set_visible(False)
    figure.legend(loc="outside upper center", ncols=2, frameon=False, fontsize=8)
    return _png(figure)


def _drawing(height: float, rows: int = 0) -> tuple[Figure, Any]:
    """A figure and its axes; with ``rows`` a list of axes one below the other."""
    figure = Figure(figsize=(WIDTH, height), dpi=DPI, layout="constrained")
    FigureCanvasAgg(figure)
    every = figure.subplots(max(1, rows), 1, sharex=True, squeeze=False)[:, 0]
    for axes in every:
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(labelsize=8)
    return figure, every if rows else every[0]


def _png(figure: Figure) -> str:
    out = io.BytesIO()
    figure.savefig(out, format="png", metadata={"Software": None})
    return uri(out.getvalue())


def _short(name: str, most: int = 22) -> str:
    return name if len(name) <= most else f"{name[: most - 1]}…"
