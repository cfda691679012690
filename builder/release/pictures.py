"""Pictures of a release, drawn from its own rows: a contact sheet and the class shares."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pyarrow.parquet as pq

from builder.landcover import CLASSES, PALETTE
from builder.pictures import decode_png, per_class
from builder.schema import KINDS

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
    from builder.plots import plot_shares

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
