"""Time `aras import` against the loop that users write, and say what a full import costs.

Example: python scripts/bench_import.py --rows 20000 --listing 400240

Writes an official layout of so many rows (zips, captions.csv, MD5SUMS) from invented tiles into a
temporary folder, then measures in turn:
  masks     colours to class ids, and RGB PNG to id PNG, on --mask-rows masks; the usual loop
            (PIL open, one comparison per colour) on --usual of them; CPU seconds
  rows      the usual loop over whole rows, images encoded again
  import    the command itself with --workers processes, md5 included: rows per second by the
            clock, and the most memory of its whole process tree (shared pages counted once)
  listing   with --listing: the index alone, for so many rows with empty pictures
The last line extrapolates to the 400,240 rows of ARAS400k. --json prints one object instead.
"""

import argparse
import csv
import hashlib
import io
import json
import os
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from measure import watching_tree
from PIL import Image

from builder.land.classes import PALETTE, count_pixels, percent
from builder.land.pictures import encode_png
from builder.official.import_ import ImportSection
from builder.official.names import HEADER, STREAMS
from builder.official.pictures import colour_table, colours_to_ids, mask_ids
from builder.pipeline import recipe
from builder.pipeline.demo import land_cover, reflectance

SIZE = 256
FULL = 400_240
SENTENCE = (
    "A winding river cuts through rugged hills with scattered fields and a small settlement "
    "along its banks, while sparse vegetation covers the slopes around it, tile {}. "
)
Tile = tuple[bytes, bytes, list[int]]


def tiles(side: int) -> list[Tile]:
    """``side``² neighbouring tiles (image PNG, RGB mask PNG, percentages), with sensor noise so
    that a PNG has about the size of a real one."""
    rng = np.random.default_rng(0)
    pixels_a_side = side * SIZE
    ids = land_cover(rng, (pixels_a_side, pixels_a_side))
    shades = np.rint(np.clip(reflectance(rng, ids)[:3] / 2750, 0, 1) * 255).astype(np.int16)
    noisy = np.clip(shades + rng.normal(0, 3, shades.shape), 0, 255).astype(np.uint8)
    image, drawn = noisy.transpose(1, 2, 0), []
    for row in range(0, pixels_a_side, SIZE):
        for column in range(0, pixels_a_side, SIZE):
            cut = np.s_[row : row + SIZE, column : column + SIZE]
            shares = percent(count_pixels(ids[cut])).tolist()
            pixels = np.ascontiguousarray(image[cut])
            drawn.append((encode_png(pixels), encode_png(PALETTE[ids[cut]]), shares))
    return drawn


def write_layout(to: Path, rows: int, drawn: Sequence[Tile]) -> None:
    """A quarter real train rows, three quarters synthetic, as zips with captions.csv beside."""
    real = rows // 4
    sums = []
    with (to / "captions.csv").open("w", encoding="utf-8", newline="") as table:
        writer = csv.writer(table, lineterminator="\n")
        writer.writerow(HEADER)
        for split, n in (("train", real), ("synth", rows - real)):
            path = to / f"{split}.zip"
            with zipfile.ZipFile(path, "w") as archive:
                for i in range(n):
                    name = f"{i:04d}" if split == "synth" else real_name(i)
                    image, mask, shares = drawn[i % len(drawn)]
                    archive.writestr(f"ARAS400k/{split}/images/{name}.png", image)
                    archive.writestr(f"ARAS400k/{split}/masks/{name}.png", mask)
                    texts = [SENTENCE.format(name) * 2 for _ in STREAMS]
                    writer.writerow([f"{name}.png", split, *shares, *texts])
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, "md5") if sys.version_info >= (3, 11) else None
                value = digest.hexdigest() if digest else hashlib.md5(file.read()).hexdigest()
            sums.append(f"{value}  {path.name}\n")
    (to / "MD5SUMS").write_text("".join(sums))


def real_name(i: int) -> str:
    cell, patch = divmod(i, 46 * 46)
    return f"N{36 + cell // 10:02d}E{26 + cell % 10:03d}_{patch // 46:03d}_{patch % 46:03d}"


def usual_ids(mask: Any) -> Any:
    """The loop that users write: one comparison of the whole picture per colour."""
    ids = np.zeros(mask.shape[:2], dtype=np.uint8)
    for i, colour in enumerate(PALETTE):
        ids[(mask == colour).all(axis=-1)] = i
    return ids


def usual_png(array: Any) -> None:
    Image.fromarray(array).save(io.BytesIO(), "PNG")


def usual_mask(data: bytes) -> None:
    usual_png(usual_ids(np.array(Image.open(io.BytesIO(data)).convert("RGB"))))


def usual_row(tile: Tile) -> None:
    usual_png(np.array(Image.open(io.BytesIO(tile[0])).convert("RGB")))
    usual_mask(tile[1])


def per_second(work: Callable[[Any], object], items: Sequence[Any], n: int) -> float:
    """Items per CPU second, over ``n`` of them taken in turns."""
    start = time.process_time()
    for i in range(n):
        work(items[i % len(items)])
    return n / (time.process_time() - start)


def measure_masks(drawn: Sequence[Tile], rows: int, usual: int) -> dict[str, float]:
    table = colour_table()
    masks = [mask for _, mask, _ in drawn]
    arrays = [np.array(Image.open(io.BytesIO(mask))) for mask in masks]

    def ours(array: Any) -> Any:
        raw = np.frombuffer(Image.fromarray(array).tobytes("raw", "RGBX"), "<u4")
        return colours_to_ids(raw & np.uint32(0xFFFFFF), table).reshape(SIZE, SIZE)

    assert all((ours(array) == usual_ids(array)).all() for array in arrays)
    return {
        "colours_to_ids": per_second(ours, arrays, rows),
        "colours_to_ids_usual": per_second(usual_ids, arrays, usual),
        "mask_png": per_second(lambda mask: encode_png(mask_ids(mask, SIZE, table)), masks, rows),
        "mask_png_usual": per_second(usual_mask, masks, usual),
        "row_usual": per_second(usual_row, drawn, usual),
    }


