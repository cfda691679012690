"""The store: work/<stage>/<shard>.parquet, each file whole and carrying its key."""

import contextlib
import hashlib
import json
import os
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from builder.core.arrow import ROW_GROUP, combine, options, table_digests
from builder.core.errors import CorruptFile, NotMade
from builder.core.files import atomic, read_json, remove, sweep, write_json

INDEX = ".footers"
"""Folder under work/ with what the footers of each stage said when its files were last opened."""

_FOOTER, _FOOTER_SHA256 = b"aras", b"aras_sha256"


@dataclass(frozen=True)
class Footer:
    """What a shard file says of itself."""

    key: str
    rows: int
    digests: dict[str, str]
    written: int
    errors: int = 0
    counts: dict[str, int] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    """Id of each row that its stage could not make → why; the row's columns are null."""
    withheld: dict[str, str] = field(default_factory=dict)
    """Id of each row that failed in a stage before → that stage and why."""

    @property
    def digest(self) -> str:
        return combine(self.digests)


class CorruptShard(CorruptFile):
    """A shard file that is not what was written; names the stage and shard to remake."""

    def __init__(self, stage: str, shard: str, why: str) -> None:
        super().__init__(
            f"work/{stage}/{shard}.parquet is corrupt ({why}); `aras build` makes it again"
        )
        self.stage, self.shard, self.why = stage, shard, why

    def __reduce__(self) -> tuple[Any, ...]:
        return (CorruptShard, (self.stage, self.shard, self.why))


