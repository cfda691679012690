"""Tables of any kind as rows: CSV in any dialect, JSON Lines, JSON, Parquet, Arrow, tar shards.

A row is a mapping from column names to values, with the words that say where it stands. Files are
read as they are written, packed by gzip or not; what had to be guessed (encoding, delimiter,
quotes) is said in `Table.notes`.
"""

import codecs
import contextlib
import csv
import gzip
import io
import itertools
import json
import re
import tarfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Literal, NamedTuple, cast

from builder.core.errors import ArasError, blame_memory
from builder.core.files import no_such_file
from builder.core.foreign import ForeignParquet

Row = dict[str, Any]
Placed = tuple[str, Row]
"""Where a row stands, in words, and the row."""
Refuse = Callable[[str, str], None]
"""Called with the place of a row that cannot be read, and why; the rows after it are read."""

JSON_LINES = (".jsonl", ".ndjson")
SUFFIXES = (".csv", ".tsv", *JSON_LINES, ".json", ".parquet", ".arrow", ".tar")
LONGEST_FIELD = 1 << 28
"""Characters of a field of a table; an unclosed quote swallows no more than this."""
LARGEST_JSON = 2 << 30
"""Bytes of a JSON file that is one document, which is read whole."""
LARGEST_MEMBER = 1 << 20
"""Bytes of a text in a tar shard."""
_PEEK = 1000
"""Rows by which a dialect is chosen."""


@dataclass
class Table:
    """An open table: its rows, once, and what had to be guessed of it.

    ``column_types`` are Arrow types by name where the file has them. ``repeated_headers`` is known
    once the rows have been read.
    """

    rows: Iterator[Placed]
    notes: list[str] = field(default_factory=list)
    column_types: dict[str, Any] = field(default_factory=dict)
    repeated_headers: int = 0


def open_table(
    path: Path, columns: Sequence[str] | None = None, refuse: Refuse | None = None
) -> Table:
    """Open a file, or a folder of Parquet, Arrow or tar files; ``columns`` are all that is read of
    Parquet and Arrow, None for every one.

    ``refuse`` takes lines of CSV and of JSON Lines that cannot be read. Raises ArasError naming the
    file when its kind is unknown; rows raise it for what is wrong.
    """
    if path.is_dir():
        return _folder(path, columns)
    suffix = suffix_of(path)
    if suffix not in SUFFIXES:
        raise ArasError(
            f"{path}: cannot tell its format from the suffix {path.suffix!r}; "
            f"use one of {', '.join(SUFFIXES)}, packed as .gz or not, or a folder of them"
        )
    if not path.is_file():
        raise no_such_file(path)
    if suffix == ".parquet":
        return _parquet([path], columns)
    if suffix == ".arrow":
        return _arrow([path], columns)
    if suffix == ".tar":
        return Table(_tar_rows([path]))
    if suffix == ".json" and _has_a_row_a_line(path):
        suffix = ".jsonl"
    if suffix == ".json" or (suffix in JSON_LINES and _is_one_document(path)):
        return Table(_document_rows(path))
    if suffix in JSON_LINES:
        encoding = _encoding(path)
        text, notes = _lines(path, encoding), _guessed(encoding)
        return Table(_json_rows(path, text, refuse), notes)
    return _csv(path, suffix, refuse)


def suffix_of(path: Path) -> str:
    """The suffix that says what a file holds, in lower case, past .gz."""
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if suffixes[-1:] == [".gz"]:
        suffixes.pop()
    return suffixes[-1] if suffixes else ""


def _folder(path: Path, columns: Sequence[str] | None) -> Table:
    """All tables of one kind below a folder: a datasets folder, a release's, tar shards."""
    kinds: dict[str, Callable[[Sequence[Path]], Table]] = {
        ".arrow": lambda files: _arrow(files, columns),
        ".parquet": lambda files: _parquet(files, columns),
        ".tar": lambda files: Table(_tar_rows(files)),
    }
    for suffix, read in kinds.items():
        if files := sorted(path.rglob(f"*{suffix}")):
            table = read(files)
            table.notes.append(f"{len(files):,} {suffix} files")
            return table
    raise ArasError(f"{path}: holds no .arrow, .parquet or .tar files")


