"""Tiles per second and peak memory of `aras tiles` against a plain loop on the same scene.

    python scripts/bench_tiles.py [SCENE] [--workers 2] [--repeat 1]

SCENE holds maps and composites in any folders below it. Both sides cut the same patches, encode
image and mask as PNG and write them to disk; each runs in a process of its own. Reported are wall
and CPU seconds and the peak of the proportional memory of that process and its workers together.
The plain loop is the usual kind: one windowed read per candidate patch from the composite and one
from the map, PIL for the PNGs.
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

SIZE = 256
SCENE = Path(__file__).parents[2] / "shared" / "data" / "scene"


def ours(scene: Path, out: Path, workers: int) -> dict[str, Any]:
    """Our stage into an empty store: its summary's counts and seconds."""
    from builder.core.engine import Engine
    from builder.core.store import Store
    from builder.steps.plan import run
    from builder.tiles.cut import Tiles, TilesSection

    maps, composites = products(scene)
    section = TilesSection()
    values = section.model_dump(exclude={"maps", "composites"})
    values["remap"] = tuple(section.remap.items())
    stage = Tiles(maps=maps, composites=composites, **values)
    engine = Engine("processes", workers) if workers > 1 else Engine("serial")
    started = time.perf_counter()
    summary = run(stage, Store(out), engine)
    seconds = time.perf_counter() - started
    if summary.failed:
        sys.exit(f"shards failed: {summary.failed}")
    return {"tiles": summary.rows, "candidates": summary.counts["candidates"], "seconds": seconds}


def plain(scene: Path, out: Path, _: int) -> dict[str, Any]:
    """The loop that is usually written: every patch of every composite, one after another."""
    import numpy as np
    import rasterio
    from PIL import Image
    from rasterio.windows import Window

    from builder.land.classes import WATER
    from builder.land.legends import public

    maps, composites = products(scene)
    table = public("worldcover").ids(np.arange(256, dtype=np.uint8))
    shades = np.rint(np.clip(np.arange(65536) / 2750, 0, 1) * 255).astype(np.uint8)
    opened = [rasterio.open(path) for path in maps]
    kept = candidates = 0
    started = time.perf_counter()
    for path in composites:
        with rasterio.open(path) as source:
            west, north = source.transform.c, source.transform.f
            east = west + source.width / 12_000
            land = next(
                source
                for source in opened
                if source.bounds.left <= west + 1e-6
                and source.bounds.right >= east - 1e-6
                and source.bounds.top >= north - 1e-6
                and source.bounds.bottom < north - 1e-6
            )
            right = round((west - land.transform.c) * 12_000)
            down = round((land.transform.f - north) * 12_000)
            for row in range(source.height // SIZE):
                for column in range(source.width // SIZE):
                    candidates += 1
                    x, y = column * SIZE, row * SIZE
                    dn = source.read([1, 2, 3], window=Window(x, y, SIZE, SIZE))
                    codes = land.read(1, window=Window(right + x, down + y, SIZE, SIZE))
                    if (dn == 0).all(axis=0).any() or (codes == 0).any():
                        continue
                    ids = table[codes]
                    if (ids == WATER).mean() > 0.9:
                        continue
                    name = f"{path.stem}_{row:03d}_{column:03d}.png"
                    image = shades[dn].transpose(1, 2, 0)
                    Image.fromarray(np.ascontiguousarray(image)).save(out / f"image_{name}")
                    Image.fromarray(ids).save(out / f"mask_{name}")
                    kept += 1
    return {
        "tiles": kept,
        "candidates": candidates,
        "seconds": time.perf_counter() - started,
    }


def products(scene: Path) -> tuple[tuple[Path, ...], tuple[Path, ...]]:
    """Maps and composites below a folder."""
    maps = tuple(sorted(scene.rglob("*_Map.tif")))
    composites = tuple(sorted(scene.rglob("*_S2RGBNIR.tif")))
    if not maps or not composites:
        sys.exit(f"{scene}: holds no *_Map.tif or no *_S2RGBNIR.tif")
    return maps, composites


def measure(way: str, scene: Path, workers: int) -> dict[str, Any]:
    """Run one side in a process of its own; its result with the peak memory of its tree in MB."""
    with tempfile.TemporaryDirectory(prefix="bench-tiles-") as folder:
        command = [sys.executable, __file__, str(scene), "--way", way, "--out", folder]
        return in_a_child([*command, "--workers", str(workers)])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("scene", type=Path, nargs="?", default=SCENE)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--repeat", type=int, default=1, help="rounds; the fastest of each counts")
    parser.add_argument("--way", choices=["ours", "plain"], help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.way:
        figures = globals()[options.way](options.scene, options.out, options.workers)
        used = os.times()
        cpu = used.user + used.system + used.children_user + used.children_system
        print(json.dumps({**figures, "cpu": cpu}))
        return
    rounds: dict[str, list[dict[str, Any]]] = {"plain": [], "ours": []}
    for _ in range(options.repeat):
        for way, done in rounds.items():
            done.append(measure(way, options.scene, options.workers))
    best = {way: min(done, key=lambda run: run["seconds"]) for way, done in rounds.items()}
    names = {"plain": "plain loop", "ours": f"aras tiles, {options.workers} workers"}
    for way, run in best.items():
        rate = run["tiles"] / run["seconds"]
        print(
            f"{names[way]:<22} {run['tiles']} tiles of {run['candidates']} candidates, "
            f"{run['seconds']:.1f} s ({run['cpu']:.1f} s of CPU), {rate:.1f} tiles/s, "
            f"peak {run['peak_mb']} MB"
        )
    print(f"ratio {best['plain']['seconds'] / best['ours']['seconds']:.2f}")


if __name__ == "__main__":
    main()
