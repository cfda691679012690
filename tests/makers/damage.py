"""Ways to change a release: hidden from its checksums so that rules see it, or plain damage."""

import io
import shutil
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from builder.core.arrow import ROW_GROUP, TEXT_ROW_GROUP, options
from builder.core.manifest import (
    Manifest,
    describe_files,
    listed_files,
    read_manifest,
    write_manifest,
)
from builder.land.columns import arrow_schema
from builder.release.card import write_cards


def copy_of(release: Path, folder: Path) -> Path:
    shutil.copytree(release, folder / "release")
    return folder / "release"


def restamp(release: Path, edit: Callable[[dict[str, Any]], None] = lambda _: None) -> None:
    """Change the manifest and list the files as they are now, checksums and all."""
    value = read_manifest(release).as_json()
    edit(value)
    files = [file.as_json() for file in describe_files(release, listed_files(release))]
    write_manifest(release, Manifest.model_validate({**value, "files": files}))


def without_columns(release: Path, names: Collection[str]) -> None:
    """Make config metadata, card and manifest what an aras wrote that knew no columns ``names``; it
    wrote no catalogue."""
    shutil.rmtree(release / "stac", ignore_errors=True)
    for path in (release / "metadata").glob("*.parquet"):
        table = pq.ParquetFile(path).read()
        held = [name for name in table.column_names if name not in names]
        schema = arrow_schema(held).with_metadata(
            table.schema.metadata | arrow_schema(held).metadata
        )
        table = table.select(held).cast(schema)
        pq.write_table(table, path, row_group_size=TEXT_ROW_GROUP, **options(table.schema))
    restamp(release)
    write_cards(release)


def rewrite(path: Path, edit: Callable[[pa.Table], pa.Table]) -> None:
    """Write a Parquet file again with its table changed."""
    table = edit(pq.ParquetFile(path).read())
    pq.write_table(table, path, row_group_size=ROW_GROUP, **options(table.schema))


def rows_edited(edit: Callable[[list[dict[str, Any]]], object]) -> Callable[[pa.Table], pa.Table]:
    """A change of rows as Python values, written back in the table's own schema."""

    def apply(table: pa.Table) -> pa.Table:
        rows = table.to_pylist()
        edit(rows)
        return pa.Table.from_pylist(rows, schema=table.schema)

    return apply


def cut_short(data: bytes) -> bytes:
    """The first 4,000 bytes of a file, or half of a smaller one."""
    return data[: min(4000, len(data) // 2)]


def spoil_pages(data: bytes) -> bytes:
    """A Parquet file whose first pages lost their headers, its footer as it was."""
    footer = pq.ParquetFile(io.BytesIO(data)).metadata
    spoilt = bytearray(data)
    for group in range(footer.num_row_groups):
        for column in range(footer.num_columns):
            chunk = footer.row_group(group).column(column)
            start = chunk.dictionary_page_offset or chunk.data_page_offset
            spoilt[start : start + 8] = b"\xff" * 8
    return bytes(spoilt)


def name_an_unknown_codec(data: bytes) -> bytes:
    """The codec of compressed columns, field 4 of their metadata in Thrift, is one of tomorrow."""
    zstd, unknown = b"\x15\x0c\x16", b"\x15\x1e\x16"
    start = len(data) - 8 - int.from_bytes(data[-8:-4], "little")
    assert zstd in data[start:]
    return data[:start] + data[start:].replace(zstd, unknown)
