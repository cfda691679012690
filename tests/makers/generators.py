"""Maker of projects whose synthetic tiles come from a good generator, or from one with a fault."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from builder.core.engine import Engine
from builder.core.manifest import TileComparison
from builder.land.classes import count_pixels
from builder.land.pictures import composition_columns, encode_png, image_column
from builder.pipeline.project import Project
from builder.pipeline.run import run_steps
from builder.quality.realism import Realism
from builder.release.comparing import TileSample, working_columns
from builder.steps.stage import shards
from tests.makers.landlike import blur, cast, landlike

Pixels = npt.NDArray[np.uint8]
Tile = tuple[Pixels, Pixels]
"""Image and mask."""

TRAIN, HELD_OUT, DRAWN = 120, 40, 30
MAKERS = {"mask_agreement": "segment", "copy": "copies"}
REAL, SYNTHETIC = "real-N36E032-00", "synthetic-a-00000"
DIFFUSION = """objective = "ddpm"
rows = 30
batch = 4
crop = 32
steps = 20
evaluate_every = 0
sampling_steps = 2
"""
RECIPE = f"""
[dataset]
name = "judged"
date = "2026-01-31"
[tiles]
size = 64
[segmenter]
steps = 3
batch = 4
crop = 32
[generator]
{DIFFUSION}
[captions.dominant]
style = "dominant"
"""


def real_project(folder: Path, kind: str = "pixel") -> Project:
    """Real tiles of a store, train and held-out, with a segmenter trained on them, and a recipe
    with a generator of a kind."""
    folder.mkdir(parents=True)
    recipe = (
        RECIPE if kind == "pixel" else RECIPE.replace(DIFFUSION, f'kind = "{kind}"\nrows = 30\n')
    )
    folder.joinpath("dataset.toml").write_text(recipe)
    project = Project(folder)
    tiles = [landlike(i) for i in range(TRAIN + HELD_OUT)]
    split = [0] * TRAIN + [1, 2] * (HELD_OUT // 2)
    ids = [f"real/N36E032_000_{i:03d}" for i in range(len(tiles))]
    _write(project, "tiles", REAL, ids, tiles)
    column = pa.table({"split": pa.array(split, pa.int64())})
    project.store.write("split", REAL, column, key="k")
    real, _ = project.qualities()
    run_steps(project, [real, project.training("segmenter")], Engine("serial"))
    return project


def _write(project: Project, stage: str, shard: str, ids: list[str], tiles: list[Tile]) -> None:
    names = [f"{row.split('/')[-1]}.png" for row in ids]
    columns = {
        "id": pa.array(ids),
        "image": image_column([encode_png(image) for image, _ in tiles], names),
        "mask": image_column([encode_png(mask) for _, mask in tiles], names),
        **composition_columns(np.stack([count_pixels(mask) for _, mask in tiles])),
    }
    project.store.write(stage, shard, pa.table(columns), key="k")


def good() -> list[Tile]:
    """Tiles of the same kind as the real ones, which nobody has seen."""
    return [landlike(10_000 + i) for i in range(DRAWN)]


def with_cast() -> list[Tile]:
    return [(cast(image, 30), mask) for image, mask in good()]


def blurred() -> list[Tile]:
    return [(blur(image, 1.5), mask) for image, mask in good()]


def deaf() -> list[Tile]:
    """Good pictures that have nothing to do with their layouts, and so with their land cover."""
    tiles = good()
    masks = [mask for _, mask in tiles]
    return [(image, masks[i - 7]) for i, (image, _) in enumerate(tiles)]


def copying() -> list[Tile]:
    """Train tiles, next to unchanged."""
    tiles = [landlike(i) for i in range(DRAWN)]
    return [(np.clip(image, 2, 253) + np.uint8(2), mask) for image, mask in tiles]


def judged(
    base: Project, folder: Path, draw: Callable[[], list[Tile]] | None, *, copies: bool = False
) -> TileComparison | None:
    """The comparison of a copy of ``base`` whose synthetic tiles are those of ``draw``; of its own
    generator, trained as its recipe says, where there is none. With ``copies`` the segmenter and
    the search for copies judge them too."""
    shutil.copytree(base.directory, folder)
    project = Project(folder)
    if draw is None:
        run_steps(project, [project.training("generator"), *project.synthesis()], Engine("serial"))
    else:
        tiles = draw()
        ids = [f"synthetic/a/{i:07d}" for i in range(len(tiles))]
        _write(project, "generate", SYNTHETIC, ids, tiles)
        columns = {"id": ids, "split": pa.array([0] * len(ids), pa.int64())}
        project.store.write("layouts", SYNTHETIC, pa.table(columns), key="k")
    _, quality = project.qualities()
    steps = [
        quality,
        *(project.judgements() if copies else [*project.second_opinions(), Realism()]),
    ]
    run_steps(project, steps, Engine("serial"))
    return compared(project)


def compared(project: Project) -> TileComparison | None:
    store, sample = project.store, TileSample()
    copies: list[bool] = []
    for kind in ("real", "synthetic"):
        for shard in shards(store, (kind,)):
            rows = store.read(shard, ("id", "split", "realism"))
            for name in ("mask_agreement", "copy"):
                if shard in store.shards(MAKERS[name]):
                    rows = rows.append_column(name, store.read(shard, (name,)).column(name))
            if "mask_agreement" not in rows.column_names:
                nulls = pa.nulls(rows.num_rows, pa.float32())
                rows = rows.append_column("mask_agreement", nulls)
            sample.see(kind, rows, store.read(shard, ("id", *working_columns(store, shard))))
            if "copy" in rows.column_names:
                copies += rows.column("copy").to_pylist()
    return sample.compared(sum(copies), len(copies))
