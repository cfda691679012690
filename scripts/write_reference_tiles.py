"""Cut the reference tiles of caption scores from ESA WorldCover maps and write them to one file.

Tiles of 256 pixels, every 128 pixels, where the map has data; those with more than 90 % water are
left out, as in the recipe. Of all of them 1,024 are drawn that stand for the rest
(`builder.scores.references.representatives`); the same maps give the same bytes.

    python scripts/write_reference_tiles.py MAP.tif … --out builder/scores/reference_tiles.npz
"""

import argparse
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from builder.land.classes import CLASSES, NODATA, WATER, count_pixels
from builder.land.grid import MAP
from builder.land.legends import WORLDCOVER_LEGEND, public
from builder.land.products import OUTSIDE, inspect, mosaic, opened
from builder.scores.references import coarse, representatives

SIZE, STRIDE, MAX_WATER, TILES = 256, 128, 0.9, 1_024

ABOUT = {
    "name": "worldcover",
    "version": 1,
    "source": "ESA WorldCover 10 m 2021 v200, tiles around 78° W on the equator",
    "license": "CC BY 4.0",
    "attribution": "© ESA WorldCover project 2021 / Contains modified Copernicus Sentinel data "
    "(2021) processed by ESA WorldCover consortium",
}


def masks(path: Path, size: int, stride: int) -> Iterator[tuple[str, npt.NDArray[np.uint8]]]:
    """(id, mask) of every window of the map at ``path`` without a missing pixel."""
    raster, legend = inspect(path, MAP, resample=False), public(WORLDCOVER_LEGEND)
    with opened(raster) as product:
        for row in range(raster.row, raster.row + raster.height - size + 1, stride):
            left, right = product.filled(row, size)
            if right - left < size:
                continue
            strip = mosaic([product], legend, left, row, right - left, size)
            if not (strip < NODATA).any():
                continue
            for column in range(0, right - left - size + 1, stride):
                mask = strip[:, column : column + size]
                if not np.isin(mask, (NODATA, OUTSIDE)).any():
                    yield f"{left + column}/{row}", np.ascontiguousarray(mask)


def write(
    maps: Sequence[Path], out: Path, size: int = SIZE, stride: int = STRIDE
) -> tuple[int, int]:
    """Write the sample; returns how many tiles were cut and drawn."""
    ids: list[str] = []
    pixels, layouts = [], []
    for path in sorted(maps):
        for name, mask in masks(path, size, stride):
            counts = count_pixels(mask)
            if counts[WATER] <= MAX_WATER * mask.size:
                ids.append(name)
                pixels.append(counts)
                layouts.append(coarse(mask))
    if not ids:
        raise SystemExit("no window of the maps is without missing pixels")
    shares = np.array(pixels) / size**2
    at = representatives(ids, shares, TILES)
    about = {**ABOUT, "classes": CLASSES, "size": size, "stride": stride, "cut": len(ids)}
    np.savez_compressed(
        out,
        about=json.dumps(about, ensure_ascii=False),
        pixels=np.array(pixels, dtype=np.uint32)[at],
        layouts=np.stack(layouts)[at],
    )
    return len(ids), len(at)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("maps", nargs="+", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    cut, drawn = write(options.maps, options.out)
    print(f"{cut:,} tiles cut, {drawn:,} drawn: {options.out.stat().st_size / 1e3:,.0f} kB")


if __name__ == "__main__":
    main()
