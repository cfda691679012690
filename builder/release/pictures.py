"""Pictures of a release, drawn from its own rows: a contact sheet and the class shares."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from builder.core.errors import ArasError
from builder.core.files import atomic
from builder.land.classes import CLASSES, PALETTE
from builder.land.columns import KINDS
from builder.land.pictures import decode_png, per_class

matplotlib.use("Agg")

COLOURS = {
    "real/train": "#0072B2",
    "real/validation": "#56B4E9",
    "real/test": "#999999",
    "synthetic/train": "#E69F00",
}
"""Colour of each part, told apart with every common colour vision deficiency."""

# The same release gives the same bytes: no date, no library version in the file.
_PLAIN = {"metadata": {"Software": None}}


def contact_sheet(release: Path, manifest: Mapping[str, Any], path: Path, tiles: int = 6) -> None:
    """``tiles`` rows of each kind's first split, image above mask, and the legend."""
    from matplotlib import pyplot as plt
    from matplotlib.patches import Patch

    kinds = [kind for kind in KINDS if manifest["configs"].get(kind)]
    figure = plt.figure(figsize=(2 * tiles, 4.3 * len(kinds) + 0.5), layout="constrained")
    for kind, part in zip(
        kinds, figure.subfigures(len(kinds), 1, squeeze=False)[:, 0], strict=True
    ):
        part.suptitle(kind, fontsize=13)
        axes = part.subplots(2, tiles, squeeze=False)
        for axis in axes.ravel():
            axis.axis("off")
        for column, row in enumerate(
            _varied(release, next(iter(manifest["configs"][kind].values())), tiles)
        ):
            image, mask = axes[:, column]
            image.imshow(decode_png(row["image"]["bytes"], row["id"]), interpolation="nearest")
            image.set_title(row["id"].split("/", 1)[1], fontsize=8)
            ids = decode_png(row["mask"]["bytes"], row["id"])
            mask.imshow(PALETTE[ids], interpolation="nearest")
    legend = [
        Patch(facecolor=PALETTE[i] / 255, edgecolor="black", linewidth=0.4, label=name)
        for i, name in enumerate(CLASSES)
    ]
    figure.legend(handles=legend, loc="outside lower center", ncol=len(CLASSES), frameon=False)
    figure.savefig(path, dpi=100, **_PLAIN)
    plt.close(figure)


def _varied(release: Path, entry: Mapping[str, Any], tiles: int) -> list[dict[str, Any]]:
    """Rows of a split's first row group, each the farthest in composition from those before it."""
    with pq.ParquetFile(release / entry["files"][0]) as source:
        rows = source.read_row_group(0, columns=["id", "image", "mask", "pixels"])
    pixels = per_class(rows.column("pixels"))
    shares = pixels / pixels.sum(axis=1, keepdims=True)
    chosen = [int(shares.max(axis=1).argmin())]  # the most mixed one
    while len(chosen) < min(tiles, rows.num_rows):
        gaps = np.abs(shares[:, None] - shares[chosen]).sum(axis=2).min(axis=1)
        gaps[chosen] = -1
        chosen.append(int(gaps.argmax()))
    found: list[dict[str, Any]] = rows.take(sorted(chosen)).to_pylist()
    return found


def plot_classes(manifest: Mapping[str, Any], path: Path) -> None:
    """Share of each class in the pixels of every part (kind and split)."""
    from matplotlib import pyplot as plt

    pixels = manifest["facts"]["census"]["pixels"]
    figure, axis = plt.subplots(figsize=(8, 3.4), layout="constrained")
    width = 0.8 / len(pixels)
    for i, (part, counts) in enumerate(pixels.items()):
        values = np.array(list(counts.values()), dtype=float)
        place = np.arange(len(CLASSES)) + (i - (len(pixels) - 1) / 2) * width
        axis.bar(place, 100 * values / values.sum(), 0.92 * width, color=COLOURS[part], label=part)
    axis.set_xticks(range(len(CLASSES)), CLASSES)
    axis.set_ylabel("share of pixels, %")
    axis.tick_params(axis="x", length=0)
    axis.yaxis.grid(visible=True, color="#dddddd", linewidth=0.8)
    axis.set_axisbelow(True)
    figure.legend(loc="outside lower center", ncol=len(pixels), frameon=False, fontsize=9)
    axis.spines[["top", "right", "left"]].set_visible(False)
    figure.savefig(path, dpi=130, **_PLAIN)
    plt.close(figure)


def plot_balance(manifest: Mapping[str, Any], path: Path) -> None:
    """Class shares of the real train tiles, as planned and as obtained; none without a plan."""
    pass

    balance = manifest["facts"]["balance"]
    pixels = manifest["facts"]["census"]["pixels"].get("synthetic/train")
    if balance is None or pixels is None:
        return
    obtained = np.array(list(pixels.values()), dtype=float)
    plot_shares(
        list(balance["shares_before"].values()),
        list(balance["shares_planned"].values()),
        obtained / obtained.sum(),
        path,
    )


# Okabe & Ito's palette (2008), told apart with every common colour vision deficiency.
_GREY, _BLUE, _ORANGE = "#999999", "#0072B2", "#E69F00"


def plot_shares(
    real: npt.ArrayLike, planned: npt.ArrayLike, obtained: npt.ArrayLike | None, path: Path
) -> None:
    """Draw class shares of real, planned and obtained rows as a PNG at ``path``.

    Each is (7,) shares summing to 1, in class order; ``obtained`` None (nothing is generated
    yet) leaves its bars out. Raises ArasError when shares are not of that kind.
    """
    series = [("real", real, _GREY), ("planned", planned, _BLUE)]
    if obtained is not None:
        series.append(("obtained", obtained, _ORANGE))
    drawn = [(name, 100 * _shares(name, values), colour) for name, values, colour in series]
    figure = Figure(figsize=(7.2, 5.4), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    height = 0.8 / len(drawn)
    longest = max(values.max() for _, values, _ in drawn)
    for place, (name, values, colour) in enumerate(drawn):
        at = np.arange(len(CLASSES)) + (place - (len(drawn) - 1) / 2) * height
        bars = axes.barh(at, values, height=0.92 * height, color=colour, label=name)
        axes.bar_label(bars, labels=[_label(v) for v in values], padding=3, fontsize=8)
    axes.set_yticks(np.arange(len(CLASSES)), CLASSES)
    axes.invert_yaxis()
    axes.set_xlim(0, 1.12 * longest)
    axes.set_xlabel("share of pixels, %")
    axes.tick_params(axis="y", length=0)
    axes.xaxis.grid(visible=True, color="#dddddd", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    figure.legend(loc="outside upper center", ncols=len(drawn), frameon=False)
    with atomic(path) as temporary:
        figure.savefig(temporary, format="png", metadata={"Software": None})


def _shares(name: str, values: npt.ArrayLike) -> npt.NDArray[np.float64]:
    shares = np.asarray(values, dtype=np.float64)
    fits = shares.shape == (len(CLASSES),) and bool((shares >= 0).all())
    if not fits or abs(shares.sum() - 1) > 1e-3:
        raise ArasError(
            f"{name} shares are {shares.tolist()}; wanted are {len(CLASSES)} shares that sum to 1"
        )
    return shares


def _label(share: float) -> str:
    return f"{share:.2f}" if share < 10 else f"{share:.1f}"
