"""Products of WorldCover and Sentinel-2: checked against their names, read as one mosaic."""

import contextlib
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import rasterio
from rasterio.crs import CRS
from rasterio.enums import Interleaving, Resampling
from rasterio.errors import RasterioError, RasterioIOError
from rasterio.vrt import WarpedVRT
from rasterio.warp import transform_bounds
from rasterio.windows import Window

from builder.core.errors import ArasError
from builder.land.grid import CRS_NAME, PER_DEGREE, Raster, cell_origin, lonlat, overlap

OUTSIDE = 253
"""Fill value of a mosaic outside every map."""

CACHE_MB = 64
"""GDAL's block cache: a strip of a composite. Its default grows to gigabytes that are never read
again, and filling those pages costs more than the reading."""
_NAME = re.compile(
    r"(?P<ns>[NS])(?P<lat>\d{2})(?P<ew>[EW])(?P<lon>\d{3})_(?P<what>Map|S2RGBNIR)\.tiff?$"
)
_DEGREES = {"Map": 3, "S2RGBNIR": 1}
_OFF = 0.02
"""Pixels by which a product may miss the grid, its last pixel by ten times that."""


def inspect(path: Path, what: str, *, bands: int, dtype: str, resample: bool) -> Raster:
    """Check a ``Map`` or ``S2RGBNIR`` product against its own name and the grid.

    Raises ArasError saying what is wrong with the file and the way out: its name, not a GeoTIFF,
    no CRS, another grid (unless ``resample``), bands, dtype, or a place other than that which
    its name gives.
    """
    match = _NAME.search(path.name)
    if not match or match["what"] != what:
        raise ArasError(
            f"{path}: not named like a WorldCover {what} product "
            f"(…_N36E027_{what}.tif); rename it or narrow the pattern in [tiles]"
        )
    cell = f"{match['ns']}{match['lat']}{match['ew']}{match['lon']}"
    degrees = _DEGREES[what]
    try:
        with rasterio.open(path) as source:
            return _place(path, source, cell, degrees, bands, dtype, resample)
    except RasterioIOError as error:
        raise ArasError(
            f"{path}: not a readable GeoTIFF ({error}); fetch the file again"
        ) from error


def _place(
    path: Path, source: Any, cell: str, degrees: int, bands: int, dtype: str, resample: bool
) -> Raster:
    if source.driver != "GTiff":
        raise ArasError(f"{path}: a {source.driver} file, expected a GeoTIFF")
    if source.count < bands:
        raise ArasError(f"{path}: {source.count} bands, expected at least {bands}")
    if source.dtypes[0] != dtype:
        raise ArasError(f"{path}: samples are {source.dtypes[0]}, expected {dtype}")
    if source.crs is None:
        raise ArasError(f"{path}: has no CRS; WorldCover products carry {CRS_NAME}")
    problem = _grid_problem(source)
    if problem and not resample:
        raise ArasError(
            f'{path}: {problem}; set resample = "nearest" or "bilinear" in [tiles] to '
            f"resample it onto the {CRS_NAME} 1/{PER_DEGREE}° grid, or give a product on that grid"
        )
    column, row = cell_origin(cell, degrees)
    right, bottom = column + degrees * PER_DEGREE, row + degrees * PER_DEGREE
    left, top, end, low = _extent(source)
    if problem:  # a resampled file may reach beyond its cell
        left, top, end, low = max(left, column), max(top, row), min(end, right), min(low, bottom)
    if not (column <= left < end <= right and row <= top < low <= bottom):
        west, south, east, north = source.bounds
        raise ArasError(
            f"{path}: its name says cell {cell} ({degrees}°), its georeference {west:.4f} to "
            f"{east:.4f}, {south:.4f} to {north:.4f}; rename it or fetch it again"
        )
    return Raster(path, cell, left, top, end - left, low - top, warp=bool(problem))


def _extent(source: Any) -> tuple[int, int, int, int]:
    """Left, top, right and bottom, in global pixels, of those whose centres a file covers."""
    west, south, east, north = transform_bounds(source.crs, CRS_NAME, *source.bounds)
    x, y = ((180 + west, 180 + east), (90 - north, 90 - south))
    (left, right), (top, bottom) = (
        [round(PER_DEGREE * degrees) for degrees in pair] for pair in (x, y)
    )
    return left, top, right, bottom


