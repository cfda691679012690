"""One self-contained HTML page from the figures of a report: readable on a phone, no network."""

import base64
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from builder.core import figures
from builder.core.document import environment
from builder.core.figures import INK, KIND_COLOURS, PART_COLOURS, SPLIT_COLOURS
from builder.core.store import Store
from builder.land.classes import CLASSES, PALETTE
from builder.land.columns import KINDS
from builder.land.pictures import in_colour
from builder.land.score_columns import scores_of
from builder.report.copies import Piece, stored_pictures
from builder.report.images import Distribution
from builder.report.measure import Report, images_of
from builder.report.streams import BINS, HISTOGRAMS, StreamFigures
from builder.scores.leakage import source_sentence

WIDTH, DPI = 4.2, 160
"""Inches and dots per inch: at 390 CSS pixels a point is about a pixel high."""
SHORT = dict(zip(KINDS, ("real", "syn."), strict=True))


LIGHT = 24_000
"""Bytes of a tile that is shown as it is; heavier ones are compressed to keep the page small."""
MOST = 320
"""Pixels of a compressed tile's longer side: twice what the page gives it."""


def uri(picture: bytes, kind: str = "png") -> str:
    """A picture as a data URL."""
    return f"data:image/{kind};base64,{base64.b64encode(picture).decode()}"


def shown(png: bytes) -> str:
    """A tile as a data URL for looking at: the PNG itself where it is light, else WebP."""
    if len(png) <= LIGHT:
        return uri(png)
    with Image.open(io.BytesIO(png)) as image:
        image.thumbnail((MOST, MOST))
        image.save(out := io.BytesIO(), "WEBP", quality=80)
    return uri(out.getvalue(), "webp")


def class_shares(pixels: Mapping[str, Mapping[str, int]]) -> str:
    """Share of each class in the pixels of every part."""
    counts = {part: np.array(list(of.values()), dtype=float) for part, of in pixels.items()}
    shares = {part: 100 * n / max(1.0, n.sum()) for part, n in counts.items()}
    figure, (axes,) = _panels(5.2)
    series = {part: (share, PART_COLOURS[part]) for part, share in shares.items()}
    figures.draw_bars(axes, CLASSES, series, "share of pixels, %")
    return _with_legend(figure)


def grounding_by_class(streams: Mapping[str, StreamFigures]) -> str:
    """Mean grounding of each stream on tiles of each dominant class, as colours and numbers; a row
    for each kind of rows that has any."""
    named = [
        (f"{_short(name, 16)} {SHORT[kind]}", list(means.values()))
        for name, stream in streams.items()
        for kind, means in stream.grounding_by_class.items()
        if any(value is not None for value in means.values())
    ] or [("", [None] * len(CLASSES))]
    figure, (axes,) = _panels(0.9 + 0.3 * len(named))
    values = np.array([means for _, means in named], dtype=float).reshape(-1, len(CLASSES))
    axes.imshow(values, cmap="cividis", vmin=0, vmax=1, aspect="auto")
    for (row, column), value in np.ndenumerate(values):
        label = "–" if np.isnan(value) else f"{value:.2f}"
        dark = np.isnan(value) or value > 0.6
        axes.text(
            column, row, label, ha="center", va="center", fontsize=8, color="k" if dark else "w"
        )
    axes.set_xticks(range(len(CLASSES)), CLASSES, fontsize=7)
    axes.set_yticks(range(len(named)), [label for label, _ in named], fontsize=8)
    axes.tick_params(length=0, top=False)
    axes.spines[:].set_visible(False)
    return _uri(figure)


def scores(streams: Mapping[str, StreamFigures]) -> str:
    """Distributions of the scores in `HISTOGRAMS`, a row for each stream: real rows filled,
    synthetic rows outlined; with the means of grounding and of its null."""
    width = len(HISTOGRAMS)
    figure, every = _panels(0.9 + 0.62 * len(streams), len(streams), width)
    grid = [every[i : i + width] for i in range(0, len(every), width)]
    for row, (name, stream) in zip(grid, streams.items(), strict=True):
        for axes, score in zip(row, HISTOGRAMS, strict=True):
            for kind, counts in stream.histograms[score].items():
                shares = np.array(counts, dtype=float) / max(1, max(counts))
                if any(counts):
                    real = kind == KINDS[0]
                    colour = KIND_COLOURS[kind]
                    axes.stairs(
                        shares, BINS, fill=real, color=colour, alpha=0.5 if real else 1, label=kind
                    )
            axes.set(xlim=(0, 1), yticks=[], xticks=[0, 0.5, 1])
            axes.set_xticklabels(["0", "½", "1"])
            axes.spines["left"].set_visible(False)
        nulls = stream.null_grounding
        for value, style in ((nulls.own, "-"), (nulls.shuffled, ":")):
            if value is not None:
                row[0].axvline(value, color=INK, linestyle=style, linewidth=1.5)
        row[0].set_title(_short(name), loc="left", fontsize=8, pad=2)
    for axes, score in zip(grid[-1], HISTOGRAMS, strict=True):
        axes.set_xlabel(score, fontsize=8)
    shown = [row[0].get_legend_handles_labels() for row in grid]
    return _with_legend(
        figure, {label: handle for pairs in shown for handle, label in zip(*pairs, strict=True)}
    )


