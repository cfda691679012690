"""The index of an import: every row of the sources and where its parts are, in one SQLite file.

Joins, duplicates and order are the database's work, so memory stays small whatever the number of
rows. The file is a cache: it may be deleted, and is remade when a source changes.
"""

import json
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from builder.core.files import atomic, digest_of
from builder.official.listing import SCHEMA, Listing
from builder.official.sources import Source, identity, verify
from builder.official.zips import Member

FORMAT = 3

_PARTS = """
SELECT line.grp, line.name, i.source, i.path, i.offset, i.packed, i.size, i.crc, i.method,
    m.source, m.path, m.offset, m.packed, m.size, m.crc, m.method,
    t.texts, coalesce(t.percent, p.percent)
FROM line JOIN picture AS i ON i.id = line.image JOIN picture AS m ON m.id = line.mask
LEFT JOIN record AS t ON t.id = line.caption
LEFT JOIN record AS p ON p.role = 'percentages' AND p.grp = line.grp AND p.name = line.name
WHERE line.shard = ? ORDER BY line.place
"""


class Part(NamedTuple):
    """Where a picture is: its source's number, its path there and, in a zip, its member."""

    source: int
    path: str
    member: Member | None


class Line(NamedTuple):
    """A whole row. ``texts`` are by column, None where there are no captions."""

    group: str
    name: str
    image: Part
    mask: Part
    texts: dict[str, str] | None
    percent: tuple[int, ...] | None


@dataclass(frozen=True)
class IndexRequest:
    """What to index; an index of another `digest` is stale."""

    sources: tuple[Source, ...]
    md5: Mapping[str, str]
    captions: bool
    shard_rows: int
    text: tuple[str, ...] = ()

    def digest(self) -> str:
        identities = [identity(source) for source in self.sources]
        settings = [dict(self.md5), self.captions, self.shard_rows, self.text]
        return digest_of([FORMAT, identities, *settings])


class Index:
    """An index file, opened for reading. Close it, or use it in a ``with``."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._base = sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro&immutable=1", uri=True)

    def __enter__(self) -> "Index":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._base.close()

    def fact(self, name: str) -> Any:
        rows = self._base.execute("SELECT value FROM fact WHERE name = ?", (name,)).fetchall()
        return json.loads(rows[0][0]) if rows else None

    def sources(self) -> dict[int, Source]:
        rows = self._base.execute("SELECT number, path, kind FROM source")
        return {number: Source(Path(path), kind) for number, path, kind in rows}

    def shards(self) -> list[tuple[str, int, str]]:
        """(name, rows, digest of their contents) in the order of rows."""
        return self._base.execute("SELECT name, rows, digest FROM shard ORDER BY rowid").fetchall()

    def rejects(self) -> Iterator[tuple[str, str, str]]:
        """(file, row, reason) of every row that was not whole when the sources were listed."""
        yield from self._base.execute("SELECT file, row, reason FROM reject ORDER BY rowid")

    def set_aside(self) -> Iterator[tuple[str, str, str]]:
        """(file, row, reason) of the entries outside all rows: copies, strays, unreadable lines."""
        yield from self._base.execute("SELECT file, row, reason FROM entry ORDER BY rowid")

    def lines(self, shard: str) -> list[Line]:
        return [
            Line(
                group,
                name,
                _part(*rest[:7]),
                _part(*rest[7:14]),
                None if rest[14] is None else json.loads(rest[14]),
                None if rest[15] is None else tuple(json.loads(rest[15])),
            )
            for group, name, *rest in self._base.execute(_PARTS, (shard,))
        ]


def _part(source: int, path: str, offset: int | None, *rest: Any) -> Part:
    if offset is None:
        return Part(source, path, None)
    return Part(source, path, Member(path, offset, *rest))


def ensure(path: Path, request: IndexRequest) -> Index:
    """The index at ``path``, remade when the sources have changed since.

    Raises ArasError for sources that cannot be read or hold no rows, and when captions are asked
    for and missing; CorruptFile for a zip whose md5 differs.
    """
    digest, earlier = request.digest(), _open(path)
    if earlier and earlier.fact("digest") == digest:
        return earlier
    sums = verify(request.sources, request.md5, earlier.fact("md5") if earlier else {})
    with atomic(path) as temporary, closing(sqlite3.connect(temporary)) as base:
        base.executescript(SCHEMA)
        listing = Listing(base, request.sources, request.captions, request.shard_rows, request.text)
        counts = listing.run()
        files = [file.as_json() for file in listing.files]
        facts = {"counts": counts, "files": files, "md5": sums, "digest": digest}
        for name, value in facts.items():
            base.execute("INSERT INTO fact VALUES (?, ?)", (name, json.dumps(value)))
        base.commit()
    return Index(path)


def _open(path: Path) -> Index | None:
    """The index at ``path``; None when it is missing or damaged and must be built."""
    try:
        index = Index(path)
        return index if index.fact("digest") else None
    except sqlite3.DatabaseError:
        return None
