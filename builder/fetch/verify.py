"""What a fetched file must be: its size, its md5, or a GeoTIFF of its cell that decodes whole."""

import logging
from dataclasses import dataclass
from pathlib import Path

from builder.errors import CorruptFile
from builder.files import hash_file


@dataclass(frozen=True)
class Raster:
    """What a WorldCover tile must hold: its cell (west, south, east, north; degrees) and bands."""

    bounds: tuple[float, float, float, float]
    bands: int
    dtype: str


@dataclass(frozen=True)
class Remote:
    """One file to fetch.

    ``name`` is its path under the target folder; ``size`` (bytes) and ``md5`` are known
    beforehand or None; ``raster`` is set for WorldCover tiles, which have no published
    checksums; an ``optional`` file that the server answers with 404 is absent, not failed.
    """

    name: str
    url: str
    size: int | None = None
    md5: str | None = None
    raster: Raster | None = None
    optional: bool = False


def verify(path: Path, remote: Remote) -> None:
    """Raise CorruptFile unless ``path`` holds what ``remote`` promises, by all that is known."""
    size = path.stat().st_size
    if remote.size is not None and size != remote.size:
        raise CorruptFile(f"it has {size} bytes, {remote.size} expected")
    if remote.md5 is not None:
        found = hash_file(path, "md5")["md5"]
        if found != remote.md5:
            raise CorruptFile(f"its md5 is {found}, {remote.md5} expected")
    if remote.raster is not None:
        _decode(path, remote.raster)


def _decode(path: Path, expected: Raster) -> None:
    """Read every block of a GeoTIFF, one at a time: a torn or flipped one does not decode."""
    import rasterio
    from rasterio.errors import RasterioError

    # GDAL's own words reach the user through the error; its log would say them twice.
    logging.getLogger("rasterio").setLevel(logging.CRITICAL)
    try:
        with (
            rasterio.Env(GDAL_DISABLE_READDIR_ON_OPEN="EMPTY_DIR", GDAL_CACHEMAX=64),
            rasterio.open(path, driver="GTiff") as tile,
        ):
            if tile.count != expected.bands or set(tile.dtypes) != {expected.dtype}:
                raise CorruptFile(
                    f"it has {tile.count} band(s) of {'/'.join(sorted(set(tile.dtypes)))}, "
                    f"{expected.bands} of {expected.dtype} expected"
                )
            corners = tuple(round(value, 6) for value in tile.bounds)
            far = max(abs(a - b) for a, b in zip(corners, expected.bounds, strict=True))
            if tile.crs is None or tile.crs.to_epsg() != 4326 or far > 0.01:
                raise CorruptFile(
                    f"it lies at {corners} in {tile.crs}, {expected.bounds} in EPSG:4326 expected"
                )
            for _, window in tile.block_windows(1):
                tile.read(window=window)
    except RasterioError as error:
        cause = error.__cause__ or error
        raise CorruptFile(f"it is no GeoTIFF that can be read whole ({cause})") from error
