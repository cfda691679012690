"""Caption tables: any CSV, TSV, JSONL or Parquet file in batches, and the rows of any CSV table.

`builder.official.streams` reads the captions.csv of the published layout by the same rows.
"""

import csv
import functools
import itertools
import json
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from builder.core.errors import ArasError
from builder.land.answers import clean
from builder.land.classes import CLASSES
from builder.land.error_texts import no_caption

OFFICIAL_STREAMS = (
    "hybrid_gemma3-4b",
    "hybrid_qwen3-vl-8b",
    "text_qwen3-4b",
    "vision_gemma3-4b",
    "vision_qwen3-vl-8b",
)
"""Caption columns of the published captions.csv."""

_TEXT_NAMES = ("caption", "captions", "text", "sentence", "sentences", "description")
_ID_NAMES = ("image_id", "filename", "file_name", "id")
"""Where the tile of a caption is named; ``id`` comes last, for it may number the captions."""
_SCORES = "caption_scores"
"""The column beside ``captions`` in a release: scores, no texts."""

Row = dict[str, Any]


@dataclass(frozen=True)
class Columns:
    """What a file holds: its text columns, and where ids, compositions and sources are."""

    texts: tuple[str, ...]
    id: str | None
    composition: tuple[str, ...]  # the seven class columns, or a struct column, or none
    source: str | None

    @property
    def all(self) -> list[str]:
        return [*self.texts, *self.composition, *(c for c in (self.id, self.source) if c)]


def find_columns(path: Path, names: Sequence[str], text: Sequence[str], row: Row) -> Columns:
    """The columns to read: ``text`` if given, else the official streams, else a usual name.

    ``row`` has a value of each column, None where none is known yet: a composition is a struct.
    """
    listed = ", ".join(names)
    for wanted in text:
        if wanted not in names:
            raise ArasError(f"{path}: no column {wanted!r}; its columns are {listed}")
    texts = tuple(text) or tuple(name for name in OFFICIAL_STREAMS if name in names)
    texts = texts or tuple(
        name for name in names if name.startswith("caption_") and name != _SCORES
    )
    texts = texts or tuple(name for name in _TEXT_NAMES if name in names)[:1]
    if not texts:
        raise ArasError(
            f"{path}: none of the columns {listed} is known to hold captions; name it with --text"
        )
    structs = [name for name in ("pixels", "percent") if isinstance(row.get(name), dict)]
    unknown = [name for name in ("pixels", "percent") if name in row and row[name] is None]
    composition = _class_columns(path, names) or (*structs, *unknown)[:1]
    return Columns(
        texts=texts,
        id=next((name for name in _ID_NAMES if name in names), None),
        composition=composition,
        source=next((name for name in ("kind", "split") if name in names), None),
    )


def _class_columns(path: Path, names: Sequence[str]) -> tuple[str, ...]:
    """The columns of the seven classes, whatever their case and hyphens; none where one is at most
    by chance named like a class. Raises ArasError for some without the others, and for two alike.
    """
    spellings: dict[str, list[str]] = {}
    for name in names:
        spellings.setdefault(fold(name), []).append(name)
    columns = {label: spellings[fold(label)] for label in CLASSES if fold(label) in spellings}
    if len(columns) < 2:
        return ()
    if missing := [label for label in CLASSES if label not in columns]:
        there = ", ".join(name for some in columns.values() for name in some)
        raise ArasError(
            f"{path}: has class columns {there}, but not {', '.join(missing)}; give all seven "
            "or none"
        )
    for name, some in columns.items():
        if len(some) > 1 and name not in some:
            raise ArasError(f"{path}: columns {' and '.join(some)} both mean {name}; rename one")
    return tuple(name if name in some else some[0] for name, some in columns.items())


@functools.lru_cache(maxsize=1024)
def fold(name: str) -> str:
    """``Built-up``, ``built_up`` and ``BUILT UP`` as the same."""
    return name.casefold().translate({ord(sign): None for sign in "-_ "})


JSON = (".jsonl", ".ndjson")
SUFFIXES = (".csv", ".tsv", *JSON, ".parquet")
_SYNTHETIC = {"synthetic", "synth", "1"}


@dataclass
class Batch:
    """Rows ``first``, ``first + 1``, … (from 0): texts by stream, (n, 7) shares with NaN where
    there is no composition, and whether each row is synthetic (None: not said)."""

    first: int
    ids: list[str | None]
    texts: dict[str, list[str | None]]
    shares: npt.NDArray[np.float64] | None
    synthetic: list[bool | None]


