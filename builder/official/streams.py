"""Caption tables of the layout: which stream a column holds, who wrote it, and its records."""

import io
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import pyarrow as pa

from builder.core import budgets
from builder.core.errors import ArasError
from builder.core.files import read_json, write_json
from builder.land.answers import clean, unclear
from builder.land.classes import CLASSES
from builder.land.columns import CAPTION, STREAM_PREFIX
from builder.land.table_files import SUFFIXES, csv_rows, suffix_of
from builder.official.names import ERROR, HEADER, OFFICIAL_MD5, STREAMS, Refused, group_of, stem_of
from builder.official.sources import SIDECAR, archives, expected_md5

FORMAT = "aras streams 1"
NOT_GIVEN = "captions.csv has no column of this stream"
NO_CAPTIONS = "tiles of train/generated are published without captions"
EMPTY = "empty in captions.csv"
NO_MORE = "the image has no caption of this stream in the sources"

Texts = Mapping[str, str] | None
"""Text by name of its column, or no captions at all."""


class Column(NamedTuple):
    """A column of captions.csv, the stream that its texts are, and their provenance if known."""

    name: str
    stream: str
    model: str | None = None
    revision: str | None = None
    prompt_sha256: str | None = None


UNKNOWN = tuple(Column(name, name) for name in STREAMS)
"""The columns of any other captions.csv: their models are not known."""
PUBLISHED = tuple(Column(name, name, model) for name, model in STREAMS.items())
"""The columns of the official record, which names the models but no revision, prompt or seed."""


def layout_columns(sources: Sequence[Path], md5: Mapping[str, str]) -> tuple[Column, ...]:
    """The columns of captions.csv to import from ``sources``, of which nothing else is read.

    What a `SIDECAR` in or beside them says, else `PUBLISHED` for the official zips, by their md5,
    else `UNKNOWN`. Raises ArasError for an unreadable sidecar, and for two that differ.
    """
    places = dict.fromkeys(
        place / SIDECAR
        for path in sources
        for place in ([path, path.parent] if path.is_dir() else [path.parent])
    )
    sidecars = {path: _read(path) for path in places if path.is_file()}
    if len(set(sidecars.values())) > 1:
        raise ArasError(
            f"{' and '.join(map(str, sidecars))} differ: keep only the file of this captions.csv"
        )
    if sidecars:
        return next(iter(sidecars.values()))
    zips = [archives(path) for path in sources if path.is_dir() or suffix_of(path) not in SUFFIXES]
    sums = [expected_md5(archive, md5) for archives_ in zips for archive in archives_]
    official = all(sum_ and sum_[0] in OFFICIAL_MD5.values() for sum_ in sums)
    return PUBLISHED if zips and all(zips) and official else UNKNOWN


def _read(path: Path) -> tuple[Column, ...]:
    try:
        sidecar = read_json(path, budgets.JSON_BYTES)
        if sidecar["format"] != FORMAT or not sidecar["columns"].keys() <= STREAMS.keys():
            raise ValueError("another format")
        columns = [
            Column(name, **values)
            for name, values in sidecar["columns"].items()
            if values is not None
        ]
        if len({column.stream for column in columns}) < len(columns):
            raise ValueError("two columns have the same stream")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ArasError(
            f"{path}: does not say which streams captions.csv holds ({error}); `aras export` "
            "writes this file, and without it the columns keep their names and have no model"
        ) from error
    return tuple(columns)


def write_sidecar(folder: Path, columns: Mapping[str, Column | None]) -> None:
    """Write which stream fills each official column; None for a column without a stream."""
    written = {
        name: None if column is None else {k: v for k, v in column._asdict().items() if k != "name"}
        for name, column in columns.items()
    }
    write_json(folder / SIDECAR, {"format": FORMAT, "columns": written})


def caption_columns(cells_of: Mapping[Column, Sequence["Cell"]]) -> dict[str, pa.Array]:
    """One column of the store per stream. The layout has no seeds: they are null."""
    streams: dict[str, pa.Array] = {}
    for column, cells in cells_of.items():
        values: dict[str, Any] = {
            "text": [cell.text for cell in cells],
            "error": [cell.error for cell in cells],
            **{name: [getattr(column, name)] * len(cells) for name in Column._fields[2:]},
        }
        arrays = [
            pa.array(values.get(field.name, [None] * len(cells)), field.type) for field in CAPTION
        ]
        streams[STREAM_PREFIX + column.stream] = pa.StructArray.from_arrays(
            arrays, fields=[*CAPTION]
        )
    return streams


