"""Maps and composites on the global grid: WorldCover's products, checked against their names, and
other files, divided into the cells that they touch; maps are read as one mosaic."""

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from rasterio.crs import CRS
from rasterio.transform import Affine
from rasterio.warp import transform_bounds

from builder.core.errors import ArasError
from builder.land import rasters, safe
from builder.land.classes import NODATA, UNKNOWN
from builder.land.grid import (
    COMPOSITE,
    CRS_NAME,
    MAP,
    PER_DEGREE,
    Raster,
    cell_origin,
    lonlat,
    overlap,
    product_name,
)
from builder.land.legends import DROPPED, Legend
from builder.land.rasters import Band, Description, Pixels, Reader

OUTSIDE = 253
"""Fill value of a mosaic outside every map."""

_DEGREES = {MAP: 3, COMPOSITE: 1}
_WANTED = {MAP: rasters.CLASS, COMPOSITE: rasters.COLOURS}
_OFF = 0.02
"""Pixels by which a product may miss the grid, its last pixel by ten times that."""


def described(
    files: Sequence[Path], what: str, offset: float | None = None
) -> tuple[Description, ...]:
    """What a MAP or COMPOSITE says of itself, or each of its files of red, green and blue.

    ``offset`` is the recipe's, in digital numbers. Raises ArasError for what cannot be understood,
    and for bands that lie apart or have samples of several types.
    """
    rule = None if offset is None else rasters.Offset(offset, f"offset = {offset:g} in [tiles]")
    if what == MAP or product_name(files[0]):
        rule = rasters.PLAIN
    if len(files) == 1:
        return (rasters.describe(files[0], _WANTED[what], rule),)
    bands = tuple(
        rasters.describe(path, (colour,), rule)
        for path, colour in zip(files, rasters.COLOURS, strict=True)
    )
    first = bands[0]
    for band in bands[1:]:
        place = (band.crs, band.transform, band.width, band.height)
        if place != (first.crs, first.transform, first.width, first.height):
            raise ArasError(
                f"{band.path}: lies on another grid than {first.path.name}; give bands of one "
                "resolution and one scene"
            )
        if band.dtype != first.dtype:
            raise ArasError(
                f"{band.path}: samples are {band.dtype}, those of {first.path.name} {first.dtype}"
            )
    return bands


def inspect(path: Path, what: str, *, resample: bool) -> Raster:
    """Check a MAP or COMPOSITE against its own name and the grid.

    Raises ArasError saying what is wrong with the file and the way out: its name, what
    `rasters.describe` refuses, another grid (unless ``resample``), or a place other than that
    which its name gives.
    """
    cell, kind = product_name(path) or ("", "")
    if kind != what:
        raise ArasError(
            f"{path}: not named like a WorldCover {what} product "
            f"(…_N36E027_{what}.tif); rename it or narrow the pattern in [tiles]"
        )
    degrees = _DEGREES[what]
    (raster,) = described([path], what)
    warp = _check_grid(raster, resample=resample)
    column, row = cell_origin(cell, degrees)
    right, bottom = column + degrees * PER_DEGREE, row + degrees * PER_DEGREE
    west, south, east, north = _bounds(raster)
    shift = _shift(west, east, column / PER_DEGREE - 180, degrees)
    left, top, end, low = _pixels(west + shift, south, east + shift, north)
    if warp:  # a resampled file may reach beyond its cell
        left, top, end, low = max(left, column), max(top, row), min(end, right), min(low, bottom)
    if not (column <= left < end <= right and row <= top < low <= bottom):
        raise ArasError(
            f"{path}: its name says cell {cell} ({degrees}°), its georeference {west:.4f} to "
            f"{_wrapped(east):.4f}, {south:.4f} to {north:.4f}; rename it or fetch it again"
        )
    place = (left, top, end - left, low - top)
    return Raster(path, what, cell, *place, warp=warp, shift=shift, beside=raster.files)


def placed(files: Sequence[Path], what: str, *, resample: bool, offset: float | None) -> Raster:
    """Where a file, or a scene of three, lies that is not named like a product: its smallest box
    of global pixels.

    Raises ArasError for a file on another grid, unless ``resample``, without a place on Earth, and
    as `described` does.
    """
    descriptions = described(files, what, offset)
    raster = descriptions[0]
    warps = [_check_grid(band, resample=resample) for band in descriptions]
    bounds = _bounds(raster)
    if not np.isfinite(bounds).all():
        raise ArasError(
            f"{raster.path}: its corners have no longitude and latitude; cut out the part that you "
            "need (gdalwarp -te)"
        )
    left, top, end, low = _pixels(*bounds)
    place = (left, top, end - left, low - top)
    return Raster(
        *(raster.path, what, "", *place),
        warp=any(warps),
        beside=tuple(path for band in descriptions for path in band.files),
        bands=tuple(files[1:]),
        acquired=next((band.acquired for band in descriptions if band.acquired), ""),
    )


