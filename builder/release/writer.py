"""Writing a split of a config: full row groups into files of bounded size."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from hashlib import sha256
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from builder.core.arrow import ROW_GROUP, combine, options, rows_per_group, table_digests
from builder.land.columns import BLOB_DIGESTS, BLOBS

T = TypeVar("T")


@dataclass
class SplitWriter:
    """Writes a split of a config: full row groups, a new file at ``limit`` bytes.

    Files get their final ``split-00000-of-00002.parquet`` names when the number is known.
    """

    folder: Path
    split: str
    schema: pa.Schema
    limit: float
    rows: int = 0
    parts: list[Path] = field(default_factory=list)
    waiting: list[pa.Table] = field(default_factory=list)
    content: Any = field(default_factory=sha256)
    writer: pq.ParquetWriter | None = None

    def add(self, table: pa.Table) -> None:
        """Take rows that hold the schema's columns; others only count for the content digest."""
        self.waiting.append(with_digests(table))
        if sum(table.num_rows for table in self.waiting) >= rows_per_group(self.schema):
            self._write(pa.concat_tables(self.waiting), last=False)

    def close(self) -> list[Path]:
        """Write what is left and name the files; returns them."""
        if self.waiting:
            self._write(pa.concat_tables(self.waiting), last=True)
        if self.writer:
            self.writer.close()
        named = []
        for i, part in enumerate(self.parts):
            final = self.folder / f"{self.split}-{i:05d}-of-{len(self.parts):05d}.parquet"
            named.append(part.rename(final))
        return named

    def _write(self, table: pa.Table, *, last: bool) -> None:
        size = rows_per_group(self.schema)
        whole = table.num_rows if last else table.num_rows - table.num_rows % size
        for start in range(0, whole, size):
            group = table.slice(start, min(size, whole - start))
            # One chunk per column of text: the same pages whatever pieces the rows came in.
            # Pictures stay where they are; a page each needs no such care.
            light = _without_pictures(group).combine_chunks()
            for digest in content_digests(light):
                self.content.update(digest.encode())
            source = {**_columns(group), **_columns(light)}
            columns = [source[name] for name in self.schema.names]
            self._open().write_table(pa.table(columns, self.schema), row_group_size=size)
            self.rows += group.num_rows
        self.waiting = [table.slice(whole)] if whole < table.num_rows else []

    def _open(self) -> pq.ParquetWriter:
        if self.writer and self.parts[-1].stat().st_size >= self.limit:
            self.writer.close()
            self.writer = None
        if self.writer is None:
            self.folder.mkdir(parents=True, exist_ok=True)
            self.parts.append(self.folder / f"{self.split}-part-{len(self.parts):05d}")
            self.writer = pq.ParquetWriter(self.parts[-1], self.schema, **options(self.schema))
        return self.writer


def prefetch(items: Iterator[T]) -> Iterator[T]:
    """The same items; while an item is used, a thread prepares the next."""
    with ThreadPoolExecutor(1, "prefetch") as thread:
        coming = thread.submit(next, items, None)
        while (item := coming.result()) is not None:
            coming = thread.submit(next, items, None)
            yield item
            del item


def with_digests(table: pa.Table) -> pa.Table:
    """Rows with the sha256 of every picture beside it, hashed once however often this is called."""
    for name, picture in BLOB_DIGESTS.items():
        if picture in table.column_names and name not in table.column_names:
            digests = [
                digest for chunk in table.column(picture).chunks for digest in _digests(chunk)
            ]
            table = table.append_column(name, pa.array(digests, pa.string()))
    return table


def _digests(pictures: pa.StructArray) -> list[str | None]:
    """sha256 of the bytes of each, hashed in place; None for null."""
    held = pc.struct_field(pictures, "bytes")
    _, ends, data = held.buffers()
    view = memoryview(data or b"")
    place = np.frombuffer(ends, np.int32)[held.offset : held.offset + len(held) + 1].tolist()
    there = held.is_valid().to_pylist()
    return [
        sha256(view[a:b]).hexdigest() if known else None
        for (a, b), known in zip(pairwise(place), there, strict=True)
    ]


def content_digests(table: pa.Table) -> Iterator[str]:
    """Digest of every `ROW_GROUP` rows, in which the sha256 of a picture stands for it.

    The content digest of a split is the sha256 of these, one after the other.
    """
    light = _without_pictures(with_digests(table))
    for start in range(0, table.num_rows, ROW_GROUP):
        yield combine(table_digests(light.slice(start, ROW_GROUP)))


def _without_pictures(table: pa.Table) -> pa.Table:
    return table.drop_columns([name for name in BLOBS if name in table.column_names])


def _columns(table: pa.Table) -> dict[str, pa.ChunkedArray]:
    return dict(zip(table.column_names, table.columns, strict=True))
