"""Captions of an import that are not of the published layout: any file of captions, by picture.

A row names its picture by file name or id, and its split where names repeat. The captions of an
image become streams: of one column and n captions an image ``column_1`` … ``column_n``.
"""

import itertools
import json
import re
import sqlite3
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from operator import itemgetter
from pathlib import Path
from typing import Any

from builder.core.errors import ArasError
from builder.core.files import digest_of, read_json, write_json
from builder.core.manifest import CaptionFile
from builder.land.caption_tables import ImageReader
from builder.land.table_files import Refuse
from builder.official.names import STREAMS, group_of
from builder.official.sources import CAPTIONS, Source, find_sources, identity
from builder.official.streams import Column, is_layout, layout_columns

MOST_CAPTIONS = 64
"""Captions of an image in a column; each place is a stream of its own."""
EXAMPLES = 3
"""Captions that a report shows of a file."""

_SCHEMA = """
CREATE TEMP TABLE caption(id INTEGER PRIMARY KEY, file TEXT, place TEXT, split TEXT, name TEXT,
    n INTEGER, texts TEXT, grp TEXT);
"""
_PLACES = """
CREATE INDEX temp.caption_name ON caption(name);
CREATE TEMP TABLE match AS SELECT DISTINCT c.id AS id, c.split AS split, g.grp AS grp
    FROM caption AS c
    JOIN (SELECT DISTINCT grp FROM picture WHERE role = 'image' AND grp <> 'generated') AS g
    JOIN picture AS p ON p.role = 'image' AND p.grp = g.grp AND p.name = c.name;
CREATE TEMP TABLE place AS SELECT id, count(*) AS n, max(grp = split) AS named, min(grp) AS grp,
    group_concat(grp, ', ') AS every FROM match GROUP BY id;
CREATE INDEX temp.place_id ON place(id);
UPDATE caption SET grp = (SELECT CASE WHEN named THEN caption.split WHEN n = 1 THEN grp ELSE '?' END
    FROM place WHERE place.id = caption.id);
"""
_PICTURE = re.compile(r"\.(png|jpe?g|tiff?|webp|bmp)\Z", re.IGNORECASE)


@dataclass
class Seen:
    """What a file of captions held, image by image."""

    columns: dict[str, None] = field(default_factory=dict)
    images: int = 0
    counts: Counter[int] = field(default_factory=Counter)
    """How many images have so many captions."""
    examples: dict[str, None] = field(default_factory=dict)

    def add(self, texts: Mapping[str, str]) -> None:
        """The captions of an image by column."""
        self.columns.update(dict.fromkeys(texts))
        self.show(texts.values())
        self.count(sum(bool(text.strip()) for text in texts.values()))

    def count(self, captions: int) -> None:
        self.images += 1
        self.counts[captions] += 1

    def show(self, texts: Iterable[str | None]) -> None:
        if len(self.examples) < EXAMPLES:
            some = dict.fromkeys(text for text in texts if text and text.strip())
            self.examples = dict.fromkeys(itertools.islice([*self.examples, *some], EXAMPLES))

    def said_of(self, file: str, notes: Sequence[str] = ()) -> CaptionFile:
        every = sum(captions * images for captions, images in self.counts.items())
        few, many = min(self.counts, default=0), max(self.counts, default=0)
        counts = (self.images, few, many, every)
        return CaptionFile.of(file, [*self.columns], counts, [*self.examples], notes)


def foreign_tables(sources: Sequence[Source]) -> list[Path]:
    """Files and folders of captions among ``sources`` that are not of the layout: those named as
    such, and a captions.csv with other columns; inside a folder where it lies at its top."""
    tables = []
    for source in sources:
        if source.kind == "captions":
            tables.append(source.path)
        elif source.kind == "table":
            tables += [source.path] * (source.path.name == CAPTIONS and not _is_layout(source.path))
        elif source.kind == "folder":
            inside = [*source.path.glob(CAPTIONS), *sorted(source.path.glob(f"*/{CAPTIONS}"))]
            tables += [path for path in inside if not _is_layout(path)]
    return tables


