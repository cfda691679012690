"""Filling the index of an import: list every entry, drop copies, join parts to rows, cut shards."""

import functools
import hashlib
import json
import sqlite3
from collections import Counter
from collections.abc import Sequence
from typing import Any

from builder.core.errors import ArasError
from builder.core.manifest import CaptionFile
from builder.core.progress import bar
from builder.official.names import GROUPS, Refused
from builder.official.others import OtherCaptions, Seen, foreign_tables
from builder.official.sources import Entry, Odd, Source, entries, open_table, table_path
from builder.official.streams import Record, UnreadableLine, records

MOST_NAMED = 3
"""Most odd entries that an error names."""

SCHEMA = """
PRAGMA journal_mode = OFF;
PRAGMA synchronous = OFF;
CREATE TABLE fact(name TEXT PRIMARY KEY, value TEXT);
CREATE TABLE source(number INTEGER PRIMARY KEY, path TEXT, kind TEXT, label TEXT);
CREATE TABLE picture(id INTEGER PRIMARY KEY, role TEXT, grp TEXT, name TEXT, source INTEGER,
    path TEXT, stamp TEXT, offset INTEGER, packed INTEGER, size INTEGER, crc INTEGER,
    method INTEGER);
CREATE TABLE record(id INTEGER PRIMARY KEY, role TEXT, grp TEXT, name TEXT, file TEXT, line INTEGER,
    percent TEXT, texts TEXT);
CREATE TABLE reject(file TEXT, row TEXT, reason TEXT);
CREATE TABLE entry(file TEXT, row TEXT, reason TEXT);
CREATE TABLE line(place INTEGER PRIMARY KEY, shard TEXT, grp TEXT, name TEXT, image INTEGER,
    mask INTEGER, caption INTEGER);
CREATE TABLE shard(name TEXT PRIMARY KEY, rows INTEGER, digest TEXT);
CREATE INDEX line_shard ON line(shard);
CREATE TEMP TABLE refused(grp TEXT, name TEXT, file TEXT, reason TEXT, PRIMARY KEY(grp, name));
CREATE TEMP VIEW picture_part AS SELECT id, role, grp, name, label || '/' || picture.path AS file,
    grp || '/' || name AS row, label || '/' || picture.path AS spot,
    iif(crc IS NULL, source || ' ' || picture.path, stamp) AS content
    FROM picture JOIN source ON source.number = picture.source;
CREATE TEMP VIEW record_part AS SELECT id, role, grp, name, file,
    'line ' || line || ' (' || name || '.png)' AS row, file || ' line ' || line AS spot,
    coalesce(percent, '') || coalesce(texts, '') AS content FROM record;
"""

_KEYS = """
CREATE INDEX picture_key ON picture(role, grp, name);
CREATE INDEX record_key ON record(role, grp, name);
"""

_CANDIDATES = """
CREATE TEMP TABLE candidate(grp TEXT, name TEXT, PRIMARY KEY(grp, name)) WITHOUT ROWID;
INSERT OR IGNORE INTO candidate SELECT grp, name FROM picture;
INSERT OR IGNORE INTO candidate SELECT grp, name FROM record;
INSERT OR IGNORE INTO candidate SELECT grp, name FROM refused;
"""

_JOIN = """
SELECT c.name, i.id, m.id, t.id, p.id, r.file, r.reason, i.stamp, m.stamp, t.texts,
    coalesce(t.percent, p.percent)
FROM candidate AS c
LEFT JOIN picture AS i ON i.role = 'image' AND i.grp = c.grp AND i.name = c.name
LEFT JOIN picture AS m ON m.role = 'mask' AND m.grp = :masks AND m.name = c.name
LEFT JOIN record AS t ON t.role = 'caption' AND t.grp = c.grp AND t.name = c.name
LEFT JOIN record AS p ON p.role = 'percentages' AND p.grp = c.grp AND p.name = c.name
LEFT JOIN refused AS r ON r.grp = c.grp AND r.name = c.name
WHERE c.grp = :grp ORDER BY c.name
"""

_CONTRADICTED = """
SELECT p.file, p.row, t.spot FROM record AS own
JOIN record AS other ON other.role = 'caption' AND other.grp = own.grp AND other.name = own.name
JOIN record_part AS p ON p.id = own.id JOIN record_part AS t ON t.id = other.id
WHERE own.role = 'percentages' AND other.percent <> own.percent ORDER BY own.id
"""

_ODD = """
SELECT file, reason FROM entry UNION ALL SELECT file, reason FROM refused LIMIT ?
"""

ARTICLES = {"image": "an image", "mask": "a mask", "caption": "a caption"}
PLURALS = {"image": "images", "mask": "masks", "caption": "captions"}
ELSEWHERE = {"caption": "captions_elsewhere", "percentages": "percentages_elsewhere"}
"""Role of a line → what it counts as where its split has no pictures."""
UNMATCHED = "captions_unmatched"
"""Rows of other files of captions that name no picture."""