def watched(command: Sequence[str], cwd: Path) -> tuple[str, float, float, float]:
    """(stdout, seconds by the clock, peak memory of its tree in MB, CPU seconds) of a command."""
    before = os.times()
    started = time.monotonic()
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(command, cwd=cwd, env=environment, stdout=subprocess.PIPE) as running:
        with watching_tree(running.pid) as peak:
            out, _ = running.communicate()
        seconds = time.monotonic() - started
    if running.returncode:
        raise SystemExit(f"{' '.join(command)} failed")
    after = os.times()
    cpu = after.children_user + after.children_system
    cpu -= before.children_user + before.children_system
    return out.decode(), seconds, peak[0], cpu


def measure_import(folder: Path, workers: int) -> dict[str, Any]:
    (folder / "ds").mkdir()
    command = [sys.executable, "-m", "builder", "-C", "ds", "import", "../official", "--json"]
    out, seconds, peak, cpu = watched([*command, "--workers", str(workers)], folder)
    result = json.loads(out)
    assert result["report"]["account"]["rejects"] == 0
    return {"rows": result["rows"], "seconds": seconds, "cpu_seconds": cpu, "peak_mb": peak}


def measure_listing(folder: Path, rows: int) -> dict[str, Any]:
    """Only the index: pictures of a few bytes, captions in full."""
    (folder / "official").mkdir(parents=True)
    write_layout(folder / "official", rows, [(b"i", b"m", [100, 0, 0, 0, 0, 0, 0])])
    recipe.write(folder / "ds", imports=ImportSection(sources=["../official"]))
    command = [sys.executable, "-m", "builder", "-C", "ds", "import", "--dry-run"]
    _, seconds, peak, cpu = watched(command, folder)
    index = folder / "ds" / "work" / "import" / ".index.sqlite"
    return {
        "rows": rows,
        "seconds": seconds,
        "cpu_seconds": cpu,
        "peak_mb": peak,
        "index_bytes": index.stat().st_size,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rows", type=int, nargs="*", default=[5_000, 20_000])
    parser.add_argument("--side", type=int, default=8, help="rows take turns with side² tiles")
    parser.add_argument("--mask-rows", type=int, default=5_000)
    parser.add_argument("--usual", type=int, default=300, help="rows that the usual loop does")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--listing", type=int, default=0)
    parser.add_argument("--folder", help="where the temporary folder goes")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    drawn = tiles(options.side)
    report: dict[str, Any] = {
        "image_bytes": float(np.mean([len(image) for image, *_ in drawn])),
        "mask_bytes": float(np.mean([len(mask) for _, mask, _ in drawn])),
        "per_cpu_second": measure_masks(drawn, options.mask_rows, options.usual),
        "imports": [],
    }
    for rows in options.rows:
        with tempfile.TemporaryDirectory(dir=options.folder) as name:
            (Path(name) / "official").mkdir()
            write_layout(Path(name) / "official", rows, drawn)
            report["imports"].append(measure_import(Path(name), options.workers))
    if options.listing:
        with tempfile.TemporaryDirectory(dir=options.folder) as name:
            report["listing"] = measure_listing(Path(name), options.listing)
    last = report["imports"][-1]
    report["full_hours"] = FULL * last["seconds"] / last["rows"] / 3600
    report["full_cpu_hours"] = FULL * last["cpu_seconds"] / last["rows"] / 3600
    if options.json:
        print(json.dumps(report, indent=2))
    else:
        print_report(report)


def print_report(report: dict[str, Any]) -> None:
    rate = report["per_cpu_second"]
    print(
        f"tiles: images of {report['image_bytes'] / 1e3:.1f} kB, "
        f"masks {report['mask_bytes'] / 1e3:.1f}"
    )
    print(f"{'per CPU second':<22}{'ours':>10}{'usual loop':>12}{'times':>8}")
    for name in ("colours_to_ids", "mask_png"):
        ours, usual = rate[name], rate[f"{name}_usual"]
        print(f"{name.replace('_', ' '):<22}{ours:>10,.0f}{usual:>12,.0f}{ours / usual:>8.1f}")
    for run in report["imports"]:
        cpu_rate = run["rows"] / run["cpu_seconds"]
        times = cpu_rate / rate["row_usual"]
        print(f"{'whole rows':<22}{cpu_rate:>10,.0f}{rate['row_usual']:>12,.0f}{times:>8.1f}")
    for run in report["imports"]:
        print(
            f"import of {run['rows']:,} rows: {run['seconds']:.1f} s by the clock, "
            f"{run['rows'] / run['seconds']:.0f} rows/s, {run['cpu_seconds']:.1f} CPU s, at most "
            f"{run['peak_mb']:.0f} MB"
        )
    if run := report.get("listing"):
        print(
            f"listing {run['rows']:,} rows: {run['seconds']:.1f} s by the clock, "
            f"{run['cpu_seconds']:.1f} CPU s, at most {run['peak_mb']:.0f} MB, "
            f"index of {run['index_bytes'] / 1e6:.0f} MB"
        )
    print(
        f"extrapolated to {FULL:,} rows at the last rate: {report['full_hours']:.2f} hours by the "
        f"clock, {report['full_cpu_hours']:.2f} CPU hours"
    )


if __name__ == "__main__":
    main()
