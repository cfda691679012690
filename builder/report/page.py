"""One self-contained HTML page from the figures of a report: readable on a phone, no network."""

import base64
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from builder.landcover import CLASSES, PALETTE
from builder.pictures import decode_png, encode_png
from builder.report.measure import BINS, images_of
from builder.templates import environment

COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#999999")


def render(release: Path, told: Mapping[str, Any]) -> str:
    """The page as text."""
    shown = {one["id"] for part in told["examples"].values() for one in part}
    pictures = {
        name: {"image": _uri(image), "mask": _uri(_coloured(mask))}
        for name, (image, mask) in images_of(release, sorted(shown)).items()
    }
    template = environment().get_template("report.html.j2")
    return template.render(
        told=told,
        pictures=pictures,
        classes=CLASSES,
        palette=PALETTE.tolist(),
        plots={
            "classes": _classes(told["pixels"]),
            "grounding": _grounding(told["streams"]),
            **{name: _histograms(parts) for name, parts in told["images"].items() if parts},
        },
    )


def _coloured(mask: bytes) -> bytes:
    return encode_png(PALETTE[decode_png(mask)])


def _uri(png: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"


def _drawing(width: float, height: float) -> tuple[Figure, Any]:
    figure = Figure(figsize=(width, height), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _png(figure: Figure) -> str:
    out = io.BytesIO()
    figure.savefig(out, format="png", metadata={"Software": None})
    return _uri(out.getvalue())


def _classes(pixels: Mapping[str, Mapping[str, int]]) -> str:
    figure, axes = _drawing(7, 3.2)
    width = 0.8 / len(pixels)
    for i, (part, counts) in enumerate(pixels.items()):
        values = np.array(list(counts.values()), dtype=float)
        place = np.arange(len(CLASSES)) + (i - (len(pixels) - 1) / 2) * width
        axes.bar(place, 100 * values / values.sum(), width, label=part, color=COLOURS[i % 7])
    axes.set_xticks(range(len(CLASSES)), CLASSES)
    axes.set_ylabel("share of pixels (%)")
    axes.legend(frameon=False, fontsize=8)
    return _png(figure)


def _grounding(streams: Mapping[str, Any]) -> str:
    figure, axes = _drawing(7, 3.2)
    for i, (name, one) in enumerate(streams.items()):
        counts = np.array(one["grounding_histogram"], dtype=float)
        axes.stairs(counts / max(1, counts.sum()), BINS, label=name, color=COLOURS[i % 7], lw=2)
    axes.set(xlabel="grounding", ylabel="share of captions", xlim=(0, 1))
    axes.legend(frameon=False, fontsize=8)
    return _png(figure)


def _histograms(parts: Mapping[str, Any]) -> str:
    figure, axes = _drawing(5, 2.4)
    for i, (name, one) in enumerate(parts.items()):
        counts = np.array(one["histogram"], dtype=float)
        label = f"{name} (mean {one['mean']:.3f})"
        axes.stairs(counts / max(1, counts.sum()), BINS, label=label, color=COLOURS[i], lw=2)
    axes.set(ylabel="share of tiles", xlim=(0, 1))
    axes.legend(frameon=False, fontsize=8)
    return _png(figure)