class Store:
    """Shard files under one directory; the file system is the only state.

    The modification time of a file is set to a whole second that its footer repeats. A file
    whose time differs was touched by someone else, and is trusted only after its content has
    been hashed again. Reading always verifies; a file that fails has its time set to 0, so that
    every later plan sees it as missing until its stage has written it again.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._footers: dict[str, dict[str, tuple[list[int], Footer]]] = {}
        self._unsaved: set[str] = set()
        self._columns: dict[str, set[str]] = {}
        self._stages: tuple[int, list[str]] = (-1, [])
        self._makers: dict[frozenset[str], list[str]] = {}

    def path(self, stage: str, shard: str) -> Path:
        return self.root / stage / f"{shard}.parquet"

    def stages(self) -> list[str]:
        """Names of the folders of stages; listed again only when a folder came or went."""
        try:
            changed = self.root.stat().st_mtime_ns
        except FileNotFoundError:
            return []
        if self._stages[0] != changed:
            with os.scandir(self.root) as entries:
                names = sorted(
                    entry.name for entry in entries if entry.is_dir() and entry.name[0] != "."
                )
            self._stages, self._makers = (changed, names), {}
        return self._stages[1]

    def shards(self, stage: str) -> list[str]:
        """Names of the shards under ``stage``, sorted."""
        return sorted(path.stem for path in (self.root / stage).glob("[!.]*.parquet"))

    def footer(self, stage: str, shard: str) -> Footer | None:
        """Footer of a whole, untouched shard file; None when there is none.

        Raises CorruptShard when the file is there but truncated or altered.
        """
        path = f"{self.root}/{stage}/{shard}.parquet"  # planning asks for tens of thousands
        index = self._index(stage)
        known = index.get(shard)
        try:
            if known and known[0] == _identity(os.stat(path)):
                return known[1]
            # One open file throughout: another process may replace the path at any moment.
            with _corruption(stage, shard), open(path, "rb") as file:
                parquet = pq.ParquetFile(file)
                footer = _parse(parquet.metadata)
                if os.fstat(file.fileno()).st_mtime_ns != footer.written * 10**9:
                    _verify(parquet.read(), footer)
                    _stamp(file.fileno(), footer.written)
                index[shard] = (_identity(os.fstat(file.fileno())), footer)
                self._unsaved.add(stage)
        except FileNotFoundError:
            return None
        return footer

    def _index(self, stage: str) -> dict[str, tuple[list[int], Footer]]:
        """Footers of a stage by shard, as they were when its files were last opened."""
        if stage not in self._footers:
            try:
                remembered = read_json(self.root / INDEX / f"{stage}.json")
                footers = {
                    shard: (seen, Footer(**footer)) for shard, (seen, footer) in remembered.items()
                }
            except (OSError, ValueError, TypeError, AttributeError):
                footers = {}  # none yet, or not ours: read the files themselves
            self._footers[stage] = footers
        return self._footers[stage]

    def remember(self, stage: str, shards: Iterable[str]) -> None:
        """Keep what the footers of these shards say, so that the next plan opens no file.

        Like git's index: an entry counts only while inode, size and times of its file are the
        same, and the index may be deleted at any time.
        """
        if stage in self._unsaved:
            index = self._index(stage)
            footers = {
                shard: (index[shard][0], index[shard][1].__dict__)
                for shard in shards
                if shard in index
            }
            with contextlib.suppress(OSError):  # a full or read-only disk costs speed alone
                write_json(self.root / INDEX / f"{stage}.json", footers, indent=None)
            self._unsaved.discard(stage)

    def refresh(self, stage: str) -> None:
        """Have a network file system ask its server again what a folder holds: a client trusts what
        it remembers of a folder until it changes something there itself."""
        with contextlib.suppress(OSError):
            tempfile.NamedTemporaryFile(dir=self.root / stage, prefix=".", suffix=".tmp").close()

    def fresh(self, stage: str, shard: str) -> Footer | None:
        """Like `footer`, but a corrupt file counts as missing: its stage replaces it."""
        try:
            return self.footer(stage, shard)
        except CorruptShard:
            return None

    def find(self, shard: str, columns: Sequence[str]) -> dict[str, tuple[str, str]]:
        """Where each column of ``shard`` is: column → (stage, content digest).

        Raises NotMade when no stage has written a column, CorruptShard when its file is damaged.
        """
        places: dict[str, tuple[str, str]] = {}
        corrupt: CorruptShard | None = None
        for stages in (self._likely(columns), self.stages()):  # all only when the first lack some
            for stage in stages:
                try:
                    footer = self.footer(stage, shard)
                except CorruptShard as error:
                    corrupt = error  # no matter, if nothing is needed of it
                    continue
                if footer:
                    here = footer.digests
                    places.update({name: (stage, here[name]) for name in columns if name in here})
            if len(places) == len(set(columns)):
                break
        missing = [name for name in columns if name not in places]
        if missing and corrupt:
            raise corrupt
        if missing:
            raise NotMade(shard, missing)
        return {name: places[name] for name in columns}

    def read(self, shard: str, columns: Sequence[str]) -> pa.Table:
        """Columns of ``shard`` from the stages that wrote them, every value verified.

        Raises CorruptShard on a flipped bit, ArasError on a column that no stage has written.
        """
        where = self.find(shard, columns)
        parts = {}
        for stage in dict.fromkeys(stage for stage, _ in where.values()):
            names = [name for name in columns if where[name][0] == stage]
            parts[stage] = self.load(stage, shard, names)
        return pa.table({name: parts[where[name][0]].column(name) for name in columns})

    def load(self, stage: str, shard: str, columns: Sequence[str] | None = None) -> pa.Table:
        """Columns (all by default) of a shard file, verified against its footer."""
        path = self.path(stage, shard)
        try:
            with _corruption(stage, shard), pq.ParquetFile(path) as file:
                footer = _parse(file.metadata)
                wanted = None if columns is None else list(columns)
                groups = [file.read_row_group(i, wanted) for i in range(file.num_row_groups)]
                table = pa.concat_tables(groups) if groups else file.read(wanted)
                table = table.replace_schema_metadata(None)
                _verify(table, footer)
        except CorruptShard:
            with contextlib.suppress(OSError):  # gone already, or not ours to touch
                _stamp(path, 0)
            raise
        return table if columns is None else table.select(list(columns))

    def failed(self, shard: str, columns: Sequence[str] | None = None) -> dict[str, str]:
        """Rows without values in ``columns`` (None: in any column), because the stage that makes
        them, or a stage before it, failed on them: id → stage and reason."""
        lost: dict[str, str] = {}
        for stage in self.stages() if columns is None else self._likely(columns):
            footer = self.fresh(stage, shard)
            if footer and (columns is None or not footer.digests.keys().isdisjoint(columns)):
                lost |= footer.withheld
                lost |= {row: f"{stage}: {why}" for row, why in footer.failed.items()}
        return lost

    def scan(
        self, shards: Iterable[str], columns: Sequence[str], *, sound: bool = False
    ) -> Iterator[tuple[str, pa.Table]]:
        """(shard, table) in turn: memory stays at one shard. Rows that the makers of the columns
        failed on are skipped; with ``sound`` those that any stage failed on."""
        for shard in shards:
            table = self.read(shard, columns)
            if lost := self.failed(shard, None if sound else columns):
                ids = self.read(shard, ["id"]).column("id").to_pylist()
                table = table.filter(pa.array([row not in lost for row in ids], pa.bool_()))
            yield shard, table

    def write(
        self,
        stage: str,
        shard: str,
        table: pa.Table,
        *,
        key: str,
        errors: int = 0,
        counts: dict[str, int] | None = None,
        failed: dict[str, str] | None = None,
        withheld: dict[str, str] | None = None,
    ) -> Footer:
        """Write a shard under its name at once or not at all (OSError when the disk is full)."""
        footer = Footer(
            key,
            table.num_rows,
            table_digests(table),
            int(time.time()),
            errors,
            counts or {},
            failed or {},
            withheld or {},
        )
        with atomic(self.path(stage, shard)) as temporary:
            text = json.dumps(footer.__dict__).encode()
            metadata = {_FOOTER: text, _FOOTER_SHA256: hashlib.sha256(text).hexdigest()}
            pq.write_table(
                table.replace_schema_metadata(metadata),
                temporary,
                row_group_size=ROW_GROUP,
                **options(table.schema),
            )
            _stamp(temporary, footer.written)
        return footer

    def remove(self, stage: str, shard: str) -> None:
        remove(self.path(stage, shard))

    def _likely(self, columns: Sequence[str]) -> list[str]:
        """Stages of which a file holds any of the columns."""
        stages, wanted = self.stages(), frozenset(columns)
        if wanted not in self._makers:
            self._makers[wanted] = [
                stage for stage in stages if not wanted.isdisjoint(self._adds(stage))
            ]
        return self._makers[wanted]

    def _adds(self, stage: str) -> set[str]:
        """Columns that a stage adds, as any of its files says."""
        if stage not in self._columns:
            for path in (self.root / stage).glob("[!.]*.parquet"):
                if footer := self.fresh(stage, path.stem):
                    self._columns[stage] = set(footer.digests)
                    break
        return self._columns.get(stage, set())

    def sweep(self, stage: str) -> int:
        """Remove what killed processes left unfinished under ``stage``."""
        return sweep(self.root / stage)

    def claim(
        self, stage: str, columns: Sequence[str], shards: Iterable[str], spare: Sequence[str] = ()
    ) -> None:
        """Make ``stage`` the only maker of ``columns``: remove other stages' files that hold any.

        They are left over from a recipe in which another stage wrote that column. Files of the
        stages ``spare`` stay.
        """
        taken = set(columns)
        for other in self.stages():
            if other in (stage, *spare) or not self._adds(other) & taken:
                continue
            for shard in set(self.shards(other)) & set(shards):
                footer = self.fresh(other, shard)
                if footer and footer.digests.keys() & taken:
                    self.remove(other, shard)

    def prune(self, stage: str, keep: Iterable[str]) -> int:
        """Remove shards of ``stage`` that are not in ``keep``; returns how many."""
        gone = set(self.shards(stage)) - set(keep)
        for shard in gone:
            self.remove(stage, shard)
        return len(gone)


def _parse(metadata: Any) -> Footer:
    known = metadata.metadata or {}
    if _FOOTER not in known:
        raise CorruptFile("its footer was not written by aras")
    if hashlib.sha256(known[_FOOTER]).hexdigest().encode() != known.get(_FOOTER_SHA256):
        raise CorruptFile("its footer does not match its digest")
    return Footer(**json.loads(known[_FOOTER]))


def _verify(table: pa.Table, footer: Footer) -> None:
    for name, digest in table_digests(table).items():
        if footer.digests.get(name) != digest:
            raise CorruptFile(f"column {name} does not match its digest")


def _stamp(file: Path | int, seconds: int) -> None:
    os.utime(file, ns=(seconds * 10**9, seconds * 10**9))


def _identity(stat: os.stat_result) -> list[int]:
    """A file that was replaced or touched since differs in the time of its last change at least."""
    return [stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns]


@contextlib.contextmanager
def _corruption(stage: str, shard: str) -> Iterator[None]:
    """Whatever a damaged Parquet file raises becomes CorruptShard; a missing file stays missing."""
    try:
        yield
    except (MemoryError, CorruptShard):
        raise
    except (pa.ArrowException, OSError, ValueError, CorruptFile) as error:
        if isinstance(error, OSError) and error.errno:
            raise  # the system's own trouble (missing, no permission, too many files)
        raise CorruptShard(stage, shard, str(error).splitlines()[0][:120]) from error