def measure(distribution: Distribution) -> str:
    """Distribution of an image measure, real test tiles beside synthetic tiles."""
    figure, (axes,) = _panels(1.9)
    bins = np.array(distribution.bins)
    for part, values in distribution.parts.items():
        counts = np.array(values.histogram, dtype=float)
        mean = values.mean
        label = f"{part}, mean {mean:,.0f}" if mean >= 1000 else f"{part}, mean {mean:.3g}"
        shares = counts / max(1.0, counts.sum())
        kind, _, split = part.partition(" ")
        colour = PART_COLOURS[f"{kind}/{split}"] if split else KIND_COLOURS[kind]
        axes.stairs(shares, bins, fill=True, color=colour, alpha=0.25)
        axes.stairs(shares, bins, label=label, color=colour, linewidth=1.5)
    axes.set_yticks([])
    axes.set_ylim(bottom=0)
    axes.spines["left"].set_visible(False)
    return _with_legend(figure)


def _panels(height: float, rows: int = 1, columns: int = 1) -> tuple[Any, list[Any]]:
    """A figure as wide as a phone, and its panels."""
    figure, every = figures.panels(WIDTH, height, rows, columns, DPI, sharex=True)
    for axes in every:
        axes.tick_params(labelsize=8)
    return figure, every


def _with_legend(figure: Any, entries: Mapping[str, Any] | None = None) -> str:
    """The figure with a legend above it, of all that has a label or of ``entries``."""
    own = () if entries is None else (entries.values(), entries)
    figure.legend(*own, loc="outside upper center", ncols=2, frameon=False, fontsize=8)
    return _uri(figure)


def _uri(figure: Any) -> str:
    return uri(figures.png(figure))


def _short(name: str, most: int = 22) -> str:
    return name if len(name) <= most else f"{name[: most - 1]}…"


WORDS = {
    "mask_agreement": "Share of pixels on which the segmenter agrees with the mask.",
    "realism": "Share of held-out real tiles that are at least as unusual for their land cover.",
    "nearest_real_ratio": "Distance to the nearest train tile, relative to usual; 0 is a copy.",
    "sharpness": "Variance of the Laplacian.",
    "contrast": "Standard deviation of the luminance.",
    "colour_saturation": "Mean HSV saturation.",
    "cloudiness": "Share of bright grey pixels.",
    "blankness": "Share of 8×8 blocks without texture.",
    "saturated": "Share of samples beyond the reflectance range.",
}
"""The line below the plot of each image measure."""


def marked(png: bytes, piece: Piece) -> dict[str, Any]:
    """A tile as a data URL, and the place of a piece of it in percent, for CSS."""
    with Image.open(io.BytesIO(png)) as image:
        width, height = image.size
    edges = {
        "left": piece.column / width,
        "top": piece.row / height,
        "width": piece.width / width,
        "height": piece.height / height,
    }
    style = "; ".join(f"{edge}: {100 * value:.4g}%" for edge, value in edges.items())
    return {"image": shown(png), "style": style}


def render(release: Path, report: Report, store: Store | None = None) -> str:
    """The page as text. Copies have their pictures from ``store``; without it those that the
    release does not hold are left off."""
    tiles = {} if store is None else stored_pictures(store, report.copies.ids)
    others = set(report.copies.ids) - tiles.keys()
    held = images_of(release, report.examples.ids, also=others)
    pictures = {
        name: {"image": shown(held[name][0]), "mask": uri(in_colour(held[name][1]))}
        for name in report.examples.ids
    }
    tiles |= {name: held[name][0] for name in others if name in held}
    pairs = [
        (copy, marked(tiles[copy.id], copy.own), marked(tiles[copy.source], copy.piece))
        for copy in report.copies.shown
        if {copy.id, copy.source} <= tiles.keys()
    ]
    plots = {"classes": class_shares(report.pixels)}
    if report.streams:
        plots["scores"] = scores(report.streams)
        plots["grounding_by_class"] = grounding_by_class(report.streams)
    template = environment().get_template("report.html.j2")
    return template.render(
        report=report,
        pictures=pictures,
        copies=pairs,
        has_synthetic=any(part.startswith("synthetic") for part, n in report.rows.items() if n),
        colours={"own": KIND_COLOURS["synthetic"], "piece": SPLIT_COLOURS["train"]},
        classes=CLASSES,
        palette=PALETTE.tolist(),
        words=WORDS,
        plots=plots,
        scores=scores_of("score", "report"),
        clip_scores=scores_of("clip", "report"),
        source_sentence=source_sentence,
        measures={name: measure(values) for name, values in report.images.items()},
    )
