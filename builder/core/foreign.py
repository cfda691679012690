"""Parquet files of unknown make: measured before they are read, and named where they cannot be."""

import io
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from builder.core import budgets
from builder.core.errors import ArasError, CorruptFile, blame_memory

_ENCODINGS = {"PLAIN", "RLE", "BIT_PACKED", "PLAIN_DICTIONARY", "RLE_DICTIONARY"}
"""Encodings of Parquet whose unpacked size `refuse_bombs` knows; writers that we know use these for
texts. Others build a value from the one before it."""
_WIDTHS = {"BOOLEAN": 1, "INT32": 4, "INT64": 8, "INT96": 12, "FLOAT": 4, "DOUBLE": 8}


def is_within(column: str, names: Sequence[str] | None) -> bool:
    """Whether a leaf column of Parquet belongs to the columns ``names``; to all, where None."""
    return names is None or any(column == n or column.startswith(f"{n}.") for n in names)


def chunks(
    footer: pq.FileMetaData, group: int, columns: Sequence[str] | None = None
) -> list[tuple[int, int]]:
    """(start, end) in bytes of each column chunk of a row group, as the footer says."""
    places = []
    for i in range(footer.num_columns):
        chunk = footer.row_group(group).column(i)
        if is_within(chunk.path_in_schema, columns):
            start = chunk.data_page_offset
            if chunk.has_dictionary_page and chunk.dictionary_page_offset:
                start = min(start, chunk.dictionary_page_offset)
            places.append((start, start + chunk.total_compressed_size))
    return places


class Undecodable(CorruptFile):
    """A file that the installed pyarrow cannot decode: nothing is known of its rows."""