def _open(path: Path) -> BinaryIO:
    """A file's bytes, unpacked where they are gzip's, whatever its name."""
    file = path.open("rb")
    packed = file.read(2) == b"\x1f\x8b"
    file.seek(0)
    return cast(BinaryIO, gzip.GzipFile(fileobj=file, mode="rb")) if packed else file


def _encoding(path: Path) -> str:
    """UTF-8 or UTF-16 where the bytes are; else Windows-1252, in which most other files are."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    with _unpacking(path), _open(path) as file:
        start = file.read(1 << 20)
        if start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            return "utf-16"
        half = start[:2000]
        if half[1::2].count(0) > len(half) // 3:
            return "utf-16-le"
        if half[::2].count(0) > len(half) // 3:
            return "utf-16-be"
        try:
            while start:
                decoder.decode(start)
                start = file.read(1 << 20)
            decoder.decode(b"", final=True)
        except UnicodeDecodeError:
            return "cp1252"
    return "utf-8-sig"


@contextlib.contextmanager
def _unpacking(path: Path) -> Iterator[None]:
    try:
        yield
    except (EOFError, gzip.BadGzipFile, OSError) as error:
        if isinstance(error, FileNotFoundError):
            raise
        raise ArasError(f"{path}: cannot be read ({error}); copy or download it again") from error


def _guessed(encoding: str) -> list[str]:
    """What to say of an encoding that had to be guessed."""
    return [] if encoding == "utf-8-sig" else [f"read as {encoding.upper()}: it is not UTF-8"]


def _lines(path: Path, encoding: str) -> Iterator[str]:
    """The lines of a text file, ends included."""
    with (
        _unpacking(path),
        _open(path) as file,
        io.TextIOWrapper(file, encoding, newline="") as text,
    ):
        try:
            yield from text
        except UnicodeDecodeError as error:
            raise ArasError(
                f"{path}: byte 0x{error.object[error.start]:02x} is neither UTF-8 nor "
                f"{encoding.upper()}; save the file as UTF-8"
            ) from error


class CsvRow(NamedTuple):
    """A row of a table: the lines that it begins and ends on, counted from 1, and its cells (none
    for a blank line). ``problem`` says why a row cannot be read."""

    first: int
    last: int
    cells: list[str]
    problem: str = ""


class Dialect(NamedTuple):
    """How the fields of a table are parted, and what a quote means in it."""

    delimiter: str = ","
    quoting: Literal[0, 3] = csv.QUOTE_MINIMAL
    escape: str | None = None

    def __str__(self) -> str:
        name = {",": "comma", ";": "semicolon", "\t": "tab", "|": "bar"}[self.delimiter]
        if self.quoting == csv.QUOTE_NONE:
            return f"fields parted by {name}, quotes as they stand"
        return f"fields parted by {name}" + (", quotes escaped by \\" if self.escape else "")


COMMAS = Dialect()


def csv_rows(
    lines: Iterable[str], dialect: Dialect = COMMAS, *, longest_field: int = LONGEST_FIELD
) -> Iterator[CsvRow]:
    """The rows of a CSV table, one after another; a row that cannot be read does not end the table.

    Strict, because a quote that never closes would swallow the rows after it; it swallows at most
    ``longest_field`` characters.
    """
    before = csv.field_size_limit(longest_field)  # global in the csv module
    try:
        reader = csv.reader(
            lines,
            delimiter=dialect.delimiter,
            quoting=dialect.quoting,
            escapechar=dialect.escape,
            doublequote=dialect.escape is None,
            strict=True,
        )
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


_SEP = re.compile(r'\ufeff?"?sep=([,;|\t])"?\s*\Z', re.IGNORECASE)


def _csv(path: Path, suffix: str, refuse: Refuse | None) -> Table:
    encoding = _encoding(path)
    text, notes = _lines(path, encoding), _guessed(encoding)
    named = _SEP.match(next(_lines(path, encoding), ""))
    if named:  # Excel's line before the header
        dialect = Dialect(named[1])
        text = itertools.chain(["\n"], itertools.islice(text, 1, None))
    else:
        dialect = _dialect(path, suffix, encoding)
    if dialect != Dialect("\t" if suffix == ".tsv" else ","):
        notes.append(str(dialect))
    table = Table(iter(()), notes)
    lines = (line.replace("\0", " ") for line in text)
    table.rows = _csv_rows(path, lines, dialect, table, refuse)
    return table


def _dialect(path: Path, suffix: str, encoding: str) -> Dialect:
    """The first dialect in which the first rows have equally many fields, more than one; a quote
    in a tab-separated file that ends no field stands for itself, wherever it is."""
    own = "\t" if suffix == ".tsv" else ","
    escapes = any('\\"' in line for line in itertools.islice(_lines(path, encoding), _PEEK))
    for delimiter in sorted(",;\t|", key=lambda sign: sign != own):
        dialects = [Dialect(delimiter)]
        if escapes:
            dialects.append(Dialect(delimiter, escape="\\"))
        if delimiter == "\t":
            dialects.append(Dialect(delimiter, csv.QUOTE_NONE))
        for dialect in dialects:
            rows = csv_rows(_lines(path, encoding), dialect)
            some = itertools.islice(rows, None if delimiter == "\t" else _PEEK)
            widths = {-1 if row.problem else len(row.cells) for row in some} - {0}
            if len(widths) == 1 and max(widths) > 1:
                return dialect
    return Dialect(own)


def _csv_rows(
    path: Path, lines: Iterable[str], dialect: Dialect, table: Table, refuse: Refuse | None
) -> Iterator[Placed]:
    names: list[str] | None = None
    for row in csv_rows(lines, dialect):
        if row.problem:
            _refused(
                path,
                f"line {row.first}",
                f"the row that begins at line {row.first} is not CSV: {row.problem}; a quote that "
                "opens a field must close it, and quotes inside such a field are doubled",
                refuse,
            )
            continue
        if names is None and row.cells:
            names, is_header = _header(path, row.cells)
            if is_header:
                continue
            table.notes.append("no header line: columns are called 1, 2, …")
        if names is not None and row.cells == names:  # again, as resumed jobs write it
            table.repeated_headers += 1
        elif names is not None and row.cells:
            if len(row.cells) == len(names):
                yield f"line {row.last}", dict(zip(names, row.cells, strict=True))
                continue
            _refused(
                path,
                f"line {row.last}",
                f"line {row.last} ends a row of {len(row.cells)} fields, the header has "
                f"{len(names)}; put captions that hold the delimiter or line breaks in double "
                "quotes",
                refuse,
            )


def _refused(path: Path, place: str, reason: str, refuse: Refuse | None) -> None:
    """Hand a row that cannot be read to ``refuse``, or raise ArasError."""
    if refuse is None:
        raise ArasError(f"{path}: {reason}")
    refuse(place, reason)


def _header(path: Path, cells: list[str]) -> tuple[list[str], bool]:
    """Names of the columns, and whether the first row gave them: a sentence is no name."""
    if any(len(cell.split()) >= (2 if cell.rstrip()[-1:] == "." else 4) for cell in cells):
        return [str(number) for number in range(1, len(cells) + 1)], False
    names = [cell.strip() for cell in cells]
    if twice := [name for name in names if name and names.count(name) > 1]:
        raise ArasError(f"{path}: has several columns called {twice[0]!r}; give each its own name")
    return names, True


def _is_one_document(path: Path) -> bool:
    """Whether a file called JSON Lines is one object over many lines."""
    with _unpacking(path), _open(path) as file:
        first, second = file.readline(1 << 20).strip(), file.readline(1 << 20).strip()
    return first == b"{" or (first == b"[" and second != b"")


def _has_a_row_a_line(path: Path) -> bool:
    """Whether a file called JSON is an object a line, as JSON Lines."""
    with _unpacking(path), _open(path) as file:
        lines = [file.readline(1 << 20).strip() for _ in range(2)]
    return all(line.startswith(b"{") and line.endswith(b"}") for line in lines)


def _json_rows(path: Path, lines: Iterable[str], refuse: Refuse | None) -> Iterator[Placed]:
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        complaint = f"line {number} is not JSON: {{}}; expected one object per line"
        try:
            row = _parsed(path, line, complaint)
            if not isinstance(row, dict):
                kind = type(row).__name__
                raise ArasError(f"{path}: line {number} holds {kind}, not an object")
        except ArasError as error:
            _refused(path, f"line {number}", str(error).removeprefix(f"{path}: "), refuse)
        else:
            yield f"line {number}", row


def _parsed(path: Path, text: str, complaint: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        why = "it is nested too deeply" if isinstance(error, RecursionError) else str(error)
        if "integer string conversion" in str(why):  # Python's advice is for programmers
            why = "it holds a number of too many digits"
        raise ArasError(f"{path}: {complaint.format(why)}") from error


def _document_rows(path: Path) -> Iterator[Placed]:
    """Rows of a JSON document: a list of objects, Karpathy's or COCO's captions, captions by
    image, or columns of a data frame."""
    with _unpacking(path), _open(path) as file:
        data = file.read(LARGEST_JSON + 1)
    if len(data) > LARGEST_JSON:
        raise ArasError(f"{path}: is a JSON document of over {LARGEST_JSON >> 30} GB; use .jsonl")
    try:
        text = data.decode(json.detect_encoding(data))
    except UnicodeDecodeError as error:
        raise ArasError(f"{path}: is not UTF-8 ({error}); save the file as UTF-8") from error
    del data
    document = _parsed(path, text, "is not JSON: {}")
    del text
    rows = _rows_of(document)
    if rows is None:
        raise ArasError(
            f"{path}: is JSON of no known kind; expected a list of objects, Karpathy's images with "
            "sentences, COCO's annotations, or captions by image"
        )
    for number, row in enumerate(rows, 1):
        if not isinstance(row, dict):
            raise ArasError(f"{path}: entry {number} is {type(row).__name__}, not an object")
        yield f"entry {number}", row


def _rows_of(document: Any) -> Iterable[Any] | None:
    if isinstance(document, list):
        return document
    if not isinstance(document, dict):
        return None
    if isinstance(document.get("annotations"), list):
        return _with_file_names(document)
    for name in ("images", "data", "rows", "dataset", "items"):
        if isinstance(document.get(name), list):
            return [row.get("row", row) if name == "rows" else row for row in document[name]]
    values = list(document.values())
    if values and all(isinstance(value, dict) for value in values):
        if len({tuple(value) for value in values}) == 1 and len(values[0]) > len(values):
            keys = list(values[0])  # columns of a data frame
            return [{name: column[key] for name, column in document.items()} for key in keys]
        return [{"image_id": key, **value} for key, value in document.items()]
    if values and all(isinstance(value, str | list) for value in values):
        return [{"image_id": key, "captions": value} for key, value in document.items()]
    return None


def _with_file_names(document: dict[str, Any]) -> Iterator[Any]:
    """COCO's annotations, with the file name of the image that each belongs to."""
    images = document.get("images")
    names = {
        image.get("id"): image.get("file_name")
        for image in (images if isinstance(images, list) else ())
        if isinstance(image, dict)
    }
    for row in document["annotations"]:
        if isinstance(row, dict) and any(names.values()):
            id_ = row.get("image_id")
            row = {**row, "file_name": names.get(id_) or f"image {id_}, which is not listed"}
            del row["image_id"]
        yield row


