"""A small invented scene in the shape of the real products, so that everything runs offline.

Fractal land cover with a texture per class, cut into one 3° map pair and two 1° composites, so
that tiles lie on both sides of a map seam. It is not a place on Earth.
"""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import rasterio
from rasterio.windows import Window
from scipy import ndimage

from builder.core.files import atomic
from builder.land.classes import CLASSES
from builder.land.grid import PER_DEGREE, cell_origin, lonlat

Floats = npt.NDArray[np.float64]

CODES = (10, 20, 30, 40, 50, 60, 80)
"""A WorldCover code for each class id."""
# Mean reflectance × 10,000 of red, green, blue and near infrared, and the spread of the texture.
SPECTRA = np.array(
    [
        (320, 480, 300, 2400),
        (820, 830, 540, 2200),
        (1150, 1120, 700, 2300),
        (1350, 1180, 760, 2500),
        (1750, 1600, 1450, 2100),
        (2150, 1850, 1450, 2600),
        (230, 380, 480, 120),
    ],
    dtype=np.float64,
)
SPREAD = np.array([0.25, 0.22, 0.12, 0.10, 0.35, 0.15, 0.08])
GRAIN = np.array([2.5, 4.0, 8.0, 6.0, 1.2, 10.0, 12.0])
"""Texture's correlation length in pixels, per class."""

CELLS = ("N36E032", "N36E033")
PATCH = 256
ROWS, LEFT, RIGHT = 10, 6, 5
"""Patch rows, and patch columns west and east of the seam at 33° E, that hold data."""
FIRST_ROW = 20


def make_scene(folder: Path, seed: int = 0) -> list[Path]:
    """Write the maps and composites of the demo into ``folder``; files that are there stay.

    Returns their paths: two maps (36,000 px, sparse) and two composites (12,000 px, sparse).
    """
    edge = (PER_DEGREE // PATCH) * PATCH
    width = LEFT * PATCH + PER_DEGREE - edge + RIGHT * PATCH
    rng = np.random.default_rng(seed)
    ids = land_cover(rng, (ROWS * PATCH, width))
    dn = reflectance(rng, ids)
    dn[:, : PATCH // 2, -PATCH // 2 :] = 0  # the swath ends here: partly black patches
    seam = width - RIGHT * PATCH
    top = cell_origin(CELLS[0])[1] + FIRST_ROW * PATCH
    left = cell_origin(CELLS[1])[0] - seam
    codes = np.array(CODES, dtype=np.uint8)[ids]
    paths = []
    for corner in ("N36E030", "N36E033"):
        path = folder / f"ESA_WorldCover_10m_2021_v200_{corner}_Map.tif"
        write_product(path, cell_origin(corner, 3), 3, codes[None], left, top)
        paths.append(path)
    for corner in CELLS:
        path = folder / f"ESA_WorldCover_10m_2021_V2_{corner}_S2RGBNIR.tif"
        write_product(path, cell_origin(corner), 1, dn, left, top)
        paths.append(path)
    return paths


def land_cover(rng: np.random.Generator, shape: tuple[int, int]) -> npt.NDArray[np.uint8]:
    """Fractal land cover: (H, W) ids with all seven classes, the rare classes rare."""
    wet, rough, use = (_fractal(rng, shape) for _ in range(3))
    ids = np.full(shape, CLASSES.index("Grass"), dtype=np.uint8)
    ids[wet > 0.55] = CLASSES.index("Tree")
    ids[(use > 0.55) & (rough < 0.6)] = CLASSES.index("Crop")
    ids[(wet < 0.3) & (rough > 0.45)] = CLASSES.index("Shrub")
    ids[(rough > 0.78) & (wet < 0.6)] = CLASSES.index("Barren")
    ids[(use > 0.8) & (rough < 0.5)] = CLASSES.index("Built-up")
    ids[(wet > 0.8) & (rough < 0.45)] = CLASSES.index("Water")
    return ids


def reflectance(rng: np.random.Generator, ids: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint16]:
    """(H, W) ids → (4, H, W) uint16 digital numbers, never 0, a texture of its own per class."""
    out = np.empty((4, *ids.shape), dtype=np.uint16)
    texture = np.zeros(ids.shape)
    for class_id in range(len(CLASSES)):
        noise = ndimage.gaussian_filter(rng.standard_normal(ids.shape), GRAIN[class_id] / 2)
        texture += np.where(ids == class_id, noise / noise.std() * SPREAD[class_id], 0)
    parcels = _parcels(rng, ids.shape)
    texture += np.where(ids == CLASSES.index("Crop"), parcels, 0)
    for band in range(4):
        value = SPECTRA[ids, band] * (1 + texture)
        out[band] = np.clip(value, 1, 10_000)
    return out


def _parcels(rng: np.random.Generator, shape: tuple[int, int]) -> Floats:
    """Rectangular fields, each with its own brightness."""
    side = 24
    small = rng.normal(0, 0.25, (shape[0] // side + 1, shape[1] // side + 1))
    return np.asarray(np.kron(small, np.ones((side, side)))[: shape[0], : shape[1]], np.float64)


def _fractal(rng: np.random.Generator, shape: tuple[int, int]) -> Floats:
    """Noise summed over octaves, as ranks in [0, 1]."""
    total = np.zeros(shape)
    for octave in range(7):
        step = 640 >> octave
        coarse = rng.standard_normal((shape[0] // step + 3, shape[1] // step + 3))
        fine = ndimage.zoom(coarse, step, order=1)[: shape[0], : shape[1]]
        total += fine * 0.55**octave
    ranks = np.argsort(np.argsort(total, axis=None)).reshape(shape)
    return np.asarray(ranks / ranks.max())


def write_product(
    path: Path,
    origin: tuple[int, int],
    degrees: int,
    data: npt.NDArray[np.uint8] | npt.NDArray[np.uint16],
    left: int,
    top: int,
) -> None:
    """Write the part of ``data`` (bands, H, W), whose upper-left is global pixel (left, top), that
    lies in the cell of ``degrees`` at ``origin``: a sparse GeoTIFF of the whole cell."""
    if path.exists():
        return
    side = degrees * PER_DEGREE
    west, north = lonlat(*origin)
    first, last = max(left, origin[0]), min(left + data.shape[2], origin[0] + side)
    part = data[:, :, first - left : last - left]
    with (
        atomic(path) as temporary,
        rasterio.open(
            temporary,
            "w",
            driver="GTiff",
            width=side,
            height=side,
            count=len(data),
            dtype=data.dtype,
            crs="EPSG:4326",
            transform=rasterio.Affine(1 / PER_DEGREE, 0, west, 0, -1 / PER_DEGREE, north),
            nodata=0,
            tiled=True,
            blockxsize=512,
            blockysize=512,
            compress="deflate",
            sparse_ok=True,
            interleave="pixel" if len(data) > 1 else "band",
        ) as out,
    ):
        window = Window(first - origin[0], top - origin[1], part.shape[2], part.shape[1])
        out.write(part, window=window)
