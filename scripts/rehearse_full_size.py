"""Rehearse a release of true size: every row of it, with pictures of a few hundred bytes.

Example: python scripts/rehearse_full_size.py --check
         python scripts/rehearse_full_size.py --rows 20000 --folder REHEARSAL

Fills the store of a project with stand-in rows (a quarter of them real, on the true grid; the
others synthetic; five captions each) and then runs what `aras package` runs: the store's own
verification, the writers, pictures, card, Croissant file, manifest and checksums; with --check
also all of `aras check`. The rows are made up, their number and everything else is real. Each step
runs in a process of its own, as its command does, and prints a line with its seconds, CPU seconds
and peak memory; --json prints one object.
"""

import argparse
import hashlib
import json
import multiprocessing
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np
import numpy.typing as npt
import pyarrow as pa

import builder.cli  # noqa: F401 - first, for the settings that `aras` runs with
from builder.core.files import write_json, write_text
from builder.land import classes, grid
from builder.land.classes import CLASSES
from builder.land.columns import (
    CAPTION,
    CAPTION_REPEAT,
    CAPTION_SCORE,
    REPEAT_PREFIX,
    SCORE_PREFIX,
    SPLITS,
    STREAM_PREFIX,
    arrow_type,
)
from builder.land.pictures import composition_columns, encode_png, image_column
from builder.pipeline.project import Project
from builder.quality.pixels import MEASURES
from builder.tiles.split import block_names
from scripts.measure import peak_mb

MEGABYTES = 1.5
"""Size of a data file: as many rows of stand-ins as 512 MB hold of true ones, about 4,000, because
what a Parquet writer remembers until it closes a file grows with its rows."""
ROWS = 400_240
"""Rows of ARAS400k: 100,240 real and 300,000 synthetic ones."""
REAL_SHARE = 100_240 / ROWS
SIDE = 16
"""Pixels of a stand-in picture."""
POOL = 513  # a multiple of three, see `_write_real`
"""Different pictures; rows take turns with them."""
PER_CELL = grid.PER_DEGREE // 256
Pictures = tuple[list[bytes], list[bytes], npt.NDArray[np.int64]]
"""Encoded images, masks, and the masks' pixel counts (n, 7)."""
Draw = Callable[[npt.NDArray[np.int64]], Pictures]
"""Numbers of rows → their pictures."""
STREAMS = ("dominant", "composition", "layout", "full", "absence")

RECIPE = """
[dataset]
name = "rehearsal"
title = "Stand-in rows for a rehearsal at full size"
version = "{version}"
date = "2026-01-31"
authors = ["The maintainers"]
[split]
block = 0.1
buffer_km = 0
[generator]
rows = {synthetic}
[release]
shard_megabytes = {megabytes}
"""