def _parquet(files: Sequence[Path], columns: Sequence[str] | None) -> Table:
    import pyarrow.parquet as pq

    with _arrow_errors(files[0], "Parquet"):
        schema = pq.read_schema(files[0])
    _check_names(files[0], schema.names)

    def batches(path: Path) -> Iterator[Any]:
        with ForeignParquet(path) as file:
            wanted = (
                None if columns is None else [c for c in columns if c in file.schema_arrow.names]
            )
            yield from file.stream(wanted, 1024)

    rows = _arrow_rows(files, batches, "Parquet")
    return Table(rows, column_types={field.name: field.type for field in schema})


def _arrow(files: Sequence[Path], columns: Sequence[str] | None) -> Table:
    def batches(path: Path) -> Iterator[Any]:
        schema, parts = _ipc(path)
        wanted = [name for name in schema.names if columns is None or name in columns]
        for batch in parts:
            yield batch.select(wanted)

    with _arrow_errors(files[0], "Arrow"):
        schema, _ = _ipc(files[0])
    _check_names(files[0], schema.names)
    rows = _arrow_rows(files, batches, "Arrow")
    return Table(rows, column_types={field.name: field.type for field in schema})


def _ipc(path: Path) -> tuple[Any, Iterator[Any]]:
    """Schema and batches of an Arrow file, written as a stream (as datasets does) or as a file."""
    import pyarrow as pa

    source = pa.memory_map(str(path))
    try:
        stream = pa.ipc.open_stream(source)
        return stream.schema, iter(stream)
    except pa.ArrowInvalid:
        file = pa.ipc.open_file(source)
        return file.schema, map(file.get_batch, range(file.num_record_batches))