def _grid_problem(source: Any) -> str:
    """Why a file is not on the global pixel grid; empty when it is."""
    transform = source.transform
    if source.crs != CRS.from_epsg(4326):
        return f"its CRS is {source.crs.to_string()}, not {CRS_NAME}"
    if transform.b or transform.d:
        return "its grid is rotated"
    size = (transform.a * PER_DEGREE, -transform.e * PER_DEGREE)
    if max(abs(side - 1) for side in size) * max(source.width, source.height) > _OFF * 10:
        return f"its pixels are {transform.a:.8f}° × {-transform.e:.8f}°, not 1/{PER_DEGREE}°"
    x, y = (transform.c + 180) * PER_DEGREE, (90 - transform.f) * PER_DEGREE
    if max(abs(x - round(x)), abs(y - round(y))) > _OFF:
        return "its pixels are shifted against the grid by a fraction of a pixel"
    return ""


@contextlib.contextmanager
def opened(raster: Raster, resampling: str = "nearest") -> Iterator[Any]:
    """Open a raster so that its pixel (0, 0) is (``column``, ``row``) of the global grid."""
    with rasterio.Env(GDAL_CACHEMAX=CACHE_MB), rasterio.open(raster.path) as source:
        if not raster.warp:
            yield source
            return
        west, north = lonlat(raster.column, raster.row)
        transform = rasterio.Affine(1 / PER_DEGREE, 0, west, 0, -1 / PER_DEGREE, north)
        options = {"crs": CRS_NAME, "transform": transform, "src_nodata": 0, "nodata": 0}
        with WarpedVRT(
            source,
            width=raster.width,
            height=raster.height,
            resampling=Resampling[resampling],
            **options,
        ) as warped:
            yield warped


def read(
    source: Any,
    raster: Raster,
    bands: Sequence[int],
    column: int,
    row: int,
    width: int,
    height: int,
) -> npt.NDArray[Any]:
    """Read a window given in global pixels; it must lie inside ``raster``.

    Returns (bands, height, width). Raises ArasError naming the file when its data is damaged.
    """
    window = Window(column - raster.column, row - raster.row, width, height)
    try:
        data: npt.NDArray[Any] = source.read(list(bands), window=window)
    except RasterioError as error:
        raise ArasError(
            f"{raster.path}: cannot be read around row {row - raster.row} ({error}); the file is "
            "truncated or damaged: fetch it again"
        ) from error
    return data


def stored(source: Any, raster: Raster, row: int, height: int) -> tuple[int, int]:
    """Global pixel columns [first, last) between which the rows of ``raster`` hold any data.

    A sparse GeoTIFF leaves out blocks of nothing but its no-data value; outside this range every
    sample is 0. The whole width where that is unknown (resampled, no blocks, no data ≠ 0). Bands
    that are stored apart are checked in turn.
    """
    whole = (raster.column, raster.column + raster.width)
    if raster.warp or source.nodata not in (None, 0):
        return whole
    high, wide = source.block_shapes[0]
    lines = range((row - raster.row) // high, (row - raster.row + height - 1) // high + 1)
    bands = (1,) if source.interleaving is Interleaving.pixel else source.indexes
    there = [
        x
        for x in range(-(-raster.width // wide))
        if any(
            source.get_tag_item(f"BLOCK_OFFSET_{x}_{y}", "TIFF", bidx=band)
            for y in lines
            for band in bands
        )
    ]
    if not there:
        return raster.column, raster.column
    last = min(raster.width, (there[-1] + 1) * wide)
    return raster.column + there[0] * wide, raster.column + last


def mosaic(
    maps: Sequence[tuple[Any, Raster]],
    table: npt.NDArray[np.uint8],
    unknown: int,
    column: int,
    row: int,
    width: int,
    height: int,
) -> npt.NDArray[np.uint8]:
    """Class ids of a window over any number of maps, seams included.

    ``table`` (256,) maps codes to ids; pixels outside every map are OUTSIDE. Raises ArasError
    naming the map, the code and its count for a code that maps to ``unknown``.
    """
    out = np.full((height, width), OUTSIDE, dtype=np.uint8)
    for source, raster in maps:
        left, top, w, h = overlap(raster, column, row, width, height)
        if w <= 0 or h <= 0:
            continue
        codes = read(source, raster, [1], left, top, w, h)[0]
        ids = table[codes]
        if (ids == unknown).any():
            values, counts = np.unique(codes[ids == unknown], return_counts=True)
            raise ArasError(
                f"{raster.path}: class value {int(values[0])} ({int(counts[0])} pixels) is not "
                "one of WorldCover's; add it to remap in [tiles] or fetch the map again"
            )
        place = out[top - row : top - row + h, left - column : left - column + w]
        # No data hides nothing: a resampled map has some around it.
        np.copyto(place, ids, where=(ids != table[0]) | (place == OUTSIDE))
    return out
