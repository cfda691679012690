"""The Earth-fixed pixel grid of WorldCover: places of cells, rasters and tiles on it."""

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from builder.core.errors import ArasError

PER_DEGREE = 12_000
"""Pixels per degree of the WorldCover products (EPSG:4326)."""
CRS_NAME = "EPSG:4326"
EARTH_KM = 6371.0088
MAP, COMPOSITE = "Map", "S2RGBNIR"
"""What a product is, as its name says."""


@dataclass(frozen=True)
class Raster:
    """A product file and its place in the global pixel grid (column from 180° W, row from 90° N).

    ``what`` it is, MAP or COMPOSITE, is in its name, as is the cell.
    ``warp`` marks a file on another grid, resampled on reading onto this grid; ``shift`` is what
    its longitudes need to become ours, a multiple of 360; ``beside`` are files read with it.
    """

    path: Path
    what: str
    cell: str
    column: int
    row: int
    width: int
    height: int
    warp: bool = False
    shift: int = 0
    beside: tuple[Path, ...] = ()

    def __str__(self) -> str:
        return self.path.name


def lonlat(column: float, row: float) -> tuple[float, float]:
    """Global pixel (column, row) → (longitude, latitude) in degrees of its upper-left corner."""
    return column / PER_DEGREE - 180, 90 - row / PER_DEGREE


def cell_origin(cell: str, degrees: int = 1) -> tuple[int, int]:
    """Upper-left global pixel (column, row) of the cell named by its lower-left corner."""
    match = re.fullmatch(r"([NS])(\d{2})([EW])(\d{3})", cell)
    if not match:
        raise ArasError(f"{cell!r} is not a cell name; expected one like N36E028")
    south = int(match[2]) * (1 if match[1] == "N" else -1)
    west = int(match[4]) * (1 if match[3] == "E" else -1)
    return (west + 180) * PER_DEGREE, (90 - south - degrees) * PER_DEGREE


def overlap(raster: Raster, column: int, row: int, width: int, height: int) -> tuple[int, ...]:
    """Intersection (column, row, width, height) in global pixels; width or height ≤ 0 if none."""
    left, top = max(column, raster.column), max(row, raster.row)
    right = min(column + width, raster.column + raster.width)
    bottom = min(row + height, raster.row + raster.height)
    return left, top, right - left, bottom - top


def gap_km(
    longitude: npt.NDArray[np.float64],
    latitude: npt.NDArray[np.float64],
    other_longitude: npt.NDArray[np.float64],
    other_latitude: npt.NDArray[np.float64],
    size: float,
) -> npt.NDArray[np.float64]:
    """Kilometres between the edges of tiles of ``size`` degrees given by their centres.

    Touching or overlapping tiles have gap 0. Equirectangular at the mean latitude: exact enough
    (better than 1 %) below some hundred kilometres. Crosses the date line.
    """
    d_lon = np.abs((longitude - other_longitude + 180) % 360 - 180)
    d_lat = np.abs(latitude - other_latitude)
    slack = 0.5 / PER_DEGREE  # half a pixel: neighbours touch
    x = np.where(d_lon - size > slack, d_lon - size, 0.0)
    y = np.where(d_lat - size > slack, d_lat - size, 0.0)
    x = x * np.cos(np.radians((latitude + other_latitude) / 2))
    return np.asarray(np.hypot(x, y) * np.pi / 180 * EARTH_KM)