@contextlib.contextmanager
def _arrow_errors(path: Path, kind: str) -> Iterator[None]:
    import pyarrow as pa

    try:
        yield
    except (pa.ArrowException, OSError) as error:
        blame_memory(error)
        raise ArasError(f"{path}: cannot be read as {kind}: {error}") from error


def _arrow_rows(
    files: Sequence[Path], batches: Callable[[Path], Iterator[Any]], kind: str
) -> Iterator[Placed]:
    for path in files:
        number = itertools.count(1)
        name = f"{path.name} " if len(files) > 1 else ""
        with _arrow_errors(path, kind):
            for batch in batches(path):
                for row in batch.to_pylist():
                    yield f"{name}row {next(number)}", row


def _check_names(path: Path, names: Sequence[str]) -> None:
    if twice := [name for name in names if list(names).count(name) > 1]:
        raise ArasError(f"{path}: has several columns called {twice[0]!r}; give each its own name")


_TEXTS = (".txt", ".caption", ".text", ".json", ".cls")


def _tar_rows(files: Sequence[Path]) -> Iterator[Placed]:
    """A row per key of WebDataset shards: its texts by suffix, and what its .json holds."""
    for path in files:
        _refuse_cut(path)
        try:
            with tarfile.open(path, "r|*") as archive:
                yield from _samples(path, archive)
        except (tarfile.TarError, EOFError, OSError) as error:
            raise ArasError(f"{path}: cannot be read as tar: {error}") from error


