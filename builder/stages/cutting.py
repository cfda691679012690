"""Cutting tiles: patches of a composite and its maps, kept or counted under one reason."""

import contextlib
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from builder import geo, landcover
from builder.grid import CRS_NAME, PER_DEGREE, Raster, cell_origin, lonlat
from builder.pictures import Pixels, composition_columns, encode_png, image_column
from builder.stage import Made

if TYPE_CHECKING:
    from builder.stages.tiles import Payload, Tiles

STRIP = 2
"""Patch rows read at once: whole rows of the products' 512-pixel blocks."""
DN_PER_REFLECTANCE = 10_000
REASONS = ("black", "partly_black", "no_map", "nodata", "water")
"""Why a candidate patch is dropped, in the order in which the rules are applied."""


def scale(dn: npt.NDArray[np.uint16], reflectance: tuple[float, float]) -> Pixels:
    """Digital numbers → 8-bit, linear over one fixed reflectance range, saturating at its ends."""
    low, high = (one * DN_PER_REFLECTANCE for one in reflectance)
    steps = np.arange(65536, dtype=np.float64)
    table = np.clip(np.rint((steps - low) * 255 / (high - low)), 0, 255).astype(np.uint8)
    return table[dn]


def cut(stage: "Tiles", payload: "Payload", table: Pixels) -> Made:
    composite = payload.composite
    origin = cell_origin(composite.cell)
    counts: Counter[str] = Counter({"candidates": 0, "kept": 0, **dict.fromkeys(REASONS, 0)})
    rows: list[dict[str, Any]] = []
    with contextlib.ExitStack() as stack:
        resampling = "bilinear" if stage.resample == "refuse" else stage.resample
        image = stack.enter_context(geo.opened(composite, resampling))
        maps = [(stack.enter_context(geo.opened(one)), one) for one in payload.maps]
        for first in range(payload.first, payload.first + payload.rows, STRIP):
            last = min(first + STRIP, payload.first + payload.rows)
            for patch in _strip(stage, image, maps, composite, (first, last), table, counts):
                rows.append(_row(stage, composite, origin, *patch))
    counts["kept"] = len(rows)
    return Made(_table(rows), dict(counts))


def _strip(
    stage: "Tiles",
    image: Any,
    maps: Sequence[tuple[Any, Raster]],
    composite: Raster,
    patch_rows: tuple[int, int],
    table: Pixels,
    counts: Counter[str],
) -> Iterator[tuple[int, int, npt.NDArray[np.uint16], Pixels]]:
    """Apply the rules to one strip; yields (patch row, patch column, DN (3, s, s), mask)."""
    size = stage.size
    left, top = cell_origin(composite.cell)
    # Patches wholly inside the file: all of the cell for an uncropped composite.
    columns = _inside(left, composite.column, composite.width, size, (0, PER_DEGREE // size))
    lines = _inside(top, composite.row, composite.height, size, patch_rows)
    if not columns or not lines:
        return
    y, height = top + lines[0] * size, len(lines) * size
    first, last = geo.stored(image, composite, y, height)
    every = len(columns)
    columns = [one for one in columns if first - size < left + one * size < last]
    counts["candidates"] += (every - len(columns)) * len(lines)
    counts["black"] += (every - len(columns)) * len(lines)
    if not columns:
        return
    x, width = left + columns[0] * size, len(columns) * size
    dn = geo.read(image, composite, [1, 2, 3], x, y, width, height)
    grid = (len(lines), size, len(columns), size)
    dark = (np.bitwise_or.reduce(dn) == 0).view(np.uint8).reshape(grid)
    black = dark.sum(axis=1, dtype=np.uint16).sum(axis=2, dtype=np.uint32) / size**2
    counts["candidates"] += black.size
    counts["black"] += int((black == 1).sum())
    counts["partly_black"] += int(((black < 1) & (black > stage.max_black)).sum())
    bright = np.argwhere((black < 1) & (black <= stage.max_black))
    if not len(bright):
        return
    low, high = bright[:, 1].min(), bright[:, 1].max() + 1
    ids = geo.mosaic(maps, table, landcover.UNKNOWN, x + low * size, y, (high - low) * size, height)
    for line, column in bright:
        mask = ids[line * size :, (column - low) * size :][:size, :size]
        reason = _reject(mask, stage.max_water)
        if reason:
            counts[reason] += 1
            continue
        patch = dn[:, line * size :, column * size :][:, :size, :size]
        yield lines[line], columns[column], patch, mask


def _inside(origin: int, start: int, length: int, size: int, patches: tuple[int, int]) -> list[int]:
    """Patch numbers whose pixels all lie in [start, start + length)."""
    return [
        one
        for one in range(*patches)
        if start <= origin + one * size and origin + (one + 1) * size <= start + length
    ]


def _reject(mask: Pixels, max_water: float) -> str:
    if (mask == geo.OUTSIDE).any():
        return "no_map"
    if (mask == landcover.NODATA).any():
        return "nodata"
    return "water" if (mask == landcover.WATER).mean() > max_water else ""


def _row(
    stage: "Tiles",
    composite: Raster,
    origin: tuple[int, int],
    line: int,
    column: int,
    dn: npt.NDArray[np.uint16],
    mask: Pixels,
) -> dict[str, Any]:
    size = stage.size
    x, y = origin[0] + column * size, origin[1] + line * size
    west, north = lonlat(x, y)
    longitude, latitude = lonlat(x + size / 2, y + size / 2)
    return {
        "id": f"real/{composite.cell}_{line:03d}_{column:03d}",
        "image": encode_png(np.ascontiguousarray(scale(dn, stage.reflectance).transpose(1, 2, 0))),
        "mask": encode_png(np.ascontiguousarray(mask)),
        "counts": landcover.count_pixels(mask),
        "transform": [1 / PER_DEGREE, 0.0, west, 0.0, -1 / PER_DEGREE, north],
        "longitude": longitude,
        "latitude": latitude,
        "source": composite.path.name,
        "saturated": float((dn > stage.reflectance[1] * DN_PER_REFLECTANCE).mean()),
    }


def _table(rows: list[dict[str, Any]]) -> pa.Table:
    names = [row["id"].split("/")[-1] + ".png" for row in rows]
    counts = np.array([row["counts"] for row in rows], dtype=np.int64).reshape(-1, 7)
    plain = ("longitude", "latitude", "saturated")
    return pa.table(
        {
            "id": pa.array([row["id"] for row in rows], pa.string()),
            "image": image_column([row["image"] for row in rows], names),
            "mask": image_column([row["mask"] for row in rows], names),
            **composition_columns(counts),
            "crs": pa.array([CRS_NAME] * len(rows), pa.string()),
            "transform": pa.array([row["transform"] for row in rows], pa.list_(pa.float64(), 6)),
            "source": pa.array([row["source"] for row in rows], pa.string()),
            **{name: pa.array([row[name] for row in rows], pa.float64()) for name in plain},
        }
    )