def _check_grid(raster: Description, *, resample: bool) -> bool:
    """Whether a file has to be resampled; ArasError where it must not or cannot be."""
    problem = _grid_problem(raster)
    if problem and not resample:
        raise ArasError(
            f'{raster.path}: {problem}; set resample = "nearest" or "bilinear" in [tiles] to '
            f"resample it onto the {CRS_NAME} 1/{PER_DEGREE}° grid, or give a product on that grid"
        )
    if problem:
        rasters.check_resampling(raster)
    return bool(problem)


def _pixels(west: float, south: float, east: float, north: float) -> tuple[int, int, int, int]:
    """Left, top, right and bottom of a box in global pixels."""
    edges = (180 + west, 90 - north, 180 + east, 90 - south)
    left, top, right, bottom = (round(PER_DEGREE * value) for value in edges)
    return left, top, right, bottom


def _bounds(raster: Description) -> tuple[float, float, float, float]:
    """West, south, east and north in degrees; east is above 180 where the raster crosses it."""
    west, south, east, north = transform_bounds(raster.crs, CRS_NAME, *raster.corners)
    return west, south, east + 360 if east < west else east, north


def _shift(west: float, east: float, cell_west: float, degrees: int) -> int:
    """Degrees, a multiple of 360, that bring longitudes nearest to a cell: a raster may count
    them from 0 to 360, or cross 180°."""
    return max(
        (0, -360, 360),
        key=lambda shift: min(east + shift, cell_west + degrees) - max(west + shift, cell_west),
    )


def _wrapped(longitude: float) -> float:
    return longitude - 360 if longitude > 180 else longitude


def _grid_problem(raster: Description) -> str:
    """Why a file is not on the global pixel grid; empty when it is."""
    transform = raster.transform
    if raster.crs != CRS.from_epsg(4326):
        return f"its CRS is {raster.crs.to_string()}, not {CRS_NAME}"
    if raster.turn is None:
        return "its grid is rotated"
    size = (transform.a * PER_DEGREE, -transform.e * PER_DEGREE)
    if max(abs(side - 1) for side in size) * max(raster.width, raster.height) > _OFF * 10:
        return f"its pixels are {transform.a:.8f}° × {-transform.e:.8f}°, not 1/{PER_DEGREE}°"
    x, y = (transform.c + 180) * PER_DEGREE, (90 - transform.f) * PER_DEGREE
    if max(abs(x - round(x)), abs(y - round(y))) > _OFF:
        return "its pixels are shifted against the grid by a fraction of a pixel"
    return ""


class Product:
    """An open product, read by global pixels."""

    def __init__(
        self, raster: Raster, readers: Sequence[Reader], classification: Reader | None = None
    ) -> None:
        self.raster, self._readers = raster, readers
        self._classification = classification

    @property
    def bands(self) -> tuple[Band, ...]:
        """The bands that `read` gives, in order."""
        return tuple(band for reader in self._readers for band in reader.description.bands)

    def read(self, column: int, row: int, width: int, height: int) -> Pixels:
        """Read a window given in global pixels; it must lie inside the raster.

        Raises ArasError naming the file when its data is damaged.
        """
        x, y = self._offset
        read = [reader.read(column - x, row - y, width, height) for reader in self._readers]
        if len(read) == 1:
            return self._clear(read[0], column - x, row - y)
        # As in a stack: where no file says what no data is, it is 0 in all of them.
        unsaid = not any(reader.description.says_no_data for reader in self._readers)
        combine = np.logical_or if unsaid else np.logical_and
        pixels = Pixels(
            np.concatenate([pixels.values for pixels in read]),
            combine.reduce([pixels.valid for pixels in read]),
        )
        return self._clear(pixels, column - x, row - y)

    def _clear(self, pixels: Pixels, x: int, y: int) -> Pixels:
        """The pixels of a window, those without data that its classification has as clouds."""
        if self._classification is None:
            return pixels
        height, width = pixels.valid.shape
        (codes,), known = self._classification.read(x, y, width, height)
        clear = ~np.isin(codes, list(safe.DROPPED)) & known
        return pixels._replace(valid=pixels.valid & clear)

    @property
    def _offset(self) -> tuple[int, int]:
        """Global (column, row) of the first pixel that the reader has."""
        return self.raster.column - self.raster.start[0], self.raster.row - self.raster.start[1]

    def filled(self, row: int, height: int) -> tuple[int, int]:
        """Global columns [first, last) between which its rows hold any data, where that is known
        without reading, else all of them."""
        if self.raster.warp:
            return self.raster.column, self.raster.column + self.raster.width
        x, y = self._offset
        spans = [reader.filled(row - y, height) for reader in self._readers]
        return x + min(first for first, _ in spans), x + max(last for _, last in spans)