def _refuse_cut(path: Path) -> None:
    """Raise ArasError for a plain tar without the zeros that end it: tarfile reads what is there
    and says nothing. Packed files say themselves that they are cut."""
    with path.open("rb") as file:
        start = file.read(262)
        if start[257:262] != b"ustar" or file.seek(0, io.SEEK_END) < 512:
            return
        file.seek(-512, io.SEEK_END)
        if any(file.read()):
            raise ArasError(
                f"{path}: is cut short (a tar ends in zeros); copy or download it again"
            )


def _samples(path: Path, archive: tarfile.TarFile) -> Iterator[Placed]:
    row: Row = {}
    for member in archive:
        folder, _, name = member.name.rpartition("/")
        stem, _, suffix = name.partition(".")
        key = f"{folder}/{stem}" if folder else stem
        if row and row["__key__"] != key:
            yield f"{path.name}, {row['__key__']}", row
            row = {}
        row.setdefault("__key__", key)
        kind = "." + suffix.rpartition(".")[2].lower()
        if not member.isfile() or kind not in _TEXTS:
            continue
        if member.size > LARGEST_MEMBER:
            raise ArasError(
                f"{path}: {member.name} has {member.size:,} bytes; no caption is so long"
            )
        file = archive.extractfile(member)
        data = file.read() if file else b""
        text = data.decode("utf-8", "replace")
        if kind == ".json":
            value = _parsed(path, text, f"{member.name} is not JSON: {{}}")
            row |= value if isinstance(value, dict) else {"captions": value}
        else:
            row["caption" if kind in (".txt", ".caption", ".text") else suffix] = text
    if row:
        yield f"{path.name}, {row['__key__']}", row
