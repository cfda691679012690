"""What would be refused at the end of a build, refused before its first step."""

import math
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from builder.core.document import file_size
from builder.core.errors import ArasError
from builder.core.extras import EXTRA, has
from builder.core.progress import counted
from builder.land.grid import lonlat
from builder.models.step import Training
from builder.pipeline.preview import StepPreview
from builder.pipeline.project import Project, Step
from builder.steps.stage import Stage
from builder.tiles.split import block_names

HEADROOM = 64 << 20
"""Bytes that must stay free: cards, models, the shard that is being written."""


def refuse_hopeless(project: Project, previews: Sequence[StepPreview], engine: str) -> None:
    """Raise ArasError, with what to write, for a build whose end can be known at its beginning:
    a missing extra, too few blocks for the splits, a disk that cannot hold the release."""
    undone = {step.stage for step in previews if not step.is_done}
    steps = [step for step in project.steps() if step.name in undone]
    if problem := missing_extra(steps, engine):
        raise ArasError(f"{problem}; nothing was made")
    if "split" in undone and not project.is_imported:
        refuse_few_blocks(project)
    if not project.inputs().target.exists():
        refuse_full_disk(project)


def missing_extra(steps: Iterable[Step], engine: str) -> str:
    """What has to be installed for ``steps`` and ``engine``; "" for nothing."""
    if engine == "ray" and not has("ray"):
        return 'engine = "ray" needs Ray: pip install \'aras[ray]\', or write kind = "processes"'
    for step in steps:
        models = isinstance(step, Training) or (isinstance(step, Stage) and step.gpus > 0)
        if models and not has("torch"):
            return (
                f"{step.name} needs aras[{EXTRA}], which brings torch: pip install 'aras[{EXTRA}]'"
            )
    return ""


def refuse_few_blocks(project: Project) -> None:
    """Raise ArasError where the composites touch fewer blocks than there are splits to fill."""
    split = project.split()
    composites, _ = project.tiles().products(project.store)
    wanted = sum(share > 0 for share in split.shares)
    names: set[str] = set()
    size = project.recipe.tiles.size
    for raster in composites:
        columns = np.arange(raster.column + size // 2, raster.column + raster.width, size)
        rows = np.arange(raster.row + size // 2, raster.row + raster.height, size)
        x = np.array([lonlat(int(column), 0)[0] for column in columns])
        y = np.array([lonlat(0, int(row))[1] for row in rows])
        places = np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2)
        names.update(np.unique(block_names(places, split.block)).tolist())
        if len(names) >= wanted:
            return
    smaller = split.block / 2 ** math.ceil(math.log2(math.sqrt(10 * wanted)))
    raise ArasError(
        f"the composites touch {counted(len(names), 'block')} of {split.block:g}°, and {wanted} "
        f"splits need at least {wanted}; write for example block = {max(smaller, split.size):.3g} "
        "in [split], bring composites of a larger place, or give a split the share 0; nothing "
        "was made"
    )


def refuse_full_disk(project: Project) -> None:
    """Raise ArasError where the disk has less room than the pictures that are already made, each
    of which a release holds once more. What is not made yet is not known, and not counted."""
    pictures = sum(size_of(project.store.root / stage) for stage in ("tiles", "import", "generate"))
    free = shutil.disk_usage(project.directory).free
    if free < pictures + HEADROOM:
        raise ArasError(
            f"{project.releases}: the disk has {file_size(free)} free, and the release needs at "
            f"least {file_size(pictures + HEADROOM)}; free some, or move the dataset to a larger "
            "disk; nothing was made"
        )


def size_of(folder: Path) -> int:
    """Bytes of all files below a folder; 0 where there is none."""
    return sum(path.lstat().st_size for path in folder.rglob("*") if path.is_file())