class Cell(NamedTuple):
    """A published caption: either its text or its error, and what was cut from around the text."""

    text: str | None
    error: str | None
    cut: tuple[str, ...] = ()


def cell(texts: Texts, column: Column) -> Cell:
    """The caption of a row in a column; a text without marks of a model's answer is unchanged."""
    if texts is None:
        return Cell(None, NO_CAPTIONS)
    text = texts.get(column.name)
    if text is None:
        return Cell(None, NOT_GIVEN if column.name in STREAMS else NO_MORE)
    if text.startswith(ERROR):
        return Cell(None, text)
    cleaned = clean(text)
    if cleaned.unclear:
        return Cell(None, unclear(cleaned))
    if not cleaned.text.strip():
        return Cell(None, EMPTY, cleaned.cut)
    return Cell(cleaned.text, None, cleaned.cut)


MOST_FIELD = 1 << 17
"""Characters of a field; an unclosed quote swallows no more than this."""


class Record(NamedTuple):
    """One line: percentages in class order, None where not given, and texts by column."""

    line: int
    group: str
    name: str
    percent: tuple[int, ...] | None
    texts: dict[str, str]


class UnreadableLine(NamedTuple):
    """A line that is not a record; ``row`` is its first cell."""

    line: int
    row: str
    reason: str


def is_layout(source: BinaryIO) -> bool:
    """Whether a table begins like a captions.csv of the layout: with its header, or with nothing
    that another reader could make out."""
    start = source.read(1 << 16).decode("utf-8-sig", "replace")
    row = next((row for row in csv_rows(io.StringIO(start, newline="")) if row.cells), None)
    names = {name.strip() for name in row.cells} if row else set()
    return not names or ("filename" in names and bool(names & {*STREAMS} or {*CLASSES} <= names))


def records(
    source: BinaryIO, where: str, group: str | None = None
) -> Iterator[Record | UnreadableLine]:
    """Read a table in any column order, with or without BOM, LF or CRLF.

    ``group`` is the split of all lines where the table has no ``split`` column. Raises ArasError
    naming ``where`` when the table has no header line.
    """
    text = io.TextIOWrapper(source, "utf-8-sig", errors="surrogateescape", newline="")
    places: dict[str, int] | None = None
    width = 0
    for row in csv_rows(text, longest_field=MOST_FIELD):
        first, cells = row.first, row.cells
        if row.problem:
            yield UnreadableLine(first, "", f"not readable as CSV: {row.problem}")
        elif "filename" in cells:
            if places is not None:
                yield UnreadableLine(first, "filename", "repeated header line")
            places, width = _header(cells, where, group), len(cells)
        elif cells and places is None:
            raise ArasError(
                f"{where}: the first line is not a header; expected {', '.join(HEADER[:3])}, …"
            )
        elif cells and places is not None:
            try:
                if len(cells) != width:
                    raise Refused(f"wrong number of fields: {len(cells)}, expected {width}")
                yield _record(first, cells, places, group)
            except Refused as error:
                yield UnreadableLine(first, _shown(cells[0]), str(error))
    if places is None:
        raise ArasError(f"{where}: is empty; expected a header line")


def _header(cells: Sequence[str], where: str, group: str | None) -> dict[str, int]:
    """Column name → position. A repeated header may bring another order, from there on."""
    places = {name.strip(): i for i, name in enumerate(cells)}
    if "split" not in places and group is None:
        raise ArasError(f"{where}: has no column split, and no folder above says which split")
    if not places.keys() & {*CLASSES, *STREAMS}:
        raise ArasError(f"{where}: has neither percentages nor captions ({', '.join(cells)})")
    return places


def _record(line: int, cells: Sequence[str], places: dict[str, int], group: str | None) -> Record:
    for cell in cells:
        try:
            cell.encode()
        except UnicodeEncodeError:
            raise Refused("not UTF-8") from None
    if "split" in places:
        named = cells[places["split"]].strip()
        group = group_of(named)
        if group is None:
            raise Refused(f"unknown split: {named[:40]!r}, expected train, val, test or synth")
    assert group is not None
    percent = None
    if places.keys() >= set(CLASSES):
        percent = tuple(_percent(name, cells[places[name]]) for name in CLASSES)
    texts = {name: cells[places[name]] for name in STREAMS if name in places}
    name = stem_of(cells[places["filename"]].strip())
    return Record(line, group, name, percent, texts)


def _percent(name: str, cell: str) -> int:
    try:
        value = float(cell)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 100 or value != int(value):
        raise Refused(f"not a whole percentage: {name} = {cell[:20]!r}")
    return int(value)


def _shown(cell: str) -> str:
    return cell[:80].encode("utf-8", "replace").decode()
