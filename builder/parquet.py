"""How we write Parquet: blobs as they are, text compressed, small row groups, a page index."""

from collections.abc import Iterator
from typing import Any

import pyarrow as pa

ROW_GROUP = 128
"""Rows with pictures per row group: the first streamed row costs one group."""

TEXT_ROW_GROUP = 4096
"""Rows without pictures per row group."""

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


def options(schema: pa.Schema) -> dict[str, Any]:
    """Keyword arguments of pyarrow's ParquetWriter for a schema of ours.

    One page per column of a row group of pictures. A page per picture would lead a reader's page
    index to a single one, at twice the time to write and to read; pages of some pictures end
    elsewhere when a row is gone, so that a new version re-sends three times as much to stores that
    find known pieces of files; content-defined chunking costs more and shares less, and stays off
    (scripts/bench_pages.py measures all of them).
    """
    names = {leaf: field.name in BLOBS for field in schema for leaf in leaves(field)}
    text = [leaf for leaf, blob in names.items() if not blob]
    # A page ends when a batch of rows is over the limit, which no row group of ours is.
    pages = {"write_batch_size": ROW_GROUP, "data_page_size": 1 << 30}
    return {
        "compression": {leaf: "none" if blob else "zstd" for leaf, blob in names.items()},
        "use_dictionary": text,
        "write_statistics": text,
        "write_page_index": True,
        "store_schema": True,
        **(pages if _has_pictures(schema) else {}),
    }


def _has_pictures(schema: pa.Schema) -> bool:
    return any(name in BLOBS for name in schema.names)
