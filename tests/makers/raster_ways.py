"""One composite, or one map, written in the many ways that files say the same thing."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import rasterio
from rasterio.enums import ColorInterp

from builder.land.grid import PER_DEGREE, lonlat

Data = npt.NDArray[Any]
Hole = npt.NDArray[np.bool_]
Way = Callable[[Path, Data, Hole, int, int], None]
"""Writes (bands, H, W), without data where the hole (H, W) is true, at global (column, row)."""

STEP = 1 / PER_DEGREE


def write(
    path: Path,
    data: Data,
    column: int,
    row: int,
    *,
    tags: dict[str, Any] | None = None,
    mask: Hole | None = None,
    internal: bool = True,
    **profile: Any,
) -> None:
    """Write a GeoTIFF with attributes ``tags`` of the open dataset; ``mask`` is true at data."""
    west, north = lonlat(column, row)
    options: dict[str, Any] = {
        "driver": "GTiff",
        "count": len(data),
        "height": data.shape[1],
        "width": data.shape[2],
        "dtype": data.dtype,
        "crs": "EPSG:4326",
        "transform": rasterio.Affine(STEP, 0, west, 0, -STEP, north),
        "compress": "deflate",
    } | profile
    with (
        rasterio.Env(GDAL_TIFF_INTERNAL_MASK=internal),
        rasterio.open(path, "w", **options) as out,
    ):
        out.write(data)
        for name, value in (tags or {}).items():
            setattr(out, name, value)
        if mask is not None:
            out.write_mask(mask)


def filled(data: Data, hole: Hole, value: float) -> Data:
    return np.where(hole, np.asarray(value, data.dtype), data)


def scaled(dtype: str, factor: float, offset: float, nodata: float) -> Way:
    """Values of ``dtype`` that ``factor`` and ``offset`` make reflectance."""

    def way(path: Path, dn: Data, hole: Hole, column: int, row: int) -> None:
        values = (dn / 10_000 - offset) / factor
        if np.dtype(dtype).kind != "f":
            values = np.rint(values)
        tags = {"scales": [factor] * len(dn), "offsets": [offset] * len(dn)}
        if (factor, offset) in ((1, 0), (1e-4, 0)) and dtype != "float32":
            tags = {}
        data = filled(values.astype(dtype), hole, nodata)
        write(path, data, column, row, nodata=nodata, tags=tags)

    return way


def tagged(nodata: float, **profile: Any) -> Way:
    """As products are written, in another file layout."""

    def way(path: Path, dn: Data, hole: Hole, column: int, row: int) -> None:
        write(path, filled(dn, hole, nodata), column, row, nodata=nodata, **profile)

    return way


def masked(internal: bool) -> Way:
    """A mask in the file, or in a .msk beside it; what it covers looks like data."""

    def way(path: Path, dn: Data, hole: Hole, column: int, row: int) -> None:
        write(path, filled(dn, hole, 5), column, row, mask=~hole, internal=internal)

    return way


def alpha(path: Path, dn: Data, hole: Hole, column: int, row: int) -> None:
    colours = [ColorInterp.red, ColorInterp.green, ColorInterp.blue, ColorInterp.alpha]
    opaque = np.where(hole, 0, 65535)[None].astype(dn.dtype)
    write(path, np.concatenate([filled(dn[:3], hole, 5), opaque]), column, row, photometric="RGB")
    with rasterio.open(path, "r+") as out:
        out.colorinterp = colours


def named(order: list[int], names: list[str]) -> Way:
    """Bands in another order, with names that say so; bands beyond the four are noise."""

    def way(path: Path, dn: Data, hole: Hole, column: int, row: int) -> None:
        noise = np.full_like(dn[0], 7777)
        bands = [dn[i] if i < len(dn) else noise for i in order]
        data = filled(np.stack(bands), hole, 0)
        write(path, data, column, row, nodata=0, tags={"descriptions": names})

    return way


def coloured(path: Path, dn: Data, hole: Hole, column: int, row: int) -> None:
    colours = [ColorInterp.blue, ColorInterp.green, ColorInterp.red, ColorInterp.undefined]
    data = filled(dn[[2, 1, 0, 3]], hole, 0)
    write(path, data, column, row, nodata=0, tags={"colorinterp": colours})


def turned(transpose: bool, rows: int, columns: int) -> Way:
    """Stored transposed, with mirrored rows or columns (-1), and a geotransform that says so."""

    def way(path: Path, dn: Data, hole: Hole, column: int, row: int) -> None:
        data = filled(dn, hole, 0)[:, ::rows, ::columns]
        west, north = lonlat(column, row)
        x = west if columns > 0 else west + STEP * dn.shape[2]
        y = north if rows > 0 else north - STEP * dn.shape[1]
        place = rasterio.Affine(STEP * columns, 0, x, 0, -STEP * rows, y)
        if transpose:
            data = data.swapaxes(1, 2)
            place = rasterio.Affine(0, STEP * columns, x, -STEP * rows, 0, y)
        write(path, np.ascontiguousarray(data), column, row, nodata=0, transform=place)

    return way


def east_of_zero(path: Path, dn: Data, hole: Hole, column: int, row: int) -> None:
    """Longitudes from 0 to 360 in place of −180 to 180."""
    west, north = lonlat(column, row)
    place = rasterio.Affine(STEP, 0, west + 360, 0, -STEP, north)
    write(path, filled(dn, hole, 0), column, row, nodata=0, transform=place)


def point(path: Path, dn: Data, hole: Hole, column: int, row: int) -> None:
    write(path, filled(dn, hole, 0), column, row, nodata=0)
    with rasterio.open(path, "r+") as out:
        out.update_tags(AREA_OR_POINT="Point")


def beside(path: Path, dn: Data, hole: Hole, column: int, row: int) -> None:
    """Scale, offset and no-data value in an .aux.xml beside the file."""
    write(path, filled(dn + 1000, hole, 65535), column, row)
    bands = "".join(
        f'<PAMRasterBand band="{i + 1}"><NoDataValue>65535</NoDataValue><Offset>-0.1</Offset>'
        "<Scale>0.0001</Scale></PAMRasterBand>"
        for i in range(len(dn))
    )
    path.with_name(f"{path.name}.aux.xml").write_text(f"<PAMDataset>{bands}</PAMDataset>")


COMPOSITES: dict[str, Way] = {
    "as products are": tagged(0),
    "offset": scaled("uint16", 1e-4, -0.1, 0),
    "scale": scaled("uint16", 2e-5, 0, 0),
    "scale and offset": scaled("uint16", 5e-5, -0.05, 65535),
    "int16": scaled("int16", 1e-4, 0, -9999),
    "int16 with offset": scaled("int16", 1e-4, 0.5, -32768),
    "int32": scaled("int32", 1e-6, 0, -1),
    "float32 reflectance": scaled("float32", 1, 0, -9999),
    "float64 with NaN": scaled("float64", 1, 0, float("nan")),
    "float32 with scale": scaled("float32", 1e-4, 0, float("nan")),
    "no data at the top": tagged(65535),
    "mask in the file": masked(internal=True),
    "mask beside the file": masked(internal=False),
    "alpha": alpha,
    "blue first, by number": named([2, 1, 0, 3], ["B02", "B03", "B04", "B08"]),
    "blue first, by word": named([2, 1, 0, 3], ["Blue", "green", "RED", "nir"]),
    "thirteen bands": named(
        [9, 2, 1, 0, 9, 9, 9, 3, 9, 9, 9, 9, 9],
        [
            *("B1, coastal aerosol", "B2, central wavelength 490 nm", "B3, central wavelength"),
            *("B4, central wavelength 665 nm", "B5", "B6", "B7", "B8", "B8A", "B9", "B10"),
            *("B11", "B12"),
        ],
    ),
    "blue first, by colour": coloured,
    "south up": turned(False, -1, 1),
    "mirrored": turned(False, 1, -1),
    "turned by 180°": turned(False, -1, -1),
    "turned by 90°": turned(True, -1, 1),
    "turned by 270°": turned(True, 1, -1),
    "transposed": turned(True, 1, 1),
    "longitudes to 360": east_of_zero,
    "tiled, bands apart": tagged(
        0, tiled=True, blockxsize=16, blockysize=16, interleave="band", predictor=2
    ),
    "zstd": tagged(0, compress="zstd"),
    "BigTIFF": tagged(0, BIGTIFF="YES"),
    "big-endian": tagged(0, ENDIANNESS="BIG"),
    "pixel is point": point,
    "aux.xml": beside,
}
"""Ways to write one composite of digital numbers above 0 and below 10,000."""


def _code_way(dtype: str, nodata: float | None, **tags: Any) -> Way:
    def way(path: Path, codes: Data, hole: Hole, column: int, row: int) -> None:
        data = codes.astype(dtype) if nodata is None else filled(codes.astype(dtype), hole, nodata)
        mask = ~hole if nodata is None else None
        write(path, data, column, row, nodata=nodata, mask=mask, tags=tags)

    return way


def _with_quality(path: Path, codes: Data, hole: Hole, column: int, row: int) -> None:
    """A second band, of quality, before the classes."""
    data = np.concatenate([np.full_like(codes, 99), filled(codes, hole, 0)])
    write(path, data, column, row, nodata=0, tags={"descriptions": ["quality", "class"]})


def _painted(path: Path, codes: Data, hole: Hole, column: int, row: int) -> None:
    write(path, filled(codes, hole, 0), column, row, nodata=0, photometric="palette")
    with rasterio.open(path, "r+") as out:
        out.write_colormap(1, {code: (code, 255 - code, 7, 255) for code in range(256)})


MAPS: dict[str, Way] = {
    "as products are": tagged(0),
    "no data at the top": _code_way("uint8", 255),
    "int16": _code_way("int16", -128),
    "mask": _code_way("uint8", None),
    "south up": turned(False, -1, 1),
    "turned by 90°": turned(True, -1, 1),
    "longitudes to 360": east_of_zero,
    "quality first": _with_quality,
    "palette": _painted,
}
"""Ways to write one map of WorldCover codes (1, H, W)."""
