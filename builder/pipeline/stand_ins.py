"""Stand-in rows: a store with all columns of a release, filled without any model or map.

Packaging, checking and comparing releases can so be rehearsed and tested at any size.
"""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

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

MEGABYTES = 1.5
"""Size of a data file: as many rows of stand-ins as 512 MB hold of true rows, about 4,000, because
what a Parquet writer remembers until it closes a file grows with its rows."""
ROWS = 400_240
"""Rows of ARAS400k: 100,240 real and 300,000 synthetic."""
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
    source: str = "ESA_WorldCover_10m_2021_v200_{cell}_S2RGBNIR.tif",
) -> Project:
    """A project whose store holds ``rows`` invented rows with all columns of a release.

    ``real`` of them are real, a quarter unless given; ``draw`` makes their pictures, ``source`` is
    the column of that name with ``{cell}`` in place of the cell.
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
        _write_real(project, f"real-{start // shard_rows:05d}", numbers, draw, source)
    for start in range(0, rows - real, shard_rows):
        numbers = np.arange(start, min(start + shard_rows, rows - real))
        _write_synthetic(project, f"synthetic-a-{start // shard_rows:05d}", numbers, draw)
    return project


def drawn_from_pool() -> Draw:
    """Pictures of `SIDE` pixels, `POOL` of them different."""
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


def _write_real(
    project: Project, shard: str, numbers: npt.NDArray[np.int64], draw: Draw, source: str
) -> None:
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
    by_block = {
        block: int(hashlib.sha256(block.encode()).hexdigest(), 16) % 10 for block in set(blocks)
    }
    splits = [{8: 1, 9: 2}.get(by_block[block], 0) for block in blocks]
    n = len(numbers)
    _write(
        project,
        "tiles",
        shard,
        {
            "id": [f"real/{stem}" for stem in stems],
            # No picture of the pool is in two splits.
            **_pictures(3 * numbers + splits, draw, [f"{stem}.png" for stem in stems]),
            "crs": [grid.CRS_NAME] * n,
            "transform": [[pixel, 0.0, x, 0.0, -pixel, y] for x, y in place],
            "longitude": place[:, 0] + pixel * SIDE / 2,
            "latitude": place[:, 1] - pixel * SIDE / 2,
            "source": [source.format(cell=name) for name in names],
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
    pictures = _pictures(
        3 * (numbers + 1), draw, [f"{row_id.split('/')[-1]}.png" for row_id in ids]
    )
    layouts = {
        "id": ids,
        "split": [SPLITS.index("train")] * n,
        "gen_seed": (numbers * 2**40 + 12345).astype(str),
        "gen_layout": [f"real/N36E027_000_{i % PER_CELL:03d}" for i in numbers],
        "gen_transform": ["identity"] * n,
    }
    _write(project, "layouts", shard, layouts)
    provenance = {"gen_model": "stand-in", "gen_revision": "0" * 64, "gen_config_sha256": "0" * 64}
    provenance["gen_mask"] = "layout"
    _write(
        project,
        "generate",
        shard,
        {**pictures, **{name: [value] * n for name, value in provenance.items()}},
    )
    near = {
        "nearest_real_id": layouts["gen_layout"],
        "nearest_real_ratio": np.full(n, 0.9, dtype=np.float32),
    }
    _write(project, "memorize", shard, near, counts={"suspected": 0})
    copies = {"copy": [False] * n, "copied_from": [None] * n}
    _write(project, "copies", shard, copies, counts={"copies": 0})
    _write_judged(project, shard, numbers)


def _write_judged(project: Project, shard: str, numbers: npt.NDArray[np.int64]) -> None:
    n = len(numbers)
    _write(project, "segment", shard, {"mask_agreement": np.full(n, 0.75, dtype=np.float32)})
    _write(project, "realism", shard, {"realism": np.full(n, 0.5, dtype=np.float32)})
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
            "seed": (numbers * 2**40 + k).astype(str),
            "error": [None] * n,
        }
        column = _struct(cells, CAPTION)
        _write(project, f"caption-{stream}", shard, {STREAM_PREFIX + stream: column})
        scores = {field.name: [1] * n for field in CAPTION_SCORE} | {
            "mentioned": [["Grass", "Tree"]] * n,
            "contradictions": [[]] * n,
        }
        column = _struct(scores, CAPTION_SCORE)
        _write(project, f"score-{stream}", shard, {SCORE_PREFIX + stream: column})
        column = _struct({"near_duplicate_cluster": [None] * n}, CAPTION_REPEAT)
        _write(project, f"repeat-{stream}", shard, {REPEAT_PREFIX + stream: column})


def _struct(values: dict[str, Any], kind: pa.DataType) -> pa.StructArray:
    arrays = [pa.array(values[field.name], field.type) for field in kind]
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