def make_project(
    folder: Path,
    rows: int,
    *,
    real: int | None = None,
    shard_rows: int = 256,
    version: str = "0.1.0",
    megabytes: float = MEGABYTES,
    draw: Draw | None = None,
) -> Project:
    """A project whose store holds ``rows`` made-up rows with all columns of a release.

    ``real`` of them are real, a quarter unless given; ``draw`` makes their pictures.
    """
    real = round(rows * REAL_SHARE) if real is None else real
    draw = draw or drawn_from_pool()
    recipe = RECIPE.format(version=version, synthetic=rows - real, megabytes=megabytes)
    styles = "".join(f'[captions.{name}]\nstyle = "{name}"\n' for name in STREAMS)
    write_text(folder / "dataset.toml", recipe + styles)
    test = {"macro_f1": 0.5, "mean_iou": 0.4, "tiles": real // 10}
    settings = {"widths": [32, 64], "crop": 64, "kind": "pixel", "condition": "layout"}
    for model in ("generator", "segmenter"):
        record = {"settings": settings, "steps": 1, "weights_sha256": "0" * 64, "test": test}
        write_json(folder / "models" / model / "record.json", record)
    project = Project(folder)
    for start in range(0, real, shard_rows):
        numbers = np.arange(start, min(start + shard_rows, real))
        _write_real(project, f"real-{start // shard_rows:05d}", numbers, draw)
    for start in range(0, rows - real, shard_rows):
        numbers = np.arange(start, min(start + shard_rows, rows - real))
        _write_synthetic(project, f"synthetic-a-{start // shard_rows:05d}", numbers, draw)
    return project


def drawn_from_pool() -> Draw:
    """Pictures of `SIDE` pixels, `POOL` different ones."""
    rng = np.random.default_rng(0)
    images, masks, counts = [], [], []
    for _ in range(POOL):
        cuts = rng.integers(0, len(CLASSES), (2, 2)).astype(np.uint8)
        mask = np.kron(cuts, np.ones((SIDE // 2, SIDE // 2), dtype=np.uint8))
        image = classes.PALETTE[mask] // 2 + rng.integers(0, 99, dtype=np.uint8)
        images.append(encode_png(image))
        masks.append(encode_png(mask))
        counts.append(classes.count_pixels(mask))
    table = np.array(counts, dtype=np.int64)

    def draw(numbers: npt.NDArray[np.int64]) -> Pictures:
        chosen = numbers * 7919 % POOL
        return [images[i] for i in chosen], [masks[i] for i in chosen], table[chosen]

    return draw


def _pictures(numbers: npt.NDArray[np.int64], draw: Draw, names: list[str]) -> dict[str, Any]:
    images, masks, counts = draw(numbers)
    columns = {"image": image_column(images, names), "mask": image_column(masks, names)}
    return {**columns, **composition_columns(counts)}


def _write_real(project: Project, shard: str, numbers: npt.NDArray[np.int64], draw: Draw) -> None:
    cell, patch = np.divmod(numbers, PER_CELL**2)
    line, column = np.divmod(patch, PER_CELL)
    names = [f"N{36 + c % 6:02d}E{27 + c // 6:03d}" for c in cell]
    corners = np.array([grid.lonlat(*grid.cell_origin(name)) for name in names])
    pixel = 1 / grid.PER_DEGREE
    side = 256 * pixel
    place = corners + np.stack([(column + 0.5) * side, -(line + 0.5) * side], axis=1)
    stems = [f"{c}_{r:03d}_{k:03d}" for c, r, k in zip(names, line, column, strict=True)]
    blocks = block_names(place, 0.1)
    # A block goes to one split, four in five to train.
    by_block = {one: int(hashlib.sha256(one.encode()).hexdigest(), 16) % 10 for one in set(blocks)}
    splits = [{8: 1, 9: 2}.get(by_block[one], 0) for one in blocks]
    n = len(numbers)
    _write(
        project,
        "tiles",
        shard,
        {
            "id": [f"real/{one}" for one in stems],
            # No picture of the pool stands in two splits.
            **_pictures(3 * numbers + splits, draw, [f"{one}.png" for one in stems]),
            "crs": [grid.CRS_NAME] * n,
            "transform": [[pixel, 0.0, x, 0.0, -pixel, y] for x, y in place],
            "longitude": place[:, 0],
            "latitude": place[:, 1],
            "source": [f"ESA_WorldCover_10m_2021_v200_{one}_S2RGBNIR.tif" for one in names],
            "saturated": np.zeros(n, dtype=np.float32),
        },
        counts={"candidates": n, "kept": n}
        | dict.fromkeys(("black", "partly_black", "no_map", "nodata", "water"), 0),
    )
    chosen = {"split": splits, "block": blocks.tolist()}
    _write(project, "split", shard, chosen, counts={"set_aside": 0, "repeats": 0})
    _write_judged(project, shard, numbers)


def _write_synthetic(
    project: Project, shard: str, numbers: npt.NDArray[np.int64], draw: Draw
) -> None:
    ids = [f"synthetic/a/{i:07d}" for i in numbers]
    n = len(ids)
    pictures = _pictures(3 * (numbers + 1), draw, [f"{one.split('/')[-1]}.png" for one in ids])
    layouts = {
        "id": ids,
        "split": [SPLITS.index("train")] * n,
        "gen_seed": numbers * 2**40 + 12345,
        "gen_layout": [f"real/N36E027_000_{i % PER_CELL:03d}" for i in numbers],
        "gen_transform": ["identity"] * n,
    }
    _write(project, "layouts", shard, layouts)
    told = {"gen_model": "stand-in", "gen_revision": "0" * 64, "gen_config_sha256": "0" * 64}
    told["gen_mask"] = "layout"
    _write(
        project,
        "generate",
        shard,
        {**pictures, **{name: [value] * n for name, value in told.items()}},
    )
    near = {
        "nearest_real_id": layouts["gen_layout"],
        "nearest_real_ratio": np.full(n, 0.9, dtype=np.float32),
        "copy": [False] * n,
    }
    _write(project, "memorize", shard, near, counts={"copies": 0})
    _write_judged(project, shard, numbers)


def _write_judged(project: Project, shard: str, numbers: npt.NDArray[np.int64]) -> None:
    n = len(numbers)
    _write(project, "segment", shard, {"mask_agreement": np.full(n, 0.75, dtype=np.float32)})
    _write(project, "realism", shard, {"realism": np.full(n, 1.1, dtype=np.float32)})
    measures = {name: np.full(n, 0.5, dtype=np.float32) for name in MEASURES}
    _write(project, f"quality-{shard.split('-')[0]}", shard, measures)
    clusters = dict.fromkeys(("duplicate_cluster", "near_duplicate_cluster"), [None] * n)
    _write(project, "duplicates", shard, {**clusters, "repeats_held_out": [False] * n})
    for k, stream in enumerate(STREAMS):
        words = k * " some words about land."
        digest = hashlib.sha256(stream.encode()).hexdigest()
        cells = {
            "text": [f"Stand-in {stream} caption {i}:{words}" for i in numbers],
            "model": ["stand-in"] * n,
            "revision": ["1"] * n,
            "prompt_sha256": [digest] * n,
            "seed": numbers * 2**40 + k,
            "error": [None] * n,
        }
        column = _struct(cells, CAPTION)
        _write(project, f"caption-{stream}", shard, {STREAM_PREFIX + stream: column})
        scores = {one.name: [1] * n for one in CAPTION_SCORE} | {
            "mentioned": [["Grass", "Tree"]] * n,
            "contradictions": [[]] * n,
        }
        column = _struct(scores, CAPTION_SCORE)
        _write(project, f"score-{stream}", shard, {SCORE_PREFIX + stream: column})
        column = _struct({"near_duplicate_cluster": [None] * n}, CAPTION_REPEAT)
        _write(project, f"repeat-{stream}", shard, {REPEAT_PREFIX + stream: column})


def _struct(values: dict[str, Any], kind: pa.DataType) -> pa.StructArray:
    arrays = [pa.array(values[one.name], one.type) for one in kind]
    return pa.StructArray.from_arrays(arrays, fields=list(kind))


def _write(
    project: Project,
    stage: str,
    shard: str,
    columns: dict[str, Any],
    counts: dict[str, int] | None = None,
) -> None:
    arrays = {
        name: value if isinstance(value, pa.Array) else pa.array(value, arrow_type(name))
        for name, value in columns.items()
    }
    project.store.write(stage, shard, pa.table(arrays), key="rehearsal", counts=counts)


def apart(step: Callable[..., dict[str, Any]], *given: Any) -> dict[str, Any]:
    """What a step tells, run in a process of its own as a command would be, and what it took."""
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, spawn) as process:
        told = process.submit(_measured, step, *given).result()
    line = "{step:<10}{seconds:>8} s {cpu_seconds:>8} CPU s, peak {peak_mb} MB".format(**told)
    print(line, file=sys.stderr)
    return told


def _measured(step: Callable[..., dict[str, Any]], *given: Any) -> dict[str, Any]:
    wall, cpu = time.perf_counter(), time.process_time()
    told = step(*given)
    return {
        "step": step.__name__,
        "seconds": round(time.perf_counter() - wall, 1),
        "cpu_seconds": round(time.process_time() - cpu, 1),
        "peak_mb": round(peak_mb()),
        **told,
    }


def fill(folder: Path, rows: int, shard_rows: int) -> dict[str, Any]:
    make_project(folder, rows, shard_rows=shard_rows)
    return {}


def package(folder: Path) -> dict[str, Any]:
    """What `aras package` runs, but for its question whether every step is up to date."""
    from builder.release.package import package as write

    return write(Project(folder))


def check(release: Path) -> dict[str, Any]:
    from builder.release.check import violations

    return {"violations": violations(release)}


def count(release: Path) -> dict[str, Any]:
    """Captions with a text in the data files, read back."""
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    from builder.core.manifest import read_manifest

    total = 0
    for config in ("real", "synthetic"):
        for entry in read_manifest(release)["configs"][config].values():
            for name in entry["files"]:
                for batch in pq.ParquetFile(release / name).iter_batches(columns=["captions"]):
                    cells = batch.column("captions").flatten()
                    total += len(cells) - pc.struct_field(cells, "text").null_count
    return {"captions": total}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=ROWS)
    parser.add_argument("--shard-rows", type=int, default=256)
    parser.add_argument("--folder", type=Path, help="Keep the project there; a filled one is used")
    parser.add_argument("--check", action="store_true", help="Run all of `aras check` as well")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    steps = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        if not (folder / "dataset.toml").exists():
            steps.append(apart(fill, folder, options.rows, options.shard_rows))
        steps.append(packaged := apart(package, folder))
        release = Path(packaged["release"])
        steps.append(counted := apart(count, release))
        rows = {config: sum(parts.values()) for config, parts in packaged["rows"].items()}
        wanted = {"real": round(options.rows * REAL_SHARE), "metadata": options.rows}
        wanted["synthetic"] = options.rows - wanted["real"]
        captions = counted["captions"]
        told = {"rows": rows, "captions": captions}
        if {name: rows[name] for name in wanted} != wanted or captions != 5 * options.rows:
            sys.exit(f"wrong counts: {rows}, {captions} captions")
        if options.check:
            steps.append(checked := apart(check, release))
            if found := checked["violations"]:
                sys.exit("\n".join(found[:20]))
    if options.json:
        print(json.dumps(told | {"files": packaged["files"], "steps": steps}))
    else:
        print(f"{rows}, {captions:,} captions, {packaged['files']} files")


if __name__ == "__main__":
    main()
