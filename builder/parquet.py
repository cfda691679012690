"""How we write Parquet: blobs as they are, text compressed, small row groups, a page index."""

from collections.abc import Iterator
from typing import Any

import pyarrow as pa

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


def options(schema: pa.Schema) -> dict[str, Any]:
    """Keyword arguments of pyarrow's ParquetWriter for a schema of ours.

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
    pages = {"write_batch_size": 1, "data_page_size": PAGE} if _has_pictures(schema) else {}
    return {
        "compression": {leaf: "none" if blob else "zstd" for leaf, blob in names.items()},
        "use_dictionary": text,
        "write_statistics": text,
        "write_page_index": True,
        "store_schema": True,
        **pages,
    }


def _has_pictures(schema: pa.Schema) -> bool:
    return any(name in BLOBS for name in schema.names)
