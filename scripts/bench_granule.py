"""Peak memory of `aras tiles` over a Sentinel-2 granule, as an int16 stack and as JPEG 2000.

    python scripts/bench_granule.py [--side 10980] [--size 256] [--kind stack]

A granule of SIDE × SIDE pixels in UTM is made up, beside a map of the same ground, and cut serially
from an int16 stack and from three JPEG 2000 files, and once more from a quarter of the side: memory
is flat where the large one needs as much as the small one. Reported are tiles, wall and CPU seconds
and the peak of the proportional memory, each in a process of its own.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from measure import in_a_child

KINDS = ("stack", "jp2")
WEST, NORTH = 500_000, 4_000_000


def write(folder: Path, kind: str, side: int) -> None:
    """A granule with its upper left at 33° E, and a map in degrees that covers it, in blocks."""
    import numpy as np
    import rasterio
    from rasterio.transform import from_origin
    from rasterio.warp import transform_bounds
    from rasterio.windows import Window

    rng = np.random.default_rng(0)
    block = rng.integers(200, 2500, (3, 1024, 1024)).astype(np.int16)
    place = {"crs": "EPSG:32636", "transform": from_origin(WEST, NORTH, 10, 10)}
    shape = {"width": side, "height": side}

    def fill(path: Path, bands: list[int], dtype: str, **options: Any) -> None:
        options = {**shape, **place, "count": len(bands), "dtype": dtype, **options}
        with rasterio.open(path, "w", **options) as out:
            for y in range(0, side, 1024):
                for x in range(0, side, 1024):
                    w, h = min(1024, side - x), min(1024, side - y)
                    out.write(block[bands, :h, :w].astype(dtype), window=Window(x, y, w, h))

    folder.mkdir(parents=True)
    if kind == "stack":
        tiled = {"tiled": True, "blockxsize": 512, "blockysize": 512, "compress": "deflate"}
        fill(folder / "stack.tif", [0, 1, 2], "int16", driver="GTiff", **tiled)
    else:
        for band, number in enumerate((4, 3, 2)):
            path = folder / f"T36SVE_20230601T085601_B0{number}_10m.jp2"
            fill(path, [band], "uint16", driver="JP2OpenJPEG", QUALITY="100", REVERSIBLE="YES")
    bounds = (WEST, NORTH - 10 * side, WEST + 10 * side, NORTH)
    west, south, east, north = transform_bounds(place["crs"], "EPSG:4326", *bounds)
    left, top = (round((value + offset) * 12_000) for value, offset in ((west, 180), (-north, 90)))
    width, height = round((east - west) * 12_000), round((north - south) * 12_000)
    codes = np.where(rng.random((1024, 1024)) < 0.5, 10, 40).astype(np.uint8)
    options = {
        "driver": "GTiff", "count": 1, "dtype": "uint8", "width": width, "height": height,
        "crs": "EPSG:4326", "tiled": True, "blockxsize": 512, "blockysize": 512,
        "transform": from_origin(left / 12_000 - 180, 90 - top / 12_000, 1 / 12_000, 1 / 12_000),
        "compress": "deflate",
    }  # fmt: skip
    with rasterio.open(folder / "land.tif", "w", **options) as out:
        for y in range(0, height, 1024):
            for x in range(0, width, 1024):
                w, h = min(1024, width - x), min(1024, height - y)
                out.write(codes[None, :h, :w], window=Window(x, y, w, h))


def cut(folder: Path, out: Path, size: int) -> dict[str, Any]:
    """The stage into an empty store: tiles and seconds."""
    from builder.core.engine import Engine
    from builder.core.store import Store
    from builder.pipeline.project import Project
    from builder.steps.plan import run

    (out / "dataset.toml").write_text(
        '[dataset]\nname = "bench"\nversion = "0.1.0"\nauthors = ["A"]\n[tiles]\n'
        f'size = {size}\noffset = 0\nresample = "nearest"\nmaps = ["{folder}/land.tif"]\n'
        f'composites = ["{folder}/[sT]*"]\n'
    )
    started = time.perf_counter()
    summary = run(Project(out).tiles(), Store(out / "work"), Engine("serial"))
    if summary.failed:
        sys.exit(f"shards failed: {summary.failed}")
    return {"tiles": summary.rows, "seconds": time.perf_counter() - started}


def measure(folder: Path, size: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="bench-granule-") as out:
        command = [sys.executable, __file__, "--cut", str(folder), "--out", out]
        return in_a_child([*command, "--size", str(size)])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--side", type=int, default=10_980)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--kind", choices=KINDS, help="this one alone")
    parser.add_argument("--cut", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.cut:
        figures = cut(options.cut, options.out, options.size)
        used = os.times()
        print(json.dumps({**figures, "cpu": used.user + used.system}))
        return
    with tempfile.TemporaryDirectory(prefix="bench-granule-") as scenes:
        for kind in [options.kind] if options.kind else KINDS:
            peaks = []
            for side in (options.side // 4, options.side):
                folder = Path(scenes) / f"{kind}-{side}"
                write(folder, kind, side)
                run = measure(folder, options.size)
                peaks.append(run["peak_mb"])
                rate = run["tiles"] / run["seconds"]
                print(
                    f"{kind:<6} {side:,}²: {run['tiles']:,} tiles, {run['seconds']:.1f} s "
                    f"({run['cpu']:.1f} s of CPU), {rate:.1f} tiles/s, peak {run['peak_mb']} MB",
                    flush=True,
                )
            print(
                f"{kind:<6} peak of the whole granule / of a sixteenth: {peaks[1] / peaks[0]:.2f}"
            )


if __name__ == "__main__":
    main()
