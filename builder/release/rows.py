"""Shards of the store → rows in the published columns and types, and reading these rows back."""

from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from builder.core.arrow import type_name
from builder.core.errors import ArasError
from builder.core.foreign import ForeignParquet
from builder.core.manifest import Manifest, read_manifest
from builder.core.store import Store
from builder.land.columns import (
    BY_NAME,
    CLIP_PREFIX,
    COLUMN_NAMES,
    KINDS,
    REPEAT_PREFIX,
    SCORE_PREFIX,
    SPLITS,
    STREAM_PREFIX,
    arrow_schema,
    arrow_type,
)
from builder.land.pictures import masks_in_colour, per_class
from builder.pipeline.inputs import Inputs
from builder.tiles.split import centres
from builder.tiles.subsets import Rows

GATHERED = {
    "captions": (STREAM_PREFIX,),
    "caption_scores": (SCORE_PREFIX, REPEAT_PREFIX, CLIP_PREFIX),
}
"""Published column → prefixes of the stream columns that it gathers."""
MODEL_NAMES = frozenset({"model", "revision"})
"""Members of a caption that a server may have filled with the path of its model."""


def stored_columns(inputs: Inputs, kind: str) -> list[str]:
    """Columns of the store that a release row of ``kind`` is built from, in a fixed order."""
    prefixes = [prefix for some in GATHERED.values() for prefix in some]
    gathered = [prefix + stream for prefix in prefixes for stream in inputs.streams]
    return [name for name in (*COLUMN_NAMES, *gathered) if name in inputs.columns[kind]]


def release_rows(
    store: Store,
    shard: str,
    stored: Sequence[str],
    streams: Sequence[str],
    failed: Collection[str] = (),
) -> pa.Table:
    """One shard as release rows, in the published columns and types, whatever their split.

    Masks of ``failed`` rows, which may be what cannot be decoded, are null.

    Raises ArasError for a stored column whose type is not what its stage writes today.
    """
    table = store.read(shard, stored)
    for field in table.schema:
        if type_name(field.type) != type_name(arrow_type(field.name)):
            raise ArasError(
                f"shard {shard}: column {field.name} has a type of an earlier aras, and a release "
                "would hold nulls in its place; run `aras build` first"
            )
    kind = KINDS.index(shard.split("-")[0])
    columns: dict[str, Any] = {"kind": pa.array([kind] * table.num_rows, pa.int64())}
    for column, prefixes in GATHERED.items():
        columns[column] = gather(table, prefixes, streams, BY_NAME[column].type)
    for name in COLUMN_NAMES:
        if name in stored:
            columns[name] = table.column(name)
        elif name not in columns:
            columns[name] = pa.nulls(table.num_rows, BY_NAME[name].type)
    if failed:
        ids = table.column("id").to_pylist()
        whole = pa.array([None if row in failed else i for i, row in enumerate(ids)], pa.int64())
        columns["mask"] = columns["mask"].take(whole)
    columns["mask"] = masks_in_colour(columns["mask"])
    rows = pa.table({name: columns[name] for name in COLUMN_NAMES})
    return rows.cast(arrow_schema(COLUMN_NAMES))


def gather(
    table: pa.Table, prefixes: Sequence[str], names: Sequence[str], kind: pa.ListType
) -> pa.ListArray:
    """The struct columns of each stream → one list of structs per row, in the recipe's order.

    Members that no column of the ``prefixes`` has are null.
    """
    n, width = table.num_rows, len(names)
    if not width:
        return pa.array([[]] * n, kind)
    by_row = pa.array(np.arange(n * width).reshape(width, n).T.ravel())
    given = {"stream": pa.array(list(names) * n, pa.string())}
    for prefix in prefixes:
        if prefix + names[0] in table.column_names:
            cells = [table.column(prefix + name).combine_chunks() for name in names]
            flat = pa.concat_arrays(cells).take(by_row)
            given |= {field.name: pc.struct_field(flat, field.name) for field in flat.type}
    for name in MODEL_NAMES & given.keys():
        given[name] = pc.replace_substring_regex(given[name], r"^[/~.].*/([^/]+)$", r"\1")
    element = kind.value_type
    fields = [
        given[field.name].cast(field.type)
        if field.name in given
        else pa.nulls(n * width, field.type)
        for field in element
    ]
    structs = pa.StructArray.from_arrays(fields, fields=list(element))
    ends = np.arange(0, n * width + 1, width, dtype=np.int32)
    return pa.ListArray.from_arrays(ends, structs, kind)


def by_split(table: pa.Table) -> Iterator[tuple[str, pa.Table]]:
    """Rows of each split. Every row has a split."""
    ids = table.column("split").to_pylist()
    values = dict.fromkeys(ids)
    for value in values:
        part = table  # filtering copies pictures
        if len(values) > 1:
            part = table.filter(pa.array([number == value for number in ids]))
        yield SPLITS[value], part


def opened(path: Path) -> ForeignParquet:
    """A Parquet file of a release. Raises ArasError when it is missing, and as ForeignParquet."""
    try:
        return ForeignParquet(path)
    except FileNotFoundError:
        raise ArasError(
            f"{path}: missing; `aras check {path.parents[1]}` lists what else is wrong"
        ) from None


def held_columns(release: Path, manifest: Manifest) -> dict[str, tuple[str, ...]]:
    """Config → its columns, by its first file's footer; older releases lack some of today's."""
    columns = {}
    for config, splits in manifest.configs.items():
        first = next(name for part in splits.values() for name in part.files)
        with opened(release / first) as file:
            columns[config] = tuple(file.schema_arrow.names)
    return columns


def metadata(release: Path, columns: Sequence[str]) -> Iterator[tuple[str, pa.Table]]:
    """(split, table) of each row group of the metadata files, only the given columns; of a file
    without rows its empty table.

    Raises ArasError when the release or any of its files is not there, or cut short, and for
    columns that it lacks.
    """
    for split, part in read_manifest(release).configs["metadata"].items():
        for name in part.files:
            with opened(release / name) as file:
                if missing := [n for n in columns if n not in file.schema_arrow.names]:
                    raise ArasError(f"{release / name}: lacks column {', '.join(missing)}")
                for group in range(file.num_row_groups):
                    yield split, file.read_row_group(group, list(columns))
                if not file.num_row_groups:
                    yield split, file.read(list(columns))


def real_rows(release: Path) -> Rows:
    """All real rows, whether their place is known or not. Raises ArasError when there are none."""
    ids: list[str] = []
    blocks: list[str | None] = []
    splits, pixels, places = [], [], []
    columns = ("id", "kind", "pixels", "longitude", "latitude", "block")
    for split, table in metadata(release, columns):
        kind = table.column("kind").to_numpy() == KINDS.index("real")
        table = table.filter(pa.array(kind))
        ids += table.column("id").to_pylist()
        blocks += table.column("block").to_pylist()
        splits += [SPLITS.index(split)] * table.num_rows
        pixels.append(per_class(table.column("pixels")))
        places.append(centres(table))
    if not ids:
        raise ArasError(f"{release}: holds no real rows")
    return Rows(ids, np.array(splits), np.concatenate(pixels), np.concatenate(places), blocks)
