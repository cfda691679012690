"""Shards of the store → rows in the published columns and types."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from builder.core.arrow import type_name
from builder.core.errors import ArasError
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
from builder.pipeline.inputs import Inputs

GATHERED = {
    "captions": (STREAM_PREFIX,),
    "caption_scores": (SCORE_PREFIX, REPEAT_PREFIX, CLIP_PREFIX),
}
"""Published column → prefixes of the stream columns that it is made of."""
MODEL_NAMES = frozenset({"model", "revision"})
"""Members of a caption that a server may have filled with the path of its model."""


def stored_columns(inputs: Inputs, kind: str) -> list[str]:
    """Columns of the store that a release row of ``kind`` is made from, in a fixed order."""
    prefixes = [prefix for some in GATHERED.values() for prefix in some]
    gathered = [prefix + stream for prefix in prefixes for stream in inputs.streams]
    return [name for name in (*COLUMN_NAMES, *gathered) if name in inputs.columns[kind]]


def release_rows(
    store: Store, shard: str, stored: Sequence[str], streams: Sequence[str]
) -> pa.Table:
    """One shard as release rows, in the published columns and types, whatever their split.

    Raises ArasError for a stored column whose type is not the one that its stage makes today.
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
    """Rows of each split. Every row has one."""
    ids = table.column("split").to_pylist()
    values = dict.fromkeys(ids)
    for value in values:
        part = table  # filtering copies pictures
        if len(values) > 1:
            part = table.filter(pa.array([number == value for number in ids]))
        yield SPLITS[value], part