@dataclass
class Reader:
    """A caption file. ``scale`` ("percent", "fractions" or "pixels") and the counts of failed
    captions, of what was cut by stream and kind, and of repeated header lines are known once the
    rows have been read."""

    path: Path
    text: Sequence[str] = ()
    scale: str | None = None
    failed: int = 0
    cut: Counter[tuple[str, str]] = field(default_factory=Counter)
    repeated_headers: int = 0
    streams: list[str] = field(default_factory=list)
    columns: Columns | None = None

    def batches(self, size: int) -> Iterator[Batch]:
        """Batches of up to ``size`` rows; an ArasError names the row and column that is wrong."""
        self.failed = self.repeated_headers = 0
        self.cut.clear()
        rows = _open(self.path, self)
        number = 0
        seen: Row = {}
        while chunk := list(itertools.islice(rows, size)):
            if self.columns is None or (seen and self.path.suffix in JSON):
                self._find(chunk, seen)
            yield self._batch(number, chunk)
            number += len(chunk)
        if not number:
            raise ArasError(f"{self.path}: holds no rows; expected one caption per row")

    def _find(self, chunk: list[tuple[str, Row]], seen: Row) -> None:
        """Find the columns among the keys of a whole batch, for lines of JSON need not agree.

        ``seen`` is every key so far, with a value where it had one. Raises ArasError for a key of
        a later batch that changes which columns there are.
        """
        new: dict[str, str] = {}
        for place, row in chunk:
            for key, value in row.items():
                if seen.get(key) is None:
                    if value is not None or key not in seen:
                        new.setdefault(key, place)
                    seen[key] = value
        columns = find_columns(self.path, list(seen), self.text, seen)
        if self.columns is not None and columns != self.columns:
            key = next(name for name in new if name in {*columns.all} - {*self.columns.all})
            raise ArasError(
                f"{self.path}: {new[key]} has {key!r}, which no earlier batch has; "
                "give it in the first row too, null where it is unknown, or leave it out"
            )
        self.columns = columns

    def _batch(self, first: int, chunk: list[tuple[str, Row]]) -> Batch:
        columns = self.columns
        assert columns is not None
        texts: dict[str, list[str | None]] = {name: [None] * len(chunk) for name in self.streams}
        for i, (place, row) in enumerate(chunk):
            for column in columns.texts:
                for stream, text in _texts(column, row.get(column), f"{self.path}: {place}"):
                    if stream not in texts:
                        texts[stream] = [None] * len(chunk)
                        self.streams.append(stream)
                    if text is not None:
                        cleaned = clean(text)
                        self.cut.update((stream, what) for what in cleaned.cut)
                        text = cleaned.text
                        if cleaned.unclear or no_caption(text):
                            self.failed += 1
                            text = None
                    texts[stream][i] = text
        shares = None
        if columns.composition:
            shares = np.array([self._shares(place, row) for place, row in chunk])
        return Batch(
            first=first,
            ids=[_id(columns.id, row) for _, row in chunk],
            texts=texts,
            shares=shares,
            synthetic=[_synthetic(columns.source, row) for _, row in chunk],
        )

    def _shares(self, place: str, row: Row) -> list[float]:
        columns = self.columns
        assert columns is not None
        names: tuple[str, ...] = columns.composition
        if len(names) == 1:
            struct = row.get(names[0])
            folded = {fold(k): v for k, v in struct.items()} if isinstance(struct, dict) else {}
            row = {name: folded.get(fold(name)) for name in CLASSES}
            names = CLASSES
        raw = [row.get(name) for name in names]
        blank = [value is None or value == "" or value != value for value in raw]
        if all(blank):
            return [math.nan] * len(CLASSES)
        where = f"{self.path}: {place}"
        if any(blank):
            empty = [name for name, is_blank in zip(names, blank, strict=True) if is_blank]
            raise ArasError(
                f"{where}: no value for {', '.join(empty)}; fill all seven class columns, or none"
            )
        values = [
            _number(value, f"{where}, column {n}") for n, value in zip(names, raw, strict=True)
        ]
        total = sum(values)
        if columns.composition == ("pixels",) and total > 0:
            self.scale = "pixels"
            return [value / total for value in values]
        if self.scale is None:
            self.scale = "fractions" if abs(total - 1) <= 0.02 else "percent"
        unit = 100.0 if self.scale == "percent" else 1.0
        if abs(total - unit) > 0.02 * unit or min(values) < 0:
            raise ArasError(
                f"{where}: the class columns sum to {total:g}, not {unit:g} ({self.scale} of the "
                "tile); correct the row, or leave all seven blank where they are unknown"
            )
        return [value / unit for value in values]


def _open(path: Path, reader: Reader) -> Iterator[tuple[str, Row]]:
    """(place in words, row) of a file by its suffix."""
    if path.suffix not in SUFFIXES:
        raise ArasError(
            f"{path}: cannot tell its format from the suffix {path.suffix!r}; "
            f"use one of {', '.join(SUFFIXES)}"
        )
    if not path.is_file():
        raise ArasError(f"{path}: no such file; check the path")
    if path.suffix == ".parquet":
        return _parquet_rows(path, reader)
    if path.suffix in JSON:
        return _json_rows(path)
    return _csv_rows(path, "\t" if path.suffix == ".tsv" else ",", reader)


