"""Maker of small GeoTIFFs that lie and are coded like WorldCover's tiles."""

from functools import lru_cache

import numpy as np
from rasterio.io import MemoryFile
from rasterio.transform import from_origin


@lru_cache
def tile(
    latitude: int, longitude: int, degrees: int, bands: int, dtype: str, crs: str = "EPSG:4326"
) -> bytes:
    """A tiled, deflated GeoTIFF of noise, 256 pixels a side, with its lower-left corner there."""
    rng = np.random.default_rng(abs(latitude) * 1000 + abs(longitude))
    pixels = rng.integers(0, np.iinfo(dtype).max, (bands, 256, 256), dtype=dtype)
    profile = {
        "driver": "GTiff",
        "width": 256,
        "height": 256,
        "count": bands,
        "dtype": dtype,
        "crs": crs,
        "transform": from_origin(longitude, latitude + degrees, degrees / 256, degrees / 256),
        "tiled": True,
        "blockxsize": 128,
        "blockysize": 128,
        "compress": "deflate",
    }
    with MemoryFile() as memory:
        with memory.open(**profile) as file:
            file.write(pixels)
        return memory.read()


def land_map(latitude: int, longitude: int) -> bytes:
    return tile(latitude, longitude, 3, 1, "uint8")


def composite(latitude: int, longitude: int) -> bytes:
    return tile(latitude, longitude, 1, 4, "uint16")
