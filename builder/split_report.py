"""How much a split leaks: distances between its parts, their class shares, and a map."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.spatial.distance import jensenshannon

from builder.landcover import CLASSES
from builder.schema import SPLITS
from builder.stages.split import nearest_gap, smallest_distance
from builder.subsets import Rows

COLOURS = ("#999999", "#E69F00", "#0072B2")
"""Train, validation, test; told apart with every common colour vision deficiency."""


def measure(rows: Rows, size: float, within_km: tuple[float, ...]) -> dict[str, Any]:
    """Leakage and balance of a split of tiles of ``size`` degrees.

    ``test_near_train``: share of test tiles with a train tile within d km, edge to edge, for each
    d; 0 km means touching. ``divergence``: Jensen-Shannon divergence (base 2, 0…1) of a split's
    class shares from those of all rows.
    """
    train, test = (rows.places[rows.splits == SPLITS.index(n)] for n in ("train", "test"))
    gap = nearest_gap(test, train, size, max(within_km))
    near = {f"{km:g}": float((gap <= km).mean()) if len(gap) else None for km in within_km}
    whole = _shares(rows.pixels)
    splits = {}
    for i, name in enumerate(SPLITS):
        part = rows.splits == i
        shares = _shares(rows.pixels[part])
        divergence = float(jensenshannon(shares, whole, base=2) ** 2) if part.any() else None
        splits[name] = {
            "tiles": int(part.sum()),
            "class_shares": dict(zip(CLASSES, shares.round(5).tolist(), strict=True)),
            "divergence": None if divergence is None else round(divergence, 5),
        }
    return {
        "tiles": len(rows.ids),
        "test_near_train": near,
        "smallest_distance_km": smallest_distance(rows.places, rows.splits, size),
        "blocks_in_several_splits": _straddling(rows),
        "splits": splits,
    }


def _shares(pixels: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    total = pixels.sum(axis=0).astype(float)
    return np.asarray(total / max(1.0, total.sum()))


def _straddling(rows: Rows) -> int:
    where: dict[str, set[int]] = {}
    for block, split in zip(rows.blocks, rows.splits.tolist(), strict=True):
        if block is not None:
            where.setdefault(block, set()).add(split)
    return sum(len(found) > 1 for found in where.values())


def draw_map(rows: Rows, size: float, path: Path) -> None:
    """Draw every tile as a square at its place, in the colour of its split."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.collections import PolyCollection
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    half = size / 2
    corners = np.array([(-half, -half), (half, -half), (half, half), (-half, half)])
    squares = rows.places[:, None, :] + corners
    figure = Figure(figsize=(7.2, 6), dpi=130, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    colours = [COLOURS[one] for one in rows.splits]
    axes.add_collection(PolyCollection(list(squares), facecolors=colours, linewidths=0))
    west, south = rows.places.min(axis=0) - 2 * size
    east, north = rows.places.max(axis=0) + 2 * size
    axes.set(xlim=(west, east), ylim=(south, north), xlabel="longitude (°)", ylabel="latitude (°)")
    axes.set_aspect(1 / np.cos(np.radians((south + north) / 2)))
    axes.spines[["top", "right"]].set_visible(False)
    counts = np.bincount(rows.splits, minlength=len(SPLITS))
    legend = [
        Patch(color=colour, label=f"{name} ({count:,})")
        for name, colour, count in zip(SPLITS, COLOURS, counts, strict=True)
    ]
    figure.legend(handles=legend, loc="outside upper center", ncols=3, frameon=False)
    figure.savefig(path, format="png", metadata={"Software": None})
