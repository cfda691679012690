"""One self-contained HTML page from the figures of a report: readable on a phone, no network."""

import base64
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from builder.core.templates import environment
from builder.land.classes import CLASSES, PALETTE
from builder.land.columns import KINDS
from builder.land.pictures import decode_png, encode_png
from builder.report.measure import images_of, shown_ids
from builder.report.streams import BINS, HISTOGRAMS

WIDTH, DPI = 4.2, 160
"""Inches and dots per inch: at 390 CSS pixels a point is about a pixel high."""
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#999999")
"""Okabe & Ito's palette (2008), told apart with every common colour vision deficiency."""
SHORT = dict(zip(KINDS, ("real", "syn."), strict=True))
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
    """Mean grounding of each stream on tiles of each dominant class, as colours and numbers; a row
    for each kind of rows that has any."""
    named = [
        (f"{_short(name, 16)} {SHORT[kind]}", list(means.values()))
        for name, one in streams.items()
        for kind, means in one["grounding_by_class"].items()
        if any(value is not None for value in means.values())
    ] or [("", [None] * len(CLASSES))]
    figure, axes = _drawing(0.9 + 0.3 * len(named))
    values = np.array([means for _, means in named], dtype=float).reshape(-1, len(CLASSES))
    axes.imshow(values, cmap="cividis", vmin=0, vmax=1, aspect="auto")
    for (row, column), value in np.ndenumerate(values):
        told = "–" if np.isnan(value) else f"{value:.2f}"
        dark = np.isnan(value) or value > 0.6
        axes.text(
            column, row, told, ha="center", va="center", fontsize=8, color="k" if dark else "w"
        )
    axes.set_xticks(range(len(CLASSES)), CLASSES, fontsize=7)
    axes.set_yticks(range(len(named)), [label for label, _ in named], fontsize=8)
    axes.tick_params(length=0, top=False)
    axes.spines[:].set_visible(False)
    return _png(figure)


def scores(streams: Mapping[str, Any]) -> str:
    """Distributions of grounding, coverage and leak, a row for each stream: real rows filled,
    synthetic ones outlined; with the means of grounding and of its null."""
    figure, every = _drawing(0.9 + 0.62 * len(streams), len(streams), len(HISTOGRAMS))
    for row, (name, one) in zip(every, streams.items(), strict=True):
        for axes, score in zip(row, HISTOGRAMS, strict=True):
            for kind, counts in one["histograms"][score].items():
                shares = np.array(counts, dtype=float) / max(1, max(counts))
                if any(counts):
                    real = kind == KINDS[0]
                    colour = PART_COLOURS["real test" if real else "synthetic"]
                    axes.stairs(
                        shares, BINS, fill=real, color=colour, alpha=0.5 if real else 1, label=kind
                    )
            axes.set(xlim=(0, 1), yticks=[], xticks=[0, 0.5, 1])
            axes.set_xticklabels(["0", "½", "1"])
            axes.spines["left"].set_visible(False)
        nulls = one["null_grounding"]
        for value, style in ((nulls["own"], "-"), (nulls["shuffled"], ":")):
            if value is not None:
                row[0].axvline(value, color="#222222", linestyle=style, linewidth=1.5)
        row[0].set_title(_short(name), loc="left", fontsize=8, pad=2)
    for axes, score in zip(every[-1], HISTOGRAMS, strict=True):
        axes.set_xlabel(score, fontsize=8)
    shown = [axes.get_legend_handles_labels() for axes in every[:, 0]]
    legend = {label: handle for one in shown for handle, label in zip(*one, strict=True)}
    figure.legend(
        legend.values(), legend, loc="outside upper center", ncols=2, frameon=False, fontsize=8
    )
    return _png(figure)


def measure(told: Mapping[str, Any]) -> str:
    """Distribution of one image measure, real test tiles beside synthetic ones."""
    figure, axes = _drawing(1.9)
    bins = np.array(told["bins"])
    for part, one in told["parts"].items():
        counts = np.array(one["histogram"], dtype=float)
        mean = one["mean"]
        label = f"{part}, mean {mean:,.0f}" if mean >= 1000 else f"{part}, mean {mean:.3g}"
        shares = counts / max(1.0, counts.sum())
        axes.stairs(shares, bins, fill=True, color=PART_COLOURS[part], alpha=0.25)
        axes.stairs(shares, bins, label=label, color=PART_COLOURS[part], linewidth=1.5)
    axes.set_yticks([])
    axes.set_ylim(bottom=0)
    axes.spines["left"].set_visible(False)
    figure.legend(loc="outside upper center", ncols=2, frameon=False, fontsize=8)
    return _png(figure)


def _drawing(height: float, rows: int = 0, columns: int = 1) -> tuple[Figure, Any]:
    """A figure and its axes; with ``rows`` a (rows, columns) grid of them."""
    figure = Figure(figsize=(WIDTH, height), dpi=DPI, layout="constrained")
    FigureCanvasAgg(figure)
    every = figure.subplots(max(1, rows), columns, sharex=True, squeeze=False)
    for axes in every.flat:
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(labelsize=8)
    return figure, every if rows else every[0, 0]


def _png(figure: Figure) -> str:
    out = io.BytesIO()
    figure.savefig(out, format="png", metadata={"Software": None})
    return uri(out.getvalue())


def _short(name: str, most: int = 22) -> str:
    return name if len(name) <= most else f"{name[: most - 1]}…"


WORDS = {
    "mask_agreement": "Share of pixels on which the segmenter agrees with the mask.",
    "realism": "1 and more is inside the manifold of real train tiles.",
    "nearest_real_ratio": "Distance to the nearest train tile over the usual one; 0 is a copy.",
    "sharpness": "Variance of the Laplacian.",
    "contrast": "Standard deviation of the luminance.",
    "colour_saturation": "Mean HSV saturation.",
    "cloudiness": "Share of bright grey pixels.",
    "blankness": "Share of 8×8 blocks without texture.",
    "saturated": "Share of samples beyond the reflectance range.",
}
"""What is said below the plot of each image measure."""


def render(release: Path, told: Mapping[str, Any]) -> str:
    """The page as text."""
    pictures = {
        name: {"image": uri(image), "mask": uri(_coloured(mask))}
        for name, (image, mask) in images_of(release, shown_ids(dict(told))).items()
    }
    streams = told["streams"]
    drawn = {"classes": class_shares(told["pixels"])}
    if streams:
        drawn["scores"] = scores(streams)
        drawn["grounding_by_class"] = grounding_by_class(streams)
    template = environment().get_template("report.html.j2")
    return template.render(
        told=told,
        pictures=pictures,
        classes=CLASSES,
        palette=PALETTE.tolist(),
        words=WORDS,
        plots=drawn,
        measures={name: measure(one) for name, one in told["images"].items()},
    )


def _coloured(mask: bytes) -> bytes:
    return encode_png(PALETTE[decode_png(mask)])