@contextlib.contextmanager
def opened(
    raster: Raster, resampling: str = "nearest", offset: float | None = None
) -> Iterator[Product]:
    """Open what `inspect` or `placed` has placed."""
    descriptions, grid = described(raster.files, raster.what, offset), None
    if raster.warp:
        west, north = lonlat(raster.column, raster.row)
        if descriptions[0].crs.is_geographic:  # in the longitudes of the file itself
            west -= raster.shift
        transform = Affine(1 / PER_DEGREE, 0, west, 0, -1 / PER_DEGREE, north)
        grid = rasters.Grid(CRS_NAME, transform, raster.width, raster.height)
    with contextlib.ExitStack() as stack:
        readers = [
            stack.enter_context(rasters.opened(description, grid, resampling))
            for description in descriptions
        ]
        clouds = None
        if raster.classification and grid:
            described_clouds = rasters.describe(raster.classification, rasters.CLASS, lossy=True)
            clouds = stack.enter_context(rasters.opened(described_clouds, grid, "nearest"))
        yield Product(raster, readers, clouds)


def mosaic(
    maps: Sequence[Product],
    legend: Legend,
    column: int,
    row: int,
    width: int,
    height: int,
    differs: npt.NDArray[np.bool_] | None = None,
) -> npt.NDArray[np.uint8]:
    """Class ids of a window over any number of maps, seams included.

    Pixels outside every map are OUTSIDE, those without data or of a dropped code NODATA. Where
    several maps have a class, the last one's counts; ``differs`` (height, width) becomes true where
    they have several. Raises
    ArasError naming the map, the code and its count for a code that the legend does not have.
    """
    out = np.full((height, width), OUTSIDE, dtype=np.uint8)
    for product in maps:
        left, top, w, h = overlap(product.raster, column, row, width, height)
        if w <= 0 or h <= 0:
            continue
        (codes,), valid = product.read(left, top, w, h)
        ids = legend.ids(codes)
        ids[~valid] = NODATA
        if (ids == UNKNOWN).any():
            values, counts = np.unique(codes[ids == UNKNOWN], return_counts=True)
            raise ArasError(
                f"{product.raster.path}: class value {int(values[0])} ({int(counts[0])} pixels) "
                + _unknown(legend)
            )
        place = out[top - row : top - row + h, left - column : left - column + w]
        if differs is not None:
            here = differs[top - row : top - row + h, left - column : left - column + w]
            known = np.maximum(place, ids) < min(NODATA, OUTSIDE)
            here |= known & (place != ids)
        # No data hides nothing: a resampled map has some around it.
        np.copyto(place, ids, where=(ids != NODATA) | (place == OUTSIDE))
    return out


def _unknown(legend: Legend) -> str:
    if not legend.title:
        return f'is not in the legend; add it to legend in [tiles], as a class or "{DROPPED}"'
    return (
        f'is not one of {legend.title}\'s; add it to remap in [tiles], as a class or "{DROPPED}", '
        "name another legend, or fetch the map again"
    )


def check_no_data(raster: Description, legend: Legend) -> None:
    """Raise ArasError where a map's no-data value is a class of the legend: either is wrong."""
    nodata = raster.bands[0].nodata
    named = (
        dict(legend.classes).get(int(nodata)) if nodata is not None and nodata % 1 == 0 else None
    )
    if named not in (None, DROPPED):
        raise ArasError(
            f"{raster.path}: says that {nodata:g} is no data, the legend that it is {named}; "
            "remove the no-data value from the file (gdal_edit -unsetnodata) or drop the code in "
            "[tiles]"
        )
