"""The splits and subsets of a release as files of ids that people can share."""

from pathlib import Path
from typing import Any

from builder.core.manifest import SubsetFile, read_manifest
from builder.land.columns import SPLITS
from builder.official.import_release import ImportRelease
from builder.pipeline.inputs import Inputs
from builder.release.rows import real_rows
from builder.steps.stage import shards
from builder.tiles import subsets
from builder.tiles.subsets import Rows

OFFICIAL, BLOCKS = "official", "blocks"
TRAIN = SPLITS.index("train")


def write_subsets(release: Path, inputs: Inputs) -> dict[str, SubsetFile]:
    """Write subsets/NAME.csv of each split and of each subset smaller than it; the files by name.

    `OFFICIAL` is the split that rows were imported with, `BLOCKS` that of `stages.split`. The one
    that the release does not follow is written too, as far as it has these rows; blocks only where
    some rows are left to train on. Subsets are of the release's own split.
    """
    if "real" not in read_manifest(release).configs:
        return {}
    rows = real_rows(release)
    files: dict[str, SubsetFile] = {}
    for name, split in _splits(rows, inputs).items():
        members = {row: split[row] for row in rows.ids if split.get(row, -1) >= 0}
        if members:
            file = subsets.write(release / f"subsets/{name}.csv", list(members), members.values())
            files[name] = file.model_copy(update={"balance": "natural"})
    for name, section in inputs.recipe.subsets.items():
        if section.rows < len(rows.ids):
            chosen = subsets.choose(rows, name, section.rows, section.balance)
            part = rows.take(chosen.positions)
            file = subsets.write(release / f"subsets/{name}.csv", part.ids, part.splits.tolist())
            more = {"balance": section.balance, "notes": chosen.notes}
            files[name] = file.model_copy(update=more)
    return files


def _splits(rows: Rows, inputs: Inputs) -> dict[str, dict[str, int]]:
    """Name → row id → split id: first the release's own split, then the other."""
    own = dict(zip(rows.ids, rows.splits.tolist(), strict=True))
    if any(rows.blocks):
        return {BLOCKS: own, OFFICIAL: _published(inputs)}
    scan = lambda columns: inputs.store.scan(_real(inputs), columns)  # noqa: E731
    blocks = inputs.split.choose(scan)
    return {OFFICIAL: own, BLOCKS: blocks if TRAIN in blocks.values() else {}}


def ingredients(inputs: Inputs) -> list[Any]:
    """What the files of splits are written from, beside the rows of the release."""
    if not inputs.imports:
        return []
    footers = [inputs.store.footer("import", shard) for shard in _real(inputs)]
    imported = [footer.digests["split"] for footer in footers if footer]
    return [inputs.split.config(), imported]


def _published(inputs: Inputs) -> dict[str, int]:
    """Row id → split that real rows were imported with; none for rows cut from maps, nor for
    those of a release by blocks that does not say what was before."""
    if not inputs.imports:
        return {}
    stage = inputs.imports
    if isinstance(stage, ImportRelease):
        held = read_manifest(stage.release).subsets
        if OFFICIAL in held:
            splits = subsets.read(stage.release / f"subsets/{OFFICIAL}.csv")
            return {row: SPLITS.index(split) for row, split in splits.items()}
        if BLOCKS in held:
            return {}
    tables = (inputs.store.load("import", shard, ["id", "split"]) for shard in _real(inputs))
    return {row["id"]: row["split"] for table in tables for row in table.to_pylist()}


def _real(inputs: Inputs) -> list[str]:
    return shards(inputs.store, ("real",))
