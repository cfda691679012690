"""How much a split leaks: distances between its parts, their class shares, and a map."""

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from builder.core import figures
from builder.core.errors import ArasError
from builder.core.figures import DPI, GRID, INK, SPLIT_COLOURS
from builder.land.classes import CLASSES
from builder.land.columns import SPLITS
from builder.tiles.split import block_corners, block_names, nearest_gap, smallest_distance
from builder.tiles.subsets import Rows

COLOURS = [SPLIT_COLOURS[name] for name in SPLITS]
ASIDE = "#CC0044"
"""Colour of tiles that the split leaves out."""
WIDTH = 7.2
"""Inches of a map."""
SHOWN = 3
"""Fewest pixels of a tile that is drawn as a square; a smaller tile would be lost in its block."""
DOT = 0.8
"""Area of a smaller tile's dot, in points²."""


@dataclass(frozen=True)
class SplitPart:
    """One split of several."""

    tiles: int
    class_shares: dict[str, float]
    divergence: float | None
    """Jensen-Shannon divergence (base 2, 0…1) from the class shares of all tiles; None if empty."""


@dataclass(frozen=True)
class SplitLeakage:
    """How much a split leaks, and how its parts are balanced."""

    tiles: int
    without_place: int
    """Tiles whose place is unknown: no distance counts them."""
    test_near_train: dict[str, float | None]
    """Distance in km, edge to edge → share of test tiles with a train tile within it; 0 means
    touching. None where train or test is empty."""
    smallest_distance_km: dict[str, float | None]
    blocks_in_several_splits: int | None
    """None when the tiles have no blocks."""
    splits: dict[str, SplitPart]

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def measure(rows: Rows, size: float, within_km: tuple[float, ...]) -> SplitLeakage:
    """Leakage and balance of a split of tiles of ``size`` degrees."""
    from scipy.spatial.distance import jensenshannon

    known = rows.take(rows.placed)
    train, test = (known.places[known.splits == SPLITS.index(n)] for n in ("train", "test"))
    gap = nearest_gap(test, train, size, max(within_km))
    both = len(train) and len(test)
    near = {f"{km:g}": float((gap <= km).mean()) if both else None for km in within_km}
    whole = _shares(rows.pixels)
    splits = {}
    for i, name in enumerate(SPLITS):
        part = rows.splits == i
        shares = _shares(rows.pixels[part])
        divergence = float(jensenshannon(shares, whole, base=2) ** 2) if part.any() else None
        splits[name] = SplitPart(
            tiles=int(part.sum()),
            class_shares=dict(zip(CLASSES, shares.round(5).tolist(), strict=True)),
            divergence=None if divergence is None else round(divergence, 5),
        )
    return SplitLeakage(
        tiles=len(rows.ids),
        without_place=len(rows.ids) - len(known.ids),
        test_near_train=near,
        smallest_distance_km=smallest_distance(known.places, known.splits, size),
        blocks_in_several_splits=_straddling(rows),
        splits=splits,
    )


def _shares(pixels: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    total = pixels.sum(axis=0).astype(float)
    return np.asarray(total / max(1.0, total.sum()))


def _straddling(rows: Rows) -> int | None:
    where = _splits_of_blocks(rows)
    return sum(len(splits) > 1 for splits in where.values()) if where else None


def _splits_of_blocks(rows: Rows) -> dict[str, set[int]]:
    where: dict[str, set[int]] = {}
    for block, split in zip(rows.blocks, rows.splits.tolist(), strict=True):
        if block is not None:
            where.setdefault(block, set()).add(split)
    return where


def with_blocks(rows: Rows, block: float) -> Rows:
    """The rows with the blocks of ``block`` degrees that they lie in, where none are given."""
    if any(rows.blocks):
        return rows
    names: list[str | None] = [None] * len(rows.ids)
    where = np.flatnonzero(rows.placed)
    for i, name in zip(where, block_names(rows.places[where], block).tolist(), strict=True):
        names[i] = name
    return replace(rows, blocks=names)


def draw_map(rows: Rows, size: float, path: Path, aside: Rows | None = None) -> None:
    """Draw every block in the colour of its split, and in ``ASIDE`` the tiles of no split.

    A block with tiles of several splits is an outline, and its tiles are dots. Tiles are squares of
    their own size where that is `SHOWN` pixels or more. Raises ArasError when no place is known or
    ``path`` cannot be written.
    """
    from matplotlib.collections import PolyCollection
    from matplotlib.colors import to_rgba
    from matplotlib.patches import Patch

    rows = rows.take(rows.placed)
    if not len(rows.ids):
        raise ArasError(f"{path}: no map to draw, because no tile has a place")
    aside = rows.take(np.zeros(len(rows.ids), dtype=bool)) if aside is None else aside
    aside = aside.take(aside.placed)
    splits_of = _splits_of_blocks(rows)
    corners = {name: block_corners(name) for name in splits_of}
    points = np.concatenate([rows.places, aside.places, *corners.values()])
    west, south = points.min(axis=0) - 2 * size
    east, north = points.max(axis=0) + 2 * size
    aspect = 1 / np.cos(np.radians((south + north) / 2))
    height = (WIDTH - 1) * aspect * (north - south) / (east - west) + 1.2
    figure, (axes,) = figures.panels(WIDTH, min(max(height, 1.8), 14))
    axes.set(xlim=(west, east), ylim=(south, north), xlabel="longitude (°)", ylabel="latitude (°)")
    axes.set_aspect(aspect)
    axes.grid(color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    shown = size / (east - west) * (WIDTH - 1) * DPI >= SHOWN

    def squares(places: npt.NDArray[np.float64], colours: list[str]) -> None:
        if shown:
            outline = np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)]) * size / 2
            tiles = list(places[:, None, :] + outline)
            axes.add_collection(PolyCollection(tiles, facecolors=colours, linewidths=0))
        else:
            axes.scatter(places[:, 0], places[:, 1], s=DOT, c=colours, linewidths=0)

    single = {name: COLOURS[min(splits)] for name, splits in splits_of.items() if len(splits) == 1}
    opacity = 0.35 if shown else 1
    fills = [to_rgba(single[name], opacity) if name in single else "none" for name in splits_of]
    axes.add_collection(PolyCollection(list(corners.values()), facecolors=fills))
    loose = rows.take(np.array([shown or block not in single for block in rows.blocks]))
    squares(loose.places, [COLOURS[split] for split in loose.splits])
    squares(aside.places, [ASIDE] * len(aside.ids))
    outlines = PolyCollection(list(corners.values()), facecolors="none", edgecolors=INK)
    outlines.set(linewidth=0.6, zorder=3)
    axes.add_collection(outlines)
    counts = np.bincount(rows.splits, minlength=len(SPLITS))
    legend = [
        Patch(color=colour, label=f"{name} ({count:,})")
        for name, colour, count in zip(SPLITS, COLOURS, counts, strict=True)
    ]
    if aside.ids:
        legend.append(Patch(color=ASIDE, label=f"in no split ({len(aside.ids):,})"))
    figure.legend(handles=legend, loc="outside upper center", ncols=4, frameon=False)
    try:
        figures.save(figure, path)
    except OSError as error:
        raise ArasError(f"{path}: cannot write the map: {error.strerror}") from error
