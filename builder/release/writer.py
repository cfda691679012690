"""Writing the data of a release: full row groups into files of bounded size, and their index."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from builder.core.arrow import ROW_GROUP, combine, options, rows_per_group, table_digests
from builder.core.manifest import CONFIGS, Configs, SplitFiles
from builder.land.columns import (
    BLOB_DIGESTS,
    BLOBS,
    DERIVED,
    KINDS,
    SPLITS,
    arrow_schema,
    names_of,
)
from builder.release.geo import GeoFooter, with_footer
from builder.release.index import Index, encoded, find_pictures

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
    index: Index | None = None
    """Told of every row and where its pictures lie, for config metadata."""
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
            light = _without(group, BLOBS).combine_chunks()
            for digest in content_digests(light):
                self.content.update(digest.encode())
            source = {**_columns(group), **_columns(light)}
            columns = [source[name] for name in self.schema.names]
            writer = self._open()
            start = self.parts[-1].stat().st_size
            writer.write_table(pa.table(columns, self.schema), row_group_size=size)
            if self.index:
                places = find_pictures(self.parts[-1], start, group)
                self.index.add(light, len(self.parts) - 1, places)
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


@dataclass
class DataWriter:
    """Writes all Parquet files of a release, whose rows may come in any order of parts.

    Config ``metadata`` is written at the end, because it names the files of the others. ``columns``
    gives the columns of a config.
    """

    folder: Path
    limit: float
    columns: Callable[[str], tuple[str, ...]] = names_of
    writers: dict[tuple[str, str], SplitWriter] = field(default_factory=dict)

    def add(self, config: str, split: str, table: pa.Table) -> None:
        """Take rows of a split of a config other than ``metadata`` and ``augmented``."""
        self._writer(config, split).add(table)

    def close(self) -> tuple[Configs, str]:
        """Write what is left; the configs, and the content digest of all of them."""
        files = {part: writer.close() for part, writer in self.writers.items()}
        for config, split in sorted(files, key=_order):
            if index := self.writers[config, split].index:
                for table in index.rows(self._names(files[config, split])):
                    self._writer("metadata", split).add(table)
        files |= {part: self.writers[part].close() for part in self.writers.keys() - files.keys()}
        configs: Configs = {}
        for config, split in sorted(files, key=_order):
            writer, paths = self.writers[config, split], files[config, split]
            configs.setdefault(config, {})[split] = SplitFiles(
                rows=writer.rows,
                bytes=sum(path.stat().st_size for path in paths),
                files=self._names(paths),
                content_sha256=writer.content.hexdigest(),
            )
        if "synthetic" in configs:
            configs["augmented"] = augmented(configs)
        content = combine({f"{c}/{s}": w.content.hexdigest() for (c, s), w in self.writers.items()})
        return {name: configs[name] for name in CONFIGS if name in configs}, content

    def _writer(self, config: str, split: str) -> SplitWriter:
        if (config, split) not in self.writers:
            schema, index = arrow_schema(self.columns(config)), None
            if config == "metadata":
                schema = with_footer(schema, self._footprints(split))
            if config in KINDS:
                spill = self.folder / f".{config}-{split}.arrow"
                index = Index(spill, arrow_schema(self.columns("metadata")))
            writer = SplitWriter(self.folder / config, split, schema, self.limit, index)
            self.writers[config, split] = writer
        return self.writers[config, split]

    def _footprints(self, split: str) -> GeoFooter:
        """What the indexes of both kinds have seen of a split."""
        indexes = [
            self.writers[kind, split].index for kind in KINDS if (kind, split) in self.writers
        ]
        return GeoFooter.of([index.footprints for index in indexes if index])

    def _names(self, files: Sequence[Path]) -> tuple[str, ...]:
        return tuple(path.relative_to(self.folder).as_posix() for path in files)


def _order(part: tuple[str, str]) -> tuple[str, int]:
    config, split = part
    return config, SPLITS.index(split)


def augmented(configs: Configs) -> dict[str, SplitFiles]:
    """Real and synthetic train rows beside real validation and test: the same files again."""
    both: dict[str, SplitFiles] = {}
    for kind in KINDS:
        for split, part in configs.get(kind, {}).items():
            before = both.get(split, SplitFiles(rows=0))
            both[split] = SplitFiles(
                rows=before.rows + part.rows,
                bytes=before.bytes + part.bytes,
                files=before.files + part.files,
            )
    return both


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
                None if data is None else sha256(data).hexdigest()
                for chunk in table.column(picture).chunks
                for data in encoded(chunk)
            ]
            table = table.append_column(name, pa.array(digests, pa.string()))
    return table


def content_digests(table: pa.Table) -> Iterator[str]:
    """Digest of every `ROW_GROUP` rows, in which the sha256 of a picture stands for it.

    What follows from other columns (places in files and on Earth) is no part of it: equal rows have
    equal digests however they are cut into files, and with any version of PROJ. The content digest
    of a split is the sha256 of these, one after the other.
    """
    light = _without(_without(with_digests(table), BLOBS), DERIVED)
    for start in range(0, table.num_rows, ROW_GROUP):
        yield combine(table_digests(light.slice(start, ROW_GROUP)))


def _without(table: pa.Table, names: Sequence[str]) -> pa.Table:
    return table.drop_columns([name for name in names if name in table.column_names])


def _columns(table: pa.Table) -> dict[str, pa.ChunkedArray]:
    return dict(zip(table.column_names, table.columns, strict=True))
