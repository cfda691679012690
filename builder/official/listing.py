"""Filling the index of an import: list every entry, drop copies, join parts to rows, cut shards."""

import hashlib
import json
import sqlite3
from collections import Counter
from collections.abc import Sequence
from typing import Any

from builder.errors import ArasError
from builder.official import captions as tables
from builder.official import sources as found
from builder.official.names import GROUPS, Refused
from builder.official.sources import Entry, Odd, Source
from builder.progress import bar

MOST_NAMED = 3
"""Odd entries that an error names."""

SCHEMA = """
PRAGMA journal_mode = OFF;
PRAGMA synchronous = OFF;
CREATE TABLE fact(name TEXT PRIMARY KEY, value TEXT);
CREATE TABLE source(number INTEGER PRIMARY KEY, path TEXT, kind TEXT);
CREATE TABLE picture(id INTEGER PRIMARY KEY, role TEXT, grp TEXT, name TEXT, source INTEGER,
    path TEXT, stamp TEXT, offset INTEGER, packed INTEGER, size INTEGER, crc INTEGER,
    method INTEGER);
CREATE TABLE caption(id INTEGER PRIMARY KEY, grp TEXT, name TEXT, path TEXT, percent TEXT,
    texts TEXT);
CREATE TABLE percentage(grp TEXT, name TEXT, percent TEXT, PRIMARY KEY(grp, name));
CREATE TABLE reject(file TEXT, row TEXT, reason TEXT);
CREATE TABLE line(place INTEGER PRIMARY KEY, shard TEXT, grp TEXT, name TEXT, image INTEGER,
    mask INTEGER, caption INTEGER);
CREATE TABLE shard(name TEXT PRIMARY KEY, rows INTEGER, digest TEXT);
CREATE INDEX line_shard ON line(shard);
CREATE TEMP TABLE refused(grp TEXT, name TEXT, reason TEXT, PRIMARY KEY(grp, name));
"""

_KEYS = """
CREATE INDEX picture_key ON picture(role, grp, name);
CREATE INDEX caption_key ON caption(grp, name);
"""

_CANDIDATES = """
CREATE TEMP TABLE candidate(grp TEXT, name TEXT, PRIMARY KEY(grp, name)) WITHOUT ROWID;
INSERT OR IGNORE INTO candidate SELECT grp, name FROM picture;
INSERT OR IGNORE INTO candidate SELECT grp, name FROM caption;
INSERT OR IGNORE INTO candidate SELECT grp, name FROM refused;
"""

_JOIN = """
SELECT c.name, i.id, m.id, t.id, r.reason, i.stamp, m.stamp, t.texts,
    coalesce(t.percent, p.percent)
FROM candidate AS c
LEFT JOIN picture AS i ON i.role = 'image' AND i.grp = c.grp AND i.name = c.name
LEFT JOIN picture AS m ON m.role = 'mask' AND m.grp = :masks AND m.name = c.name
LEFT JOIN caption AS t ON t.grp = c.grp AND t.name = c.name
LEFT JOIN percentage AS p ON p.grp = c.grp AND p.name = c.name
LEFT JOIN refused AS r ON r.grp = c.grp AND r.name = c.name
WHERE c.grp = :grp ORDER BY c.name
"""