def _is_layout(path: Path) -> bool:
    with path.open("rb") as file:
        return is_layout(file)


def columns_of(
    sources: Sequence[Path], md5: Mapping[str, str], text: Sequence[str], cache: Path
) -> tuple[Column, ...]:
    """The columns of captions to import: those of the layout (`layout_columns`) and those of other
    files, which are read once and remembered in ``cache``.

    Raises ArasError for files of captions that cannot be read.
    """
    layout = layout_columns(sources, md5)
    key = digest_of([[str(path) for path in sources], list(text)])
    try:
        known = read_json(cache)
    except (FileNotFoundError, ValueError):
        known = {}
    entry = known.get(key) if isinstance(known, dict) else None
    try:
        named = find_sources(sources)
        tables = foreign_tables(named)
    except (ArasError, OSError):  # sources that are gone are named when they are read
        return (*(layout if not entry or entry[1] else ()), *_others(entry))
    if not tables:
        return layout
    stamp = [identity(Source(path, "captions")) for path in tables]
    if not entry or entry[0] != stamp:
        others = [path for path in (source.path for source in named) if path not in tables]
        has_layout = any(_may_hold_layout(path) for path in others)
        entry = [stamp, has_layout, _survey(tables, text)]
        write_json(cache, {key: entry})
    return (*(layout if entry[1] else ()), *_others(entry))


def _may_hold_layout(path: Path) -> bool:
    """Whether a source may bring captions of the layout: its own, or those in a zip."""
    if path.name == CAPTIONS:
        return True
    if path.is_dir():
        inside = [*path.glob(CAPTIONS), *path.glob(f"*/{CAPTIONS}")]
        return any(_is_layout(table) for table in inside)
    from builder.official.zips import members

    return path.suffix.lower() == ".zip" and any(
        member.name.rpartition("/")[2] == CAPTIONS for member in members(path)
    )


def _others(entry: Sequence[Any] | None) -> tuple[Column, ...]:
    """The columns of a survey: a stream for each place in a list of captions."""
    columns = []
    for name, width in entry[2].items() if entry else ():
        stream = re.sub(r"[^a-z0-9._-]+", "-", name.lower()).strip("-._") or "caption"
        for number in range(1, width + 1):
            own = stream if width == 1 else f"{stream}_{number}"
            columns.append(Column(_place(name, number), own))
    twice = [stream for stream, n in Counter(c.stream for c in columns).items() if n > 1]
    if twice:
        raise ArasError(
            f"two columns of captions would both be the stream {twice[0]!r}; rename one, or name "
            "the columns to read: text in [import]"
        )
    return tuple(columns)


def _place(column: str, number: int) -> str:
    """Name of the ``number``th caption of a column among the texts of an image."""
    return column if column in STREAMS and number == 1 else f"{column}#{number}"


def _survey(tables: Sequence[Path], text: Sequence[str]) -> dict[str, int]:
    """The most captions that an image has, by column, in the order of the columns."""
    with closing(sqlite3.connect("")) as base:  # a file of its own that SQLite removes
        captions = OtherCaptions(base)
        for path in tables:
            captions.read(path, path.name, text, lambda place, reason: None)
        widths: Counter[str] = Counter()
        for _, name, _, columns in captions.images("ORDER BY name, id"):
            for column, texts in columns.items():
                widths[column] = max(widths[column], len(texts))
                if len(texts) > MOST_CAPTIONS:
                    raise ArasError(
                        f"{', '.join(map(str, tables))}: {name} has {len(texts):,} captions in "
                        f"{column}; at most {MOST_CAPTIONS} become streams"
                    )
    return {column: width for column, width in widths.items() if width}