def _lines(path: Path) -> Iterator[str]:
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if number == 1:
                line = line.removeprefix(b"\xef\xbb\xbf")
            try:
                yield line.decode("utf-8")
            except UnicodeDecodeError as error:
                raise ArasError(
                    f"{path}: line {number}, byte {error.start + 1} is not UTF-8 "
                    f"(0x{line[error.start]:02x}); save the file as UTF-8"
                ) from error


LONGEST_FIELD = 1 << 28


class CsvRow(NamedTuple):
    """A row of a table: the lines that it begins and ends on, counted from 1, and its cells (none
    for a blank line). ``problem`` says why a row cannot be read."""

    first: int
    last: int
    cells: list[str]
    problem: str = ""


def csv_rows(
    lines: Iterable[str], *, delimiter: str = ",", longest_field: int = LONGEST_FIELD
) -> Iterator[CsvRow]:
    """The rows of a CSV table, one after another; a row that cannot be read does not end the table.

    Strict, because a quote that never closes would swallow the rows after it; it swallows at most
    ``longest_field`` characters.
    """
    before = csv.field_size_limit(longest_field)  # global in the csv module
    try:
        reader = csv.reader(lines, delimiter=delimiter, strict=True)
        while True:
            first = reader.line_num + 1
            try:
                cells = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                yield CsvRow(first, reader.line_num, [], str(error))
            else:
                yield CsvRow(first, reader.line_num, cells)
    finally:
        csv.field_size_limit(before)


def _csv_rows(path: Path, delimiter: str, reader: Reader) -> Iterator[tuple[str, Row]]:
    text = (line.replace("\0", " ") for line in _lines(path))
    names: list[str] | None = None
    for row in csv_rows(text, delimiter=delimiter):
        if row.problem:
            raise ArasError(
                f"{path}: the row that begins at line {row.first} is not CSV: {row.problem}; a "
                "quote that opens a field must close it, and quotes inside such a field are doubled"
            )
        if names is None:
            names = row.cells
        elif row.cells == names and names:  # a second header, as resumed jobs write it
            reader.repeated_headers += 1
        elif row.cells:
            if len(row.cells) != len(names):
                raise ArasError(
                    f"{path}: line {row.last} ends a row of {len(row.cells)} fields, the header "
                    f"has {len(names)}; put captions that hold the delimiter or line breaks in "
                    "double quotes"
                )
            yield f"line {row.last}", dict(zip(names, row.cells, strict=True))


def _json_rows(path: Path) -> Iterator[tuple[str, Row]]:
    for number, line in enumerate(_lines(path), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise ArasError(
                f"{path}: line {number} is not JSON: {error}; expected one object per line"
            ) from error
        if not isinstance(row, dict):
            raise ArasError(f"{path}: line {number} holds {type(row).__name__}, not an object")
        yield f"line {number}", row


def _parquet_rows(path: Path, reader: Reader) -> Iterator[tuple[str, Row]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            names = file.schema_arrow.names
            row: Row = {
                field.name: {} if pa.types.is_struct(field.type) else ""
                for field in file.schema_arrow
            }
            reader.columns = reader.columns or find_columns(path, names, reader.text, row)
            number = itertools.count(1)
            for batch in file.iter_batches(batch_size=4096, columns=reader.columns.all):
                for record in batch.to_pylist():
                    yield f"row {next(number)}", record
    except (pa.ArrowException, OSError) as error:
        raise ArasError(f"{path}: cannot be read as Parquet: {error}") from error


def _texts(column: str, value: Any, where: str) -> Iterator[tuple[str, str | None]]:
    """(stream, text) of a cell: a string, {text}, or a list of {stream, text} or of strings."""
    if isinstance(value, list):
        for i, item in enumerate(value):
            name = item.get("stream") if isinstance(item, dict) else None
            yield from _texts(name or f"{column}[{i}]", item, where)
    elif isinstance(value, dict):
        yield from _texts(column, value.get("text"), where)
    elif value is None:
        yield column, None
    elif isinstance(value, str):
        if not value.isascii():
            try:
                value.encode()
            except UnicodeEncodeError as error:
                raise ArasError(
                    f"{where}, column {column}: character {error.start + 1} is half of a surrogate "
                    "pair; write the text as valid Unicode"
                ) from error
        value = value.replace("\0", " ")  # as in a CSV file
        yield column, value if value.strip(" \t\r\n") else None
    else:
        raise ArasError(
            f"{where}, column {column}: {value!r} is not a text; "
            "name the caption column with --text"
        )


def _id(column: str | None, row: Row) -> str | None:
    value = row.get(column) if column else None
    return None if value is None else str(value)


def _number(value: Any, where: str) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        raise ArasError(f"{where}: {value!r} is not a number")
    return number


def _synthetic(column: str | None, row: Row) -> bool | None:
    value = row.get(column) if column else None
    return None if value is None else str(value).lower() in _SYNTHETIC
