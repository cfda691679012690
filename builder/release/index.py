"""Where each picture lies in the files of a release: found while they are written, and verified."""

import contextlib
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from io import FileIO
from itertools import pairwise
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from builder.core.errors import ArasError
from builder.land.columns import BLOB_DIGESTS, BLOBS, GEO_COLUMNS, KINDS, LOCATIONS
from builder.release.geo import GeoFooter, geo_columns

NEEDLE = 32
"""Bytes of a picture that it is found by, with its length before them. A PNG's first 16 are no part
of a page header, and the search goes on where the picture before ends."""

MOST = 1 << 28
"""Bytes between two pictures at which the search ends: the texts of a row group and more."""

Picture = memoryview | None
"""The encoded bytes; None for null."""


def encoded(pictures: pa.StructArray) -> Iterator[Picture]:
    """The bytes of each picture of an Image column, in place."""
    held = pc.struct_field(pictures, "bytes")
    _, ends, data = held.buffers()
    view = memoryview(data or b"")
    place = np.frombuffer(ends, np.int32)[held.offset : held.offset + len(held) + 1].tolist()
    for (start, end), is_there in zip(pairwise(place), held.is_valid().to_pylist(), strict=True):
        yield view[start:end] if is_there else None


def find_pictures(path: Path, start: int, group: pa.Table) -> pa.Table:
    """Offset and size of every picture of a row group, nulls for nulls: columns ``image_offset`` …

    ``group`` was written to ``path`` from byte ``start`` on, its pictures plain (`core.arrow`).
    """
    columns: dict[str, pa.Array] = {}
    with path.open("rb", buffering=0) as file:
        for name in BLOBS:
            if name not in group.column_names:
                continue
            offsets: list[int | None] = []
            sizes: list[int | None] = []
            for chunk in group.column(name).chunks:
                for picture in encoded(chunk):
                    if picture is None:
                        offsets.append(None)
                        sizes.append(None)
                        continue
                    size = len(picture)
                    needle = size.to_bytes(4, "little") + picture[:NEEDLE]
                    start = _find(file, needle, start) + 4
                    offsets.append(start)
                    sizes.append(size)
                    start += size
            columns[f"{name}_offset"] = pa.array(offsets, pa.int64())
            columns[f"{name}_size"] = pa.array(sizes, pa.int64())
    return pa.table(columns)


def _find(file: FileIO, needle: bytes, start: int) -> int:
    """Where ``needle`` is first in a file from ``start`` on: mostly some twenty bytes further."""
    length = 128
    while length < MOST:
        window = os.pread(file.fileno(), length, start)
        if (at := window.find(needle)) >= 0:
            return start + at
        if len(window) < length:
            break
        length *= 32
    raise ArasError(f"{file.name}: a picture is not stored plainly from byte {start} on")


@dataclass
class Index:
    """Rows of config metadata, of a split of a kind, kept in a file until its shards have names.

    A shard's name says how many there are, which is known at the end alone. ``schema`` is that of
    config metadata.
    """

    path: Path
    schema: pa.Schema
    writer: pa.ipc.RecordBatchStreamWriter | None = None
    footprints: GeoFooter = field(default_factory=GeoFooter)

    def add(self, rows: pa.Table, part: int, places: pa.Table) -> None:
        """Keep rows without pictures, whose pictures lie in shard number ``part`` at ``places``."""
        columns = {name: rows.column(name) for name in rows.column_names}
        columns |= {name: places.column(name) for name in places.column_names}
        columns["shard"] = pa.repeat(str(part), rows.num_rows)
        if not set(GEO_COLUMNS).isdisjoint(self.schema.names):
            columns |= geo_columns(rows)
        table = pa.table([columns[name] for name in self.schema.names], self.schema)
        self.footprints.see(table)
        if self.writer is None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.writer = pa.ipc.new_stream(pa.OSFile(str(self.path), "wb"), self.schema)
        self.writer.write_table(table)

    def rows(self, shards: Sequence[str]) -> Iterator[pa.Table]:
        """The rows as they were added, each with the name of its shard; the file goes."""
        if self.writer is None:
            return
        self.writer.close()
        place = self.schema.get_field_index("shard")
        with pa.OSFile(str(self.path)) as file, pa.ipc.open_stream(file) as batches:
            for batch in batches:
                name = shards[int(batch.column("shard")[0].as_py())]
                table = pa.Table.from_batches([batch])
                column = pa.repeat(name, batch.num_rows)
                yield table.set_column(place, self.schema.field("shard"), column)
        self.path.unlink()


def misplaced(
    release: Path, table: pa.Table, shards: Mapping[str, frozenset[str]]
) -> Iterator[tuple[str, str]]:
    """(id, what is wrong) of rows of config metadata whose pictures do not lie where they say.

    Only files in ``shards``, the manifest's own by kind, are opened; rows of a kind that is not
    among them are not looked at: a part of a release has the numbers of all.
    """
    names = ["id", "kind", *LOCATIONS, *BLOB_DIGESTS]
    with contextlib.ExitStack() as stack:
        opened: dict[str, BinaryIO] = {}
        for row in table.select(names).to_pylist():
            kind, shard = KINDS[row["kind"]], row["shard"]
            if kind not in shards:
                continue
            if shard not in shards[kind]:
                yield row["id"], f"shard {shard!r} is not a file of {kind} rows of its split"
                continue
            if shard not in opened:
                opened[shard] = stack.enter_context((release / shard).open("rb"))
            for digest, picture in BLOB_DIGESTS.items():
                start, size = row[f"{picture}_offset"], row[f"{picture}_size"]
                if start is None or size is None or start < 0 or size < 0:
                    yield row["id"], f"{picture}_offset or {picture}_size is missing"
                    continue
                opened[shard].seek(start)
                data = opened[shard].read(size)
                if len(data) < size or sha256(data).hexdigest() != row[digest]:
                    yield row["id"], f"its {picture} is not at byte {start} of {shard}"
