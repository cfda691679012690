"""The Earth-fixed pixel grid of WorldCover: places of cells, rasters and tiles on it."""

import itertools
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
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


_PRODUCT = re.compile(
    r"(?P<ns>[NS])(?P<lat>\d{2})(?P<ew>[EW])(?P<lon>\d{3})_(?P<what>Map|S2RGBNIR)\.tiff?$"
)


def product_name(path: Path) -> tuple[str, str] | None:
    """(cell, MAP or COMPOSITE) of a file that is named like a product of WorldCover."""
    match = _PRODUCT.search(path.name)
    return match and (f"{match['ns']}{match['lat']}{match['ew']}{match['lon']}", match["what"])


@dataclass(frozen=True)
class Raster:
    """A file and its place in the global pixel grid (column from 180° W, row from 90° N).

    ``what`` it is, MAP or COMPOSITE, and the cell are in a product's name; another file has no
    cell (""), and is its part in each 1° cell once it is divided (`divided`).
    ``warp`` marks a file on another grid, resampled on reading onto this grid; ``shift`` is what
    its longitudes need to become ours, a multiple of 360; ``beside`` are files read with it;
    ``bands`` are the files of green and blue where ``path`` holds red alone;
    ``start`` is the (column, row) of the file at which a part begins that is not resampled;
    ``acquired`` is when it was taken (`land.times`), empty where nothing says so;
    ``classification`` is the map of its clouds, whose pixels count as no data (`land.safe`).
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
    start: tuple[int, int] = (0, 0)
    bands: tuple[Path, ...] = ()
    acquired: str = ""
    classification: Path | None = None

    def __str__(self) -> str:
        """The name of the file, or what the names of its bands, or their folder, share."""
        if not self.bands:
            return self.path.name
        names = zip(*(path.name for path in self.files), strict=False)
        alike = itertools.takewhile(lambda letters: len(set(letters)) == 1, names)
        shared = "".join(letters[0] for letters in alike)
        return re.sub(r"[-_. ]*B?0?$", "", shared) or self.path.parent.name

    @property
    def files(self) -> tuple[Path, ...]:
        """The file, or those of red, green and blue."""
        return (self.path, *self.bands)


def lonlat(column: float, row: float) -> tuple[float, float]:
    """Global pixel (column, row) → (longitude, latitude) in degrees of its upper-left corner."""
    return column / PER_DEGREE - 180, 90 - row / PER_DEGREE


def cell_name(latitude: int, longitude: int) -> str:
    """Name of a cell by its lower-left corner, as WorldCover spells it: N36E028, S01W078."""
    return (
        f"{'S' if latitude < 0 else 'N'}{abs(latitude):02d}"
        f"{'W' if longitude < 0 else 'E'}{abs(longitude):03d}"
    )


def cell_origin(cell: str, degrees: int = 1) -> tuple[int, int]:
    """Upper-left global pixel (column, row) of the cell named by its lower-left corner."""
    match = re.fullmatch(r"([NS])(\d{2})([EW])(\d{3})", cell)
    if not match:
        raise ArasError(f"{cell!r} is not a cell name; expected one like N36E028")
    south = int(match[2]) * (1 if match[1] == "N" else -1)
    west = int(match[4]) * (1 if match[3] == "E" else -1)
    return (west + 180) * PER_DEGREE, (90 - south - degrees) * PER_DEGREE


def divided(raster: Raster, cells: Collection[str] | None = None) -> Iterator[Raster]:
    """A product as it is; any other file as its part in each 1° cell, or in each of ``cells``."""
    if raster.cell:
        yield raster
        return
    end, low = raster.column + raster.width, raster.row + raster.height
    for down in range(max(0, raster.row // PER_DEGREE), min(180, -(-low // PER_DEGREE))):
        for across in range(raster.column // PER_DEGREE, -(-end // PER_DEGREE)):
            cell = cell_name(89 - down, across % 360 - 180)
            if cells is not None and cell not in cells:
                continue
            left, top = max(raster.column, across * PER_DEGREE), max(raster.row, down * PER_DEGREE)
            right = min(end, (across + 1) * PER_DEGREE)
            bottom = min(low, (down + 1) * PER_DEGREE)
            shift = across % 360 - across
            yield replace(
                raster,
                cell=cell,
                column=left + shift * PER_DEGREE,
                row=top,
                width=right - left,
                height=bottom - top,
                shift=shift,
                start=(0, 0) if raster.warp else (left - raster.column, top - raster.row),
            )


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
