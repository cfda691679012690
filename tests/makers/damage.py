"""Ways to change a release that hides the change from its checksums, so that rules must see it."""

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
