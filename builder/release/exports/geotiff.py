"""GeoTIFFs: every tile and its mask as files that any GIS lays on the map."""

import warnings
from collections import Counter
from pathlib import Path

import numpy as np
import numpy.typing as npt
import rasterio
from rasterio.errors import NotGeoreferencedWarning

from builder.core.errors import ArasError
from builder.core.manifest import read_manifest
from builder.core.progress import counted
from builder.land.classes import CLASSES, PALETTE
from builder.land.pictures import decode_mask, decode_png
from builder.release.exports import Options, Written
from builder.release.exports.tiles import Tile, tiles
from builder.release.geo import crs_of

COLOURS = {number: (*colour, 255) for number, colour in enumerate(PALETTE.tolist())}


def write(release: Path, folder: Path, options: Options) -> Written:
    """Write SPLIT/ID.tif (red, green, blue) and SPLIT/ID.mask.tif (class ids and their colours).

    A row without a place becomes a plain TIFF without CRS and transform: none is left out, and a
    note counts them. Raises ArasError as `tiles`, for a CRS that is unknown, and for ``--stream``.
    """
    if options.streams:
        raise ArasError("geotiff: holds no captions; leave --stream out")
    rows: Counter[str] = Counter()
    plain = 0
    for tile in tiles(release, read_manifest(release)):
        path = folder / tile.split / f"{tile.id}.tif"
        path.parent.mkdir(parents=True, exist_ok=True)
        image, mask = decode_png(tile.image, tile.id), decode_mask(tile.mask, tile.id)
        _write(path, np.moveaxis(image, -1, 0), tile)
        _write(path.with_suffix(".mask.tif"), mask[None], tile, CLASSES)
        plain += tile.transform is None
        rows[tile.split] += 1
    note = f"{counted(plain, 'row')} without a place: plain TIFF, without CRS and transform"
    return Written(dict(rows), notes=(note,) if plain else ())


def _write(
    path: Path, bands: npt.NDArray[np.uint8], tile: Tile, classes: tuple[str, ...] = ()
) -> None:
    """(bands, H, W) as a GeoTIFF without loss; ``classes`` makes it a mask with a colour table."""
    if path.exists():
        raise ArasError(f"{tile.id}: two rows of the release have this id")
    count, height, width = bands.shape
    place = {}
    if tile.transform is not None:
        try:
            crs = crs_of(tile.crs or "")
        except ArasError as error:
            raise ArasError(f"{tile.id}: {error}") from error
        place = {"crs": crs, "transform": rasterio.Affine(*tile.transform)}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(
            path,
            "w",
            driver="GTiff",
            dtype="uint8",
            count=count,
            height=height,
            width=width,
            compress="deflate",
            photometric="palette" if classes else "rgb",
            **place,
        ) as file:
            file.write(bands)
            tags = {"id": tile.id, "kind": tile.kind, "split": tile.split}
            file.update_tags(**tags, **({"source": tile.source} if tile.source else {}))
            if classes:
                file.write_colormap(1, COLOURS)
                file.set_band_description(1, "land cover")
                file.update_tags(1, **{f"class_{i}": name for i, name in enumerate(classes)})
