"""captions.csv and class_percentages as they are found: records with line numbers, or reasons."""

import contextlib
import csv
import io
from collections.abc import Iterator, Sequence
from typing import BinaryIO, NamedTuple

from builder.errors import ArasError
from builder.landcover import CLASSES
from builder.official.names import HEADER, STREAMS, Refused, group_of, stem_of

MOST_FIELD = 1 << 17
"""Characters of one field; an unclosed quote swallows no more than this."""


class Record(NamedTuple):
    """One line: percentages in class order and texts in stream order, None where not given."""

    line: int
    group: str
    name: str
    percent: tuple[int, ...] | None
    texts: tuple[str | None, ...]


class Bad(NamedTuple):
    """A line that is no record; ``row`` is its first cell."""

    line: int
    row: str
    reason: str


def records(source: BinaryIO, where: str, group: str | None = None) -> Iterator[Record | Bad]:
    """Read a table in any column order, with or without BOM, LF or CRLF.

    ``group`` is the split of all lines where the table has no ``split`` column. Raises ArasError
    naming ``where`` when the table has no header line.
    """
    text = io.TextIOWrapper(source, "utf-8-sig", errors="surrogateescape", newline="")
    places: dict[str, int] | None = None
    width, first = 0, 1
    with _limit():
        reader = csv.reader(text, strict=True)
        while True:
            first = reader.line_num + 1
            try:
                cells = next(reader)
            except StopIteration:
                break
            except csv.Error as error:
                yield Bad(first, "", f"not readable as CSV: {error}")
                continue
            if not cells:
                continue
            if "filename" in cells:
                if places is not None:
                    yield Bad(first, "filename", "repeated header line")
                places, width = _header(cells, where, group), len(cells)
                continue
            if places is None:
                raise ArasError(
                    f"{where}: its first line is no header ({', '.join(HEADER[:3])}, … wanted)"
                )
            try:
                if len(cells) != width:
                    raise Refused(f"wrong number of fields: {len(cells)}, {width} wanted")
                yield _record(first, cells, places, group)
            except Refused as error:
                yield Bad(first, _shown(cells[0]), str(error))
    if places is None:
        raise ArasError(f"{where}: is empty; a header line is wanted")


def _header(cells: Sequence[str], where: str, group: str | None) -> dict[str, int]:
    """Column name → position. A repeated header may bring another order, from there on."""
    places = {name.strip(): i for i, name in enumerate(cells)}
    if "split" not in places and group is None:
        raise ArasError(f"{where}: has no column split, and its place does not say which split")
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
            raise Refused(f"unknown split: {named[:40]!r} is none of train, val, test, synth")
    assert group is not None
    percent = None
    if places.keys() >= set(CLASSES):
        percent = tuple(_percent(name, cells[places[name]]) for name in CLASSES)
    texts = tuple(cells[places[name]] if name in places else None for name in STREAMS)
    name = stem_of(cells[places["filename"]].strip())
    return Record(line, group, name, percent, texts)


def _percent(name: str, cell: str) -> int:
    try:
        value = float(cell)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 100 or value != int(value):
        raise Refused(f"no whole percentage: {name} = {cell[:20]!r}")
    return int(value)


def _shown(cell: str) -> str:
    return cell[:80].encode("utf-8", "replace").decode()


@contextlib.contextmanager
def _limit() -> Iterator[None]:
    """The csv module's limit is global: ours while a table is read."""
    before = csv.field_size_limit(MOST_FIELD)
    try:
        yield
    finally:
        csv.field_size_limit(before)
