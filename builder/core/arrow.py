"""How we write Parquet: blobs as they are, text compressed, small row groups, a page index."""

import hashlib
from collections.abc import Iterator, Sequence
from typing import Any, TypedDict

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from typing_extensions import NotRequired

ROW_GROUP = 128
"""Rows with pictures per row group: the first streamed row costs one group."""

TEXT_ROW_GROUP = 4096
"""Rows without pictures per row group."""

PAGE = 1024
"""Bytes from which on a page of a picture column ends. Checked after every value (see `options`),
so a picture of at least this size is a page of its own."""

BLOBS = ("image", "mask", "layout")
"""Columns of encoded pictures: already compressed, never looked up by value."""


def leaves(field: pa.Field, prefix: str = "") -> Iterator[str]:
    """Parquet's names of the leaf columns of an Arrow field."""
    path = f"{prefix}{field.name}"
    kind = field.type
    if pa.types.is_struct(kind):
        for child in kind:
            yield from leaves(child, f"{path}.")
    elif pa.types.is_list(kind) or pa.types.is_fixed_size_list(kind):
        yield from leaves(pa.field("element", kind.value_type), f"{path}.list.")
    else:
        yield path


def rows_per_group(schema: pa.Schema) -> int:
    return ROW_GROUP if _has_pictures(schema) else TEXT_ROW_GROUP


class WriterOptions(TypedDict):
    """Keyword arguments of pyarrow's ParquetWriter; the lists name leaf columns."""

    compression: dict[str, str]
    use_dictionary: list[str]
    write_statistics: list[str]
    write_page_index: bool
    store_schema: bool
    write_batch_size: NotRequired[int]
    data_page_size: NotRequired[int]


def options(schema: pa.Schema) -> WriterOptions:
    """How a table of a schema of ours is written.

    One picture is one page: the page index then leads to a single picture, the bytes of a page
    depend on nothing but that picture, and a changed or removed row leaves the pages of the
    others as they were for stores that find known pieces of files. Writing value by value with a
    small page limit gives exactly that; content-defined chunking approaches it, costs more time,
    shares no more, and stays off. Pages of several pictures share a third as much, for they end
    elsewhere once a row is gone; one page per row group shares as much and is read faster, but
    takes more memory and, in writes of 17 MB, more time (see scripts/bench_pages.py).
    """
    names = {leaf: field.name in BLOBS for field in schema for leaf in leaves(field)}
    text = [leaf for leaf, blob in names.items() if not blob]
    written: WriterOptions = {
        "compression": {leaf: "none" if blob else "zstd" for leaf, blob in names.items()},
        "use_dictionary": text,
        "write_statistics": text,
        "write_page_index": True,
        "store_schema": True,
    }
    if _has_pictures(schema):
        written |= {"write_batch_size": 1, "data_page_size": PAGE}
    return written


def _has_pictures(schema: pa.Schema) -> bool:
    return any(name in BLOBS for name in schema.names)


def column_digest(column: pa.ChunkedArray | pa.Array) -> str:
    """sha256 (hex) of a column's type, length, nulls and values.

    Chunking, slicing, padding and bytes under nulls do not count, so the digest survives a
    rewrite by another Parquet or Arrow version.
    """
    chunks = column.chunks if isinstance(column, pa.ChunkedArray) else [column]
    state = hashlib.sha256()
    _feed(state, column.type, chunks)
    return state.hexdigest()


def table_digests(table: pa.Table) -> dict[str, str]:
    return {name: column_digest(table.column(name)) for name in table.column_names}


def combine(digests: dict[str, str]) -> str:
    """One digest of named digests, independent of their order."""
    lines = "".join(f"{name} {digests[name]}\n" for name in sorted(digests))
    return hashlib.sha256(lines.encode()).hexdigest()


def _feed(state: Any, kind: pa.DataType, chunks: Sequence[pa.Array]) -> None:
    """Feed the values of all chunks as if they were one array, without copying."""
    n, nulls = sum(map(len, chunks)), sum(chunk.null_count for chunk in chunks)
    state.update(f"{_name(kind)}|{n}|{nulls}|".encode())
    if nulls == n:
        state.update(bytes(-(-n // 8)))
    elif nulls:
        valid = [chunk.is_valid().to_numpy(zero_copy_only=False) for chunk in chunks]
        state.update(np.packbits(np.concatenate(valid)))
    if nulls == n and not pa.types.is_nested(kind):
        return
    if pa.types.is_struct(kind):
        members = [chunk.flatten() for chunk in chunks]
        for i, child in enumerate(kind):
            _feed(state, child.type, [member[i] for member in members])
        return
    values = [chunk.drop_null() for chunk in chunks] if nulls else chunks
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        for chunk in values:
            state.update(pc.list_value_length(chunk).to_numpy().astype("<i8").tobytes())
        _feed(state, kind.value_type, [chunk.flatten() for chunk in values])
    elif pa.types.is_fixed_size_list(kind):
        _feed(state, kind.value_type, [chunk.flatten() for chunk in values])
    elif pa.types.is_binary(kind) or pa.types.is_string(kind):
        for chunk in values:
            state.update(pc.binary_length(chunk).to_numpy().astype("<i8").tobytes())
        for chunk in values:
            _feed_bytes(state, chunk)
    elif pa.types.is_boolean(kind):
        bits = [chunk.to_numpy(zero_copy_only=False) for chunk in values]
        state.update(np.packbits(np.concatenate([np.zeros(0, dtype=bool), *bits])).tobytes())
    else:
        for chunk in values:
            state.update(np.ascontiguousarray(chunk.to_numpy()).tobytes())


def _name(kind: pa.DataType) -> str:
    """A type's name without the names of list items, which Parquet does not keep."""
    if pa.types.is_struct(kind):
        return "struct " + " ".join(child.name for child in kind)
    if pa.types.is_fixed_size_list(kind):
        return f"list {kind.list_size}"
    return "list" if pa.types.is_list(kind) or pa.types.is_large_list(kind) else str(kind)


def type_name(kind: pa.DataType) -> str:
    """A type in full, down to every member; equal before and after Parquet."""
    if pa.types.is_struct(kind):
        return f"struct<{', '.join(f'{child.name}: {type_name(child.type)}' for child in kind)}>"
    if pa.types.is_nested(kind):
        return f"{_name(kind)}<{type_name(kind.value_type)}>"
    return str(kind)


def _feed_bytes(state: Any, values: pa.Array) -> None:
    if not len(values):
        return
    _, offsets, data = values.buffers()
    place = np.frombuffer(offsets, dtype=np.int32)[values.offset : values.offset + len(values) + 1]
    if data is not None:
        state.update(memoryview(data)[place[0] : place[-1]])
