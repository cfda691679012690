"""Maker of tiny maps and composites: real GeoTIFFs, named and placed like the products, cropped."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import rasterio
from scipy import ndimage

from builder.land.grid import PER_DEGREE, cell_origin, lonlat
from builder.land.rasters import DN_PER_REFLECTANCE, Band, rendered
from builder.pipeline.demo import CODES, SPECTRA

CELL = "N36E033"
SIZE = 64
"""Patch size of tests: the smallest that a recipe may ask for."""


def map_name(cell: str, prefix: str = "ESA_WorldCover_10m_2021_v200") -> str:
    return f"{prefix}_{cell}_Map.tif"


def composite_name(cell: str) -> str:
    return f"ESA_WorldCover_10m_2021_V2_{cell}_S2RGBNIR.tif"


def write_tif(
    path: Path, data: npt.NDArray[Any], column: int, row: int, per_degree: int = 0, **profile: Any
) -> Path:
    """Write (bands, H, W) with its upper-left at global pixel (column, row); 0 is no data.

    ``per_degree`` other than the grid's makes coarser or finer pixels; ``profile`` overrides
    anything else (crs, transform, driver …).
    """
    west, north = lonlat(column, row)
    step = 1 / (per_degree or PER_DEGREE)
    options: dict[str, Any] = {
        "driver": "GTiff",
        "count": len(data),
        "height": data.shape[1],
        "width": data.shape[2],
        "dtype": data.dtype,
        "crs": "EPSG:4326",
        "transform": rasterio.Affine(step, 0, west, 0, -step, north),
        "nodata": 0,
        "compress": "deflate",
    } | profile
    path.parent.mkdir(parents=True, exist_ok=True)
    with rasterio.open(path, "w", **options) as out:
        out.write(data)
    return path


def write_map(
    folder: Path, codes: npt.NDArray[np.uint8], column: int, row: int, cell: str = CELL, **more: Any
) -> Path:
    """A map of WorldCover codes (H, W) with its upper-left at global pixel (column, row)."""
    name = more.pop("name", map_name(cell))
    return write_tif(folder / name, codes[None], column, row, **more)


def write_composite(
    folder: Path, dn: npt.NDArray[np.uint16], column: int, row: int, cell: str = CELL, **more: Any
) -> Path:
    """A composite of digital numbers (4, H, W) with its upper-left at global (column, row)."""
    name = more.pop("name", composite_name(cell))
    return write_tif(folder / name, dn, column, row, **more)


def codes_of(ids: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Class ids → WorldCover codes."""
    return np.array(CODES, dtype=np.uint8)[ids]


def land(shape: tuple[int, int], seed: int = 0, grain: float = 14) -> npt.NDArray[np.uint8]:
    """(H, W) ids in blobs, all seven classes."""
    rng = np.random.default_rng(seed)
    fields = [ndimage.gaussian_filter(rng.standard_normal(shape), grain) for _ in range(7)]
    return np.argmax(fields, axis=0).astype(np.uint8)


def reflect(ids: npt.NDArray[np.uint8], seed: int = 0) -> npt.NDArray[np.uint16]:
    """(H, W) ids → (4, H, W) digital numbers, each class in its own colour, never 0."""
    rng = np.random.default_rng(seed)
    colour = SPECTRA[ids].transpose(2, 0, 1)
    return np.clip(colour * rng.normal(1, 0.1, (1, *ids.shape)), 1, 10_000).astype(np.uint16)


def write_pair(
    folder: Path,
    ids: npt.NDArray[np.uint8],
    patch: tuple[int, int] = (0, 0),
    cell: str = CELL,
    dn: npt.NDArray[np.uint16] | None = None,
    name: str = "",
) -> tuple[Path, Path]:
    """Map and composite of the same pixels, from patch (row, column) of a cell: their paths.

    ``cell`` is the composite's; its map is named after the 3° cell around it.
    """
    left, top = cell_origin(cell)
    column, row = left + patch[1] * SIZE, top + patch[0] * SIZE
    return (
        write_map(folder, codes_of(ids), column, row, name=name or map_name(map_cell(cell))),
        write_composite(folder, reflect(ids) if dn is None else dn, column, row, cell),
    )


def shown(
    dn: npt.NDArray[np.uint16], low: float = 0.0, high: float = 0.275
) -> npt.NDArray[np.uint8]:
    """Digital numbers (bands, …) as an image shows them, (bands, …) uint8."""
    bands = [Band("", i + 1, 1 / DN_PER_REFLECTANCE, 0.0, None) for i in range(len(dn))]
    return rendered(dn, bands, low, high)[0]


def map_cell(cell: str) -> str:
    """Name of the 3° map cell in which a 1° cell lies."""
    south = int(cell[1:3]) * (1 if cell[0] == "N" else -1)
    west = int(cell[4:]) * (1 if cell[3] == "E" else -1)
    south, west = south // 3 * 3, west // 3 * 3
    return f"{'N' if south >= 0 else 'S'}{abs(south):02d}{'E' if west >= 0 else 'W'}{abs(west):03d}"