class ForeignParquet(pq.ParquetFile):  # type: ignore[misc]
    """A Parquet file whose row groups are compared with `budgets` before they are read.

    Example::

        with ForeignParquet(release / "real/test-00000-of-00001.parquet") as file:
            for batch in file.iter_batches(128, columns=["id", "image"]):
                ...

    ``source`` gives the bytes of a file that is not in a folder, each time it is called, and
    ``name`` what errors call it. Raises FileNotFoundError for a file that is missing, Undecodable
    for one that is no Parquet, cut short, or of a type, codec or page that the installed pyarrow
    does not read, ArasError for a row group beyond the budgets.
    """

    def __init__(
        self,
        path: Path,
        *,
        name: str | None = None,
        source: Callable[[], io.RawIOBase] | None = None,
        metadata: pq.FileMetaData | None = None,
    ) -> None:
        self._name = str(path) if name is None else name
        self._source: Callable[[], Any] = source or (lambda: path)
        self._sizes: dict[tuple[int, str], int] = {}
        with _decoding(self._name):
            super().__init__(self._source(), metadata=metadata, pre_buffer=False)

    def read_row_group(self, i: int, columns: Any = None, **how: Any) -> pa.Table:
        self.measure([i], columns)
        with _decoding(self._name):
            return super().read_row_group(i, columns=columns, **how)

    def read_row_groups(self, row_groups: Any, columns: Any = None, **how: Any) -> pa.Table:
        self.measure(row_groups, columns)
        with _decoding(self._name):
            return super().read_row_groups(row_groups, columns=columns, **how)

    def read(self, columns: Any = None, **how: Any) -> pa.Table:
        self.measure(range(self.num_row_groups), columns)
        with _decoding(self._name):
            return super().read(columns=columns, **how)

    def iter_batches(
        self, batch_size: int = 65536, row_groups: Any = None, columns: Any = None, **how: Any
    ) -> Iterator[pa.RecordBatch]:
        groups = range(self.num_row_groups) if row_groups is None else row_groups
        self.measure(groups, columns)
        batches = super().iter_batches(batch_size, row_groups=groups, columns=columns, **how)
        while True:
            with _decoding(self._name):  # not around yield: what the caller raises is the caller's
                batch = next(batches, None)
            if batch is None:
                return
            yield batch

    def measure(self, groups: Iterable[int], columns: Sequence[str] | None = None) -> None:
        """Compare what row groups unpack to (all columns, or ``columns``) with `budgets`.

        Sizes come from the footer; of values that repeat by dictionary, from the dictionary and
        the counts of its values, which are small. Raises ArasError naming group and column.
        """
        for number in groups:
            group, total = self.metadata.row_group(number), 0
            where = f"{self._name}: row group {number}"
            if group.num_rows > budgets.PARQUET_GROUP_ROWS:
                raise ArasError(
                    f"{where} has {group.num_rows:,} rows, at most "
                    f"{budgets.PARQUET_GROUP_ROWS:,} are read at once"
                )
            for i in range(group.num_columns):
                column = group.column(i)
                path = column.path_in_schema
                if not is_within(path, columns):
                    continue
                if (number, path) not in self._sizes:
                    length = self.metadata.schema.column(i).length
                    self._sizes[number, path] = self._unpacked(number, column, length)
                total += self._sizes[number, path]
                if total > budgets.PARQUET_GROUP_BYTES:
                    raise ArasError(
                        f"{where} unpacks to {total:,} bytes and more, column {path} included, "
                        f"at most {budgets.PARQUET_GROUP_BYTES:,} are read"
                    )

    def stream(self, columns: Sequence[str] | None, rows: int) -> Iterator[pa.RecordBatch]:
        """Batches of so many rows of a table of any size, which never lie in memory together.

        Row groups of such a table may be of any size, and it may repeat its texts; raises ArasError
        naming group and column where it repeats a text of more than `budgets.REPEATED_BYTES` until
        the group is beyond the budget.
        """
        for number in range(self.num_row_groups):
            group = self.metadata.row_group(number)
            for i in range(group.num_columns):
                column = group.column(i)
                size, name = column.total_uncompressed_size, column.path_in_schema
                most = size * column.num_values
                if (
                    is_within(name, columns)
                    and column.physical_type == "BYTE_ARRAY"
                    and column.has_dictionary_page
                    and size > budgets.REPEATED_BYTES
                    and most > budgets.PARQUET_GROUP_BYTES
                ):
                    leaf = self._leaf(number, name)
                    total, longest = sum(map(_repeated, leaf)), max(map(_longest, leaf), default=0)
                    if total > budgets.PARQUET_GROUP_BYTES and longest > budgets.REPEATED_BYTES:
                        raise ArasError(
                            f"{self._name}: row group {number} repeats a text of {longest:,} bytes "
                            f"in column {name} until it unpacks to {total:,} bytes, at most "
                            f"{budgets.PARQUET_GROUP_BYTES:,} are read"
                        )
        batches = super().iter_batches(rows, columns=columns)
        while True:
            with _decoding(self._name):
                batch = next(batches, None)
            if batch is None:
                return
            yield batch

    def _leaf(self, group: int, name: str) -> list[pa.Array]:
        """A leaf column of texts, its dictionary kept."""
        with (
            _decoding(self._name),
            pq.ParquetFile(
                self._source(), metadata=self.metadata, read_dictionary=[name], pre_buffer=False
            ) as file,
        ):
            array = file.read_row_group(group, columns=[name]).column(0).combine_chunks()
        return array.chunks if isinstance(array, pa.ChunkedArray) else [array]

    def _unpacked(self, group: int, column: pq.ColumnChunkMetaData, length: int) -> int:
        """Bytes of a column of a row group in memory."""
        size, values, kind = column.total_uncompressed_size, column.num_values, column.physical_type
        name = column.path_in_schema
        if kind != "BYTE_ARRAY":
            return int(values * (_WIDTHS.get(kind) or length))
        if unknown := set(column.encodings) - _ENCODINGS:
            raise ArasError(
                f"{self._name}: row group {group}: column {name} is encoded as {min(unknown)}; "
                "write it again with dictionaries or as plain values"
            )
        if not column.has_dictionary_page or size > budgets.PARQUET_GROUP_BYTES:
            return int(size)
        if (bound := size * values) <= budgets.PARQUET_GROUP_BYTES >> 6:
            return int(bound)
        return sum(_repeated(chunk) for chunk in self._leaf(group, name))


def _flat(values: pa.Array) -> pa.Array:
    while pa.types.is_nested(values.type):
        values = values.field(0) if pa.types.is_struct(values.type) else values.flatten()
    return values


def _longest(values: pa.Array) -> int:
    """Bytes of the longest value of a leaf column whose dictionary is kept."""
    values = _flat(values)
    values = values.dictionary if pa.types.is_dictionary(values.type) else values
    return int(pc.max(pc.binary_length(values)).as_py() or 0)


def _repeated(values: pa.Array) -> int:
    """Bytes of the values of a leaf column whose dictionary is kept."""
    values = _flat(values)
    if not pa.types.is_dictionary(values.type):
        return int(values.nbytes)
    lengths = pc.binary_length(values.dictionary).cast(pa.int64())
    return int(pc.sum(lengths.take(values.indices)).as_py() or 0) + 4 * len(values)


@contextmanager
def _decoding(name: str) -> Iterator[None]:
    """Turn what pyarrow says of a file into `Undecodable`."""
    try:
        yield
    except FileNotFoundError:
        raise
    except (pa.ArrowException, OSError) as error:
        blame_memory(error)
        why = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise Undecodable(
            f"{name}: pyarrow {pa.__version__} cannot decode it ({why}); "
            "fetch the file again, or read it with another version of pyarrow"
        ) from error