class Listing:
    """Fills an empty index: list, drop copies, join, cut into shards."""

    def __init__(
        self,
        base: sqlite3.Connection,
        sources: Sequence[Source],
        captions: bool,
        shard_rows: int,
        text: Sequence[str] = (),
    ) -> None:
        self.base, self.sources = base, sources
        self.captions, self.shard_rows, self.text = captions, shard_rows, text
        self.files: list[CaptionFile] = []
        """How each file of captions was read: `CaptionFile` as JSON."""
        names = ("candidates", "whole", "not_whole", "set_aside", UNMATCHED, *ELSEWHERE.values())
        self.counts: Counter[str] = Counter(dict.fromkeys(names, 0))

    def run(self) -> dict[str, int]:
        """Counts of ``candidates`` (names in any part), of them ``whole`` and ``not_whole``; of
        entries ``set_aside``, outside every row; and of lines of splits that were not given."""
        with bar("index", None, "entries") as advance:
            tables = self._list(advance)
            foreign = foreign_tables(self.sources) if self.captions else []
            others = [
                (source, entry)
                for source, entry in tables
                if entry.member is None and table_path(source, entry) in foreign
            ]
            self._read_tables([table for table in tables if table not in others], advance)
            self._expect_rows(others=bool(others))
            self.base.executescript(_KEYS)
            if others:
                self._read_others(others, advance)
            self._copies("picture")
            self._copies("record")
            for file, row, spot in self.base.execute(_CONTRADICTED):
                self._set_aside(file, row, f"captions.csv has other percentages: {spot} is taken")
            self.base.executescript(_CANDIDATES)
            (self.counts["candidates"],) = self._first("SELECT count(*) FROM candidate")
            for group in GROUPS:
                self._join(group, advance)
        return dict(self.counts)

    def _list(self, advance: Any) -> list[tuple[Source, Entry]]:
        """Enter all pictures; returns the tables, each content once."""
        waiting: dict[str, tuple[Source, Entry]] = {}
        for number, source in enumerate(self.sources):
            row = (number, str(source.path), source.kind, source.path.name)
            self.base.execute("INSERT INTO source VALUES (?, ?, ?, ?)", row)
            for entry in entries(source):
                advance(1, source.path.name)
                if isinstance(entry, Odd):
                    self._odd(source, entry)
                elif entry.is_picture:
                    self._picture(number, entry)
                else:
                    content = entry.stamp if entry.member else f"{source.path}/{entry.path}"
                    if content in waiting:
                        reason = f"repeats a table: {_file(*waiting[content])}"
                        self._set_aside(_file(source, entry), "", reason)
                    waiting.setdefault(content, (source, entry))
        return list(waiting.values())

    def _odd(self, source: Source, odd: Odd) -> None:
        """Refuse the row whose picture the entry would be; set any other entry aside."""
        if odd.entry and odd.entry.is_picture:
            _, group = odd.entry.part
            self._refuse(group, odd.entry.name, _file(source, odd), odd.reason)
        else:
            self._set_aside(_file(source, odd), "", odd.reason)

    def _picture(self, number: int, entry: Entry) -> None:
        member, (role, group) = entry.member, entry.part
        place: tuple[int | None, ...] = (None,) * 5
        if member:
            place = (member.offset, member.packed, member.size, member.crc, member.method)
        self.base.execute(
            f"INSERT INTO picture VALUES (NULL{', ?' * 11})",
            (role, group, entry.name, number, entry.path, entry.stamp, *place),
        )

    def _read_tables(self, waiting: Sequence[tuple[Source, Entry]], advance: Any) -> None:
        for source, entry in waiting:
            if entry.role in ("captions", "others") and not self.captions:
                continue
            file = _file(source, entry)
            seen = Seen()
            try:
                with open_table(source, entry) as stream:
                    for record in records(stream, file, entry.group):
                        advance(1, file)
                        self._record(entry.role, file, record)
                        if entry.role == "captions" and isinstance(record, Record):
                            seen.add(record.texts)
            except (Refused, OSError) as error:
                raise ArasError(f"{file}: {error}; fetch {source.path.name} again") from error
            if entry.role == "captions":
                self.files.append(seen.said_of(file))

    def _read_others(self, tables: Sequence[tuple[Source, Entry]], advance: Any) -> None:
        """Enter the captions of files that are not of the layout, one record for each picture."""
        captions = OtherCaptions(self.base)
        for source, entry in tables:
            file = _file(source, entry)
            refuse = functools.partial(self._set_aside_line, file)
            self.files.append(captions.read(table_path(source, entry), file, self.text, refuse))
            advance(1, file)
        for odd in captions.ambiguous():
            self._set_aside(*odd)
        self.counts[UNMATCHED] += captions.unmatched()
        captions.enter()
        if not self._first("SELECT count(*) FROM record WHERE role = 'caption'")[0]:
            raise ArasError(captions.nothing_matches([table_path(*table) for table in tables]))

    def _set_aside_line(self, file: str, place: str, reason: str) -> None:
        self._set_aside(file, place, reason)

    def _record(self, role: str, file: str, record: Record | UnreadableLine) -> None:
        if isinstance(record, UnreadableLine):
            self._set_aside(file, f"line {record.line} ({record.row})", record.reason)
            return
        percent = None if record.percent is None else json.dumps(record.percent)
        texts = None
        if role == "captions":
            role, texts = "caption", json.dumps(record.texts, ensure_ascii=False)
        self.base.execute(
            "INSERT INTO record VALUES (NULL, ?, ?, ?, ?, ?, ?, ?)",
            (role, record.group, record.name, file, record.line, percent, texts),
        )

    def _expect_rows(self, others: bool) -> None:
        """Drop lines of splits without pictures. Raises ArasError when nothing is left."""
        where = ", ".join(str(source.path) for source in self.sources)
        if not self._first("SELECT count(*) FROM picture")[0]:
            odd = self.base.execute(_ODD, (MOST_NAMED,))
            seen = "; ".join(f"{file}: {reason}" for file, reason in odd) or "nothing at all"
            raise ArasError(f"{where}: no {{train,val,test,synth}}/images/NAME.png inside ({seen})")
        if (
            self.captions
            and not others
            and not self._first("SELECT count(*) FROM record WHERE role = 'caption'")[0]
        ):
            raise ArasError(
                f"{where}: no captions.csv inside, beside or above; name it, or another file of "
                "captions, as a source, or set captions = false in [import] to import without"
            )
        for role, count in ELSEWHERE.items():
            done = self.base.execute(
                "DELETE FROM record WHERE role = ? AND grp NOT IN (SELECT grp FROM picture)",
                (role,),
            )
            self.counts[count] = done.rowcount

    def _copies(self, table: str) -> None:
        """Keep the first of equal copies; a row whose copies differ is refused."""
        key = "role = ? AND grp = ? AND name = ?"
        self.base.executescript(
            "DROP TABLE IF EXISTS temp.copies; CREATE TEMP TABLE copies AS SELECT role, grp, name "
            f"FROM {table} GROUP BY role, grp, name HAVING count(*) > 1"
        )
        for part in self.base.execute("SELECT * FROM temp.copies"):
            role, group, name = part
            query = f"SELECT id, file, row, spot, content FROM {table}_part WHERE {key} ORDER BY id"
            (first, file, _, spot, content), *others = self.base.execute(query, part).fetchall()
            if differ := [other for *_, other, its in others if its != content]:
                reason = f"{PLURALS.get(role, role)} that differ: {spot}, {', '.join(differ)}"
                self._refuse(group, name, file, reason)
            else:
                for _, copy, row, *_ in others:
                    self._set_aside(copy, row, f"repeats {ARTICLES.get(role, role)}: {spot}")
            self.base.execute(f"DELETE FROM {table} WHERE {key} AND id <> ?", (*part, first))

    def _join(self, group: str, advance: Any) -> None:
        """Enter the whole rows of a group, cut into shards; reject the others with the reason."""
        masks = "train" if group == "generated" else group
        captions = self.captions and group != "generated"
        cells = self.base.execute(_JOIN, {"grp": group, "masks": masks})
        digest, rows, number = hashlib.sha256(), 0, 0
        for name, image, mask, caption, percent, file, reason, *content in cells:
            parts = {"image": image, "mask": mask, "caption": caption if captions else 0}
            missing = [f"no {part}" for part, number in parts.items() if number is None]
            if reason or missing:
                file = file or self._file_of([image, mask], [caption, percent])
                reject = (file, f"{group}/{name}", reason or ", ".join(missing))
                self.base.execute("INSERT INTO reject VALUES (?, ?, ?)", reject)
                self.counts["not_whole"] += 1
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

    def _set_aside(self, file: str, row: str, reason: str) -> None:
        """List an entry that belongs to no row."""
        self.counts["set_aside"] += 1
        self.base.execute("INSERT INTO entry VALUES (?, ?, ?)", (file, row, reason))

    def _refuse(self, group: str, name: str, file: str, reason: str) -> None:
        """Reject a row, for its first reason only."""
        values = (group, name, file, reason)
        self.base.execute("INSERT OR IGNORE INTO refused VALUES (?, ?, ?, ?)", values)

    def _file_of(self, pictures: list[int | None], records: list[int | None]) -> str:
        """The file that the first part of an incomplete row is in."""
        for table, numbers in (("picture", pictures), ("record", records)):
            for number in (number for number in numbers if number is not None):
                query = f"SELECT file FROM {table}_part WHERE id = {number}"
                return str(self._first(query)[0])
        return ""

    def _first(self, query: str) -> Any:
        return self.base.execute(query).fetchone()


def _file(source: Source, entry: Entry | Odd) -> str:
    """``archive.zip/inner/path``, ``folder/path``, or the name of a table."""
    alone = source.kind in ("table", "captions")
    return source.path.name if alone else f"{source.path.name}/{entry.path}"