class OtherCaptions:
    """Captions of other files in an index: read all, find the picture of each row, enter them."""

    def __init__(self, base: sqlite3.Connection) -> None:
        self.base = base
        self.base.executescript(_SCHEMA)

    def read(self, path: Path, file: str, text: Sequence[str], refuse: Refuse) -> CaptionFile:
        """Read a file, called ``file``; returns how it was read.

        ``refuse`` takes the rows that cannot be read. Raises ArasError for a file whose columns
        cannot be told, or none of which names a picture.
        """
        reader, seen = ImageReader(path, text, pictures=False), Seen()
        for row in reader.rows(refuse):
            if reader.columns and reader.columns.id is None:
                raise ArasError(
                    f"{path}: no column names the picture of a caption; call it filename or "
                    "image_id"
                )
            if row.problem or not row.id:
                refuse(row.place, row.problem or "names no picture")
                continue
            seen.show(text for texts in row.columns.values() for text in texts)
            texts = {
                column: [text for text in texts if text is not None]
                for column, texts in row.columns.items()
            }
            self.base.execute(
                "INSERT INTO caption VALUES (NULL, ?, ?, ?, ?, ?, ?, NULL)",
                (
                    file,
                    row.place,
                    group_of((row.split or "").strip().lower()),
                    _PICTURE.sub("", row.id.replace("\\", "/").rpartition("/")[2].strip()),
                    len(row.texts),
                    json.dumps(texts, ensure_ascii=False),
                ),
            )
        seen.columns.update(dict.fromkeys(reader.columns.texts if reader.columns else ()))
        query = "SELECT sum(n) FROM caption WHERE file = ? GROUP BY name"
        for (captions,) in self.base.execute(query, (file,)):
            seen.count(captions)
        return seen.said_of(file, reader.notes)

    def images(self, where: str) -> Iterator[tuple[str, str, str, dict[str, list[str]]]]:
        """(group, name, file, captions by column) of every image, its rows together."""
        query = f"SELECT grp, name, file, texts FROM caption {where}"
        for (group, name), rows in itertools.groupby(self.base.execute(query), itemgetter(0, 1)):
            columns: dict[str, list[str]] = {}
            files = set()
            for *_, file, texts in rows:
                files.add(file)
                for column, some in json.loads(texts).items():
                    columns.setdefault(column, []).extend(some)
            yield group, name, ", ".join(sorted(files)), columns

    def ambiguous(self) -> Iterator[tuple[str, str, str]]:
        """(file, row, reason) of rows whose name several splits have; finds the picture of each."""
        self.base.executescript(_PLACES)
        yield from self.base.execute(
            "SELECT file, caption.place || ' (' || name || ')', "
            "'several splits have this name: ' || every || '; name one in a column split' "
            "FROM caption JOIN place ON place.id = caption.id WHERE caption.grp = '?' "
            "ORDER BY caption.id"
        )

    def unmatched(self) -> int:
        """Rows that name no picture."""
        (n,) = self.base.execute("SELECT count(*) FROM caption WHERE grp IS NULL").fetchone()
        return int(n)

    def enter(self) -> None:
        """Make the captions of each picture a record, beside what captions.csv says of it."""
        matched = "WHERE grp <> '?' ORDER BY grp, name, id"
        for group, name, file, columns in self.images(matched):
            texts = {
                _place(column, number): text
                for column, some in columns.items()
                for number, text in enumerate(some, 1)
            }
            key = "role = 'caption' AND grp = ? AND name = ?"
            own = self.base.execute(
                f"SELECT id, texts FROM record WHERE {key} ORDER BY id", (group, name)
            ).fetchone()
            if own:
                merged = json.dumps({**texts, **json.loads(own[1])}, ensure_ascii=False)
                self.base.execute("UPDATE record SET texts = ? WHERE id = ?", (merged, own[0]))
                continue
            self.base.execute(
                "INSERT INTO record VALUES (NULL, 'caption', ?, ?, ?, 0, NULL, ?)",
                (group, name, file, json.dumps(texts, ensure_ascii=False)),
            )

    def nothing_matches(self, tables: Sequence[Path]) -> str:
        """Why not a caption came in, with a name of either side."""
        names = self.base.execute("SELECT name FROM caption LIMIT 1").fetchone()
        pictures = self.base.execute("SELECT name FROM picture LIMIT 1").fetchone()
        where = ", ".join(map(str, tables))
        if not names:
            return f"{where}: not a row of captions could be read"
        return (
            f"{where}: no caption names a picture of the sources; its names are like "
            f"{names[0]!r}, those of the pictures like {pictures[0]!r}"
        )
