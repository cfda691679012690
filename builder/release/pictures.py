"""Pictures of a release, drawn from its own rows: a contact sheet, the class shares, a map."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from builder.core import figures
from builder.core.errors import ArasError
from builder.core.figures import BLUE, GREY, ORANGE, PART_COLOURS
from builder.core.manifest import Manifest, SplitFiles
from builder.land.classes import CLASSES, PALETTE
from builder.land.columns import KINDS
from builder.land.grid import PER_DEGREE
from builder.land.pictures import decode_mask, decode_png, per_class
from builder.release.rows import held_columns, opened, real_rows
from builder.tiles.split_report import draw_map


def contact_sheet(release: Path, manifest: Manifest, path: Path, tiles: int = 6) -> None:
    """``tiles`` rows of each kind's first split, image above mask, and the legend."""
    from matplotlib.patches import Patch

    kinds = [kind for kind in KINDS if manifest.configs.get(kind)]
    figure = figures.new_figure(2 * tiles, 4.3 * len(kinds) + 0.5, dpi=100)
    for kind, part in zip(
        kinds, figure.subfigures(len(kinds), 1, squeeze=False)[:, 0], strict=True
    ):
        part.suptitle(kind, fontsize=13)
        axes = part.subplots(2, tiles, squeeze=False)
        for axis in axes.ravel():
            axis.axis("off")
        for column, row in enumerate(
            _varied(release, next(iter(manifest.configs[kind].values())), tiles)
        ):
            image, mask = axes[:, column]
            image.imshow(decode_png(row["image"]["bytes"], row["id"]), interpolation="nearest")
            image.set_title(row["id"].split("/", 1)[1], fontsize=8)
            ids = decode_mask(row["mask"]["bytes"], row["id"])
            mask.imshow(PALETTE[ids], interpolation="nearest")
    legend = [
        Patch(facecolor=PALETTE[i] / 255, edgecolor="black", linewidth=0.4, label=name)
        for i, name in enumerate(CLASSES)
    ]
    figure.legend(handles=legend, loc="outside lower center", ncol=len(CLASSES), frameon=False)
    figures.save(figure, path)


def _varied(release: Path, split: SplitFiles, tiles: int) -> list[dict[str, Any]]:
    """Rows of a split's first row group, each the farthest in composition from those before it."""
    with opened(release / split.files[0]) as source:
        rows = source.read_row_group(0, columns=["id", "image", "mask", "pixels"])
    pixels = per_class(rows.column("pixels"))
    shares = pixels / pixels.sum(axis=1, keepdims=True)
    chosen = [int(shares.max(axis=1).argmin())]  # the most mixed tile
    while len(chosen) < min(tiles, rows.num_rows):
        gaps = np.abs(shares[:, None] - shares[chosen]).sum(axis=2).min(axis=1)
        gaps[chosen] = -1
        chosen.append(int(gaps.argmax()))
    varied: list[dict[str, Any]] = rows.take(sorted(chosen)).to_pylist()
    return varied


def plot_classes(manifest: Manifest, path: Path) -> None:
    """Share of each class in the pixels of every part (kind and split)."""
    pixels = manifest.facts.census.pixels
    counts = {part: np.array(list(of.values()), dtype=float) for part, of in pixels.items()}
    series = {part: (100 * n / n.sum(), PART_COLOURS[part]) for part, n in counts.items()}
    figure, (axes,) = figures.panels(8, 3.4)
    figures.draw_bars(axes, CLASSES, series, "share of pixels, %", upright=True)
    figure.legend(loc="outside lower center", ncol=len(pixels), frameon=False, fontsize=9)
    figures.save(figure, path)


def plot_map(release: Path, manifest: Manifest, path: Path) -> None:
    """The real tiles where they lie on Earth, by split; none where no row here has a place."""
    path.unlink(missing_ok=True)
    if not {"real", "metadata"} <= manifest.configs.keys() or not manifest.facts.census.extent:
        return
    if "block" not in held_columns(release, manifest)["metadata"]:
        return  # a part whose question left it out
    size = manifest.facts.setting("tiles", "size") / PER_DEGREE
    draw_map(real_rows(release), size, path)


def plot_balance(manifest: Manifest, path: Path) -> None:
    """Class shares of the real train tiles, as planned and as obtained; none without a plan."""
    balance = manifest.facts.balance
    pixels = manifest.facts.census.pixels.get("synthetic/train")
    if balance is None or pixels is None:
        return
    obtained = np.array(list(pixels.values()), dtype=float)
    plot_shares(
        list(balance.shares_before.values()),
        list(balance.shares_planned.values()),
        obtained / obtained.sum(),
        path,
    )


def plot_shares(
    real: npt.ArrayLike, planned: npt.ArrayLike, obtained: npt.ArrayLike | None, path: Path
) -> None:
    """Draw class shares of real, planned and obtained rows as a PNG at ``path``.

    Each is (7,) shares summing to 1, in class order; ``obtained`` None (nothing is generated
    yet) leaves its bars out. Raises ArasError when shares are not of that kind.
    """
    shares = {"real": real, "planned": planned}
    if obtained is not None:
        shares["obtained"] = obtained
    percent = [100 * _shares(name, values) for name, values in shares.items()]
    series = dict(zip(shares, zip(percent, (BLUE, GREY, ORANGE), strict=False), strict=True))
    figure, (axes,) = figures.panels(7.2, 5.4, dpi=150)
    bars = figures.draw_bars(axes, CLASSES, series, "share of pixels, %")
    for drawn, values in zip(bars, percent, strict=True):
        axes.bar_label(drawn, labels=[_label(v) for v in values], padding=3, fontsize=8)
    axes.set_xlim(0, 1.12 * max(values.max() for values in percent))
    figure.legend(loc="outside upper center", ncols=len(series), frameon=False)
    figures.save(figure, path)


def _shares(name: str, values: npt.ArrayLike) -> npt.NDArray[np.float64]:
    shares = np.asarray(values, dtype=np.float64)
    fits = shares.shape == (len(CLASSES),) and bool((shares >= 0).all())
    if not fits or abs(shares.sum() - 1) > 1e-3:
        raise ArasError(
            f"{name} shares are {shares.tolist()}; expected {len(CLASSES)} shares that sum to 1"
        )
    return shares


def _label(share: float) -> str:
    return f"{share:.2f}" if share < 10 else f"{share:.1f}"