class Listing:
    """Fills an empty index: list, drop copies, join, cut into shards."""

    def __init__(
        self,
        base: sqlite3.Connection,
        sources: Sequence[Source],
        captions: bool,
        shard_rows: int,
    ) -> None:
        self.base, self.sources = base, sources
        self.captions, self.shard_rows = captions, shard_rows
        names = ("candidates", "surplus", "whole", "not_whole", "captions_elsewhere")
        self.counts: Counter[str] = Counter(dict.fromkeys(names, 0))

    def run(self) -> dict[str, int]:
        """Returns ``candidates`` (names in any part), ``surplus`` (entries that are no row),
        ``whole`` rows, ``not_whole`` ones and ``captions_elsewhere`` (of splits not given)."""
        with bar("index", None, "entries") as advance:
            self._read_tables(self._list(advance), advance)
            self._expect_rows()
            self.base.executescript(_KEYS)
            self._copies("picture", "iif(crc IS NULL, source || ' ' || path, stamp)")
            self._copies("caption", "coalesce(percent, '') || texts")
            self.base.executescript(_CANDIDATES)
            (self.counts["candidates"],) = self._one("SELECT count(*) FROM candidate")
            for group in GROUPS:
                self._join(group, advance)
        return dict(self.counts)

    def _list(self, advance: Any) -> list[tuple[Source, Entry]]:
        """Enter all pictures; returns the tables, each content once."""
        waiting: dict[str, tuple[Source, Entry]] = {}
        for number, source in enumerate(self.sources):
            row = (number, str(source.path), source.kind)
            self.base.execute("INSERT INTO source VALUES (?, ?, ?)", row)
            for entry in found.entries(source):
                advance(1, source.path.name)
                if isinstance(entry, Odd):
                    self._surplus(source.path.name, entry.path, entry.reason)
                elif entry.role in ("image", "mask", "generated"):
                    self._picture(number, entry)
                else:
                    content = entry.stamp if entry.member else f"{source.path}/{entry.path}"
                    if content in waiting:
                        reason = f"repeats a table: {_file(*waiting[content])}"
                        self._surplus(source.path.name, entry.path, reason)
                    waiting.setdefault(content, (source, entry))
        return list(waiting.values())

    def _picture(self, number: int, entry: Entry) -> None:
        one, generated = entry.member, entry.role == "generated"
        where = (one.offset, one.packed, one.size, one.crc, one.method) if one else (None,) * 5
        role, group = ("image", "generated") if generated else (entry.role, entry.group)
        self.base.execute(
            f"INSERT INTO picture VALUES (NULL{', ?' * 11})",
            (role, group, entry.name, number, entry.path, entry.stamp, *where),
        )

    def _read_tables(self, waiting: Sequence[tuple[Source, Entry]], advance: Any) -> None:
        for source, entry in waiting:
            if entry.role == "captions" and not self.captions:
                continue
            file = _file(source, entry)
            try:
                with found.open_table(source, entry) as stream:
                    for record in tables.records(stream, file, entry.group):
                        advance(1, file)
                        self._record(entry.role, file, record)
            except (Refused, OSError) as error:
                raise ArasError(f"{file}: {error}; fetch {source.path.name} again") from error

    def _record(self, role: str, file: str, record: tables.Record | tables.Bad) -> None:
        if isinstance(record, tables.Bad):
            self._surplus(file, f"line {record.line} ({record.row})", record.reason)
            return
        percent = None if record.percent is None else json.dumps(record.percent)
        if role == "percentages":
            values = (record.group, record.name, percent)
            self.base.execute("INSERT OR IGNORE INTO percentage VALUES (?, ?, ?)", values)
            return
        texts = json.dumps(record.texts, ensure_ascii=False)
        self.base.execute(
            "INSERT INTO caption VALUES (NULL, ?, ?, ?, ?, ?)",
            (record.group, record.name, f"{file} line {record.line}", percent, texts),
        )

    def _expect_rows(self) -> None:
        """Set aside captions of splits without pictures. Raises ArasError when nothing is left."""
        where = ", ".join(str(one.path) for one in self.sources)
        if not self._one("SELECT count(*) FROM picture")[0]:
            odd = self.base.execute("SELECT row, reason FROM reject LIMIT ?", (MOST_NAMED,))
            seen = "; ".join(f"{row}: {reason}" for row, reason in odd) or "nothing at all"
            raise ArasError(f"{where}: no {{train,val,test,synth}}/images/NAME.png there ({seen})")
        if self.captions and not self._one("SELECT count(*) FROM caption")[0]:
            raise ArasError(
                f"{where}: no captions.csv inside, beside or above; name it as a source, or set "
                "captions = false in [import] to do without"
            )
        done = self.base.execute(
            "DELETE FROM caption WHERE grp NOT IN (SELECT DISTINCT grp FROM picture)"
        )
        self.counts["captions_elsewhere"] = done.rowcount

    def _copies(self, table: str, content: str) -> None:
        """Keep the first of equal copies; a row whose copies differ is refused."""
        role = "role" if table == "picture" else "'caption'"
        self.base.executescript(
            f"DROP TABLE IF EXISTS temp.copies; CREATE TEMP TABLE copies AS "
            f"SELECT {role} AS role, grp, name, count(DISTINCT {content}) AS contents "
            f"FROM {table} GROUP BY 1, 2, 3 HAVING count(*) > 1"
        )
        for role, group, name, contents in self.base.execute("SELECT * FROM temp.copies"):
            which = (
                "role = ? AND grp = ? AND name = ?"
                if table == "picture"
                else "grp = ? AND name = ?"
            )
            key = (role, group, name) if table == "picture" else (group, name)
            query = f"SELECT id, path FROM {table} WHERE {which} ORDER BY id"
            (_, first), *others = self.base.execute(query, key).fetchall()
            for number, path in others:
                self.base.execute(f"DELETE FROM {table} WHERE id = ?", (number,))
                what = "repeats a" if contents == 1 else "differs from another"
                self._surplus(path, f"{group}/{name}", f"{what} {role}: {first}")
            if contents > 1:
                reason = f"{role}s that differ: {len(others) + 1} of one name"
                values = (group, name, reason)
                self.base.execute("INSERT OR IGNORE INTO refused VALUES (?, ?, ?)", values)

    def _join(self, group: str, advance: Any) -> None:
        """Enter the whole rows of a group, cut into shards; reject the others with the reason."""
        masks = "train" if group == "generated" else group
        captions = self.captions and group != "generated"
        cells = self.base.execute(_JOIN, {"grp": group, "masks": masks})
        digest, rows, number = hashlib.sha256(), 0, 0
        for name, image, mask, caption, refused, *content in cells:
            parts = {"image": image, "mask": mask, "caption": caption if captions else 0}
            missing = [f"no {part}" for part, one in parts.items() if one is None]
            if refused or missing:
                self.counts["not_whole"] += 1
                self._reject("", f"{group}/{name}", refused or ", ".join(missing))
                continue
            advance(1, group)
            shard = f"{GROUPS[group][0]}-{group}-{number:05d}"
            values = (shard, group, name, image, mask, caption)
            self.base.execute("INSERT INTO line VALUES (NULL, ?, ?, ?, ?, ?, ?)", values)
            digest.update(json.dumps([name, *content]).encode())
            rows += 1
            if rows == self.shard_rows:
                self._shard(shard, rows, digest.hexdigest())
                digest, rows, number = hashlib.sha256(), 0, number + 1
        if rows:
            self._shard(f"{GROUPS[group][0]}-{group}-{number:05d}", rows, digest.hexdigest())

    def _shard(self, name: str, rows: int, digest: str) -> None:
        self.counts["whole"] += rows
        self.base.execute("INSERT INTO shard VALUES (?, ?, ?)", (name, rows, digest))

    def _surplus(self, file: str, row: str, reason: str) -> None:
        """List an entry that is no row."""
        self.counts["surplus"] += 1
        self._reject(file, row, reason)

    def _reject(self, file: str, row: str, reason: str) -> None:
        self.base.execute("INSERT INTO reject VALUES (?, ?, ?)", (file, row, reason))

    def _one(self, query: str) -> Any:
        return self.base.execute(query).fetchone()


def _file(source: Source, entry: Entry) -> str:
    return source.path.name if source.kind == "table" else f"{source.path.name}/{entry.path}"
