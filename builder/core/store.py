"""The store: work/<stage>/<shard>.parquet, each file whole and carrying its key."""

import contextlib
import hashlib
import json
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.parquet as pq

from builder.core.arrow import ROW_GROUP, combine, options, table_digests
from builder.core.bucket import Bucket, StoreSection
from builder.core.errors import CorruptFile, NotMade, blame_memory
from builder.core.folder import Folder
from builder.core.mirror import Mirror
from builder.core.objects import Conflict, Objects

WRITE_TRIES = 3
"""Most tries to write a shard that other commands write at the same time."""

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


class ShardFiles(Protocol):
    """Where the shard files of a store are: a `Folder` or a `Bucket`. Picklable.

    A file is whole or not there. What is asked of a missing one raises FileNotFoundError.
    """

    def stages(self) -> list[str]:
        """Names of the stages, sorted; the same list as before while they are the same."""

    def shards(self, stage: str) -> list[str]:
        """Names of the shards of a stage, sorted."""

    def identity(self, stage: str, shard: str) -> list[Any]:
        """JSON values that differ once the file does."""

    def look(self, stage: str, shard: str) -> None:
        """Take notice of what another process did to a shard."""

    def refresh(self, stage: str) -> None:
        """As `look`, where only a whole stage can be looked at anew."""

    def open(self, stage: str, shard: str) -> Any:
        """The file, open for reading."""

    def source(self, stage: str, shard: str) -> Any:
        """What pyarrow reads the file from."""

    def identity_of(self, file: Any) -> list[Any]:
        """As `identity`, of an open file."""

    def was_touched(self, file: Any, written: int) -> bool:
        """Whether somebody else may have changed the open file since the second ``written``."""

    def trust(self, file: Any, written: int) -> None:
        """Take back that the open file was touched: its content is right."""

    def distrust(self, stage: str, shard: str) -> None:
        """Make every later plan count a corrupt file as missing, whoever plans."""

    def write(self, stage: str, shard: str, write: Callable[[Any], None], written: int) -> None:
        """Let ``write`` fill a file, and put it in place at once or not at all.

        Raises Conflict where it could replace the work of another command unseen.
        """

    def remove(self, stage: str, shard: str) -> None:
        """Remove a file, if it is there."""

    def sweep(self, stage: str) -> int:
        """Remove what killed processes left unfinished; how many."""

    def read_index(self, stage: str) -> Any:
        """The JSON value last given to `write_index`."""

    def write_index(self, stage: str, index: dict[str, Any]) -> None:
        """Keep what the footers of a stage said."""


class Store:
    """Shard files in one place, which is the only state.

    A file that somebody else may have changed is trusted only after its content has been hashed
    again. Reading always verifies; every later plan sees a file that fails as missing, until its
    stage has written it again. ``root`` is a folder of this machine for what may be deleted; the
    shard files are there too, unless ``files`` says where; then ``mirror`` shares the models.
    """

    def __init__(
        self, root: Path, files: ShardFiles | None = None, mirror: Mirror | None = None
    ) -> None:
        self.root, self.mirror = root, mirror
        self.files: ShardFiles = files or Folder(root)
        self._footers: dict[str, dict[str, tuple[list[Any], Footer]]] = {}
        self._unsaved: set[str] = set()
        self._columns: dict[str, set[str]] = {}
        self._stages: list[str] = []
        self._makers: dict[frozenset[str], list[str]] = {}

    def __reduce__(self) -> tuple[Any, ...]:
        return (Store, (self.root, self.files, self.mirror))

    @classmethod
    def of_recipe(cls, root: Path, section: StoreSection) -> "Store":
        """The store that [store] names; without a bucket the shard files are in ``root``."""
        if not section.url:
            return cls(root)
        objects = Objects(section.url, section.endpoint)
        return cls(root, Bucket(objects.below("work")), Mirror(objects, root.parent))

    def path(self, stage: str, shard: str) -> Path:
        """Where a shard lies in a folder."""
        return self.root / stage / f"{shard}.parquet"

    def stages(self) -> list[str]:
        """Names of the stages of which anything is there, sorted."""
        stages = self.files.stages()
        if stages is not self._stages:
            self._stages, self._makers = stages, {}
        return stages

    def shards(self, stage: str) -> list[str]:
        """Names of the shards under ``stage``, sorted."""
        return self.files.shards(stage)

    def look(self, stage: str, shard: str) -> Footer | None:
        """Like `footer`, of a shard that another process may have written just now."""
        self.files.look(stage, shard)
        return self.footer(stage, shard)

    def footer(self, stage: str, shard: str) -> Footer | None:
        """Footer of a whole, untouched shard file; None when there is none.

        Raises CorruptShard when the file is there but truncated or altered.
        """
        index = self._index(stage)
        known = index.get(shard)
        try:
            if known and known[0] == self.files.identity(stage, shard):
                return known[1]
            try:
                footer = self._footer(stage, shard)
            except Conflict:  # replaced since it was seen
                self.files.look(stage, shard)
                footer = self._footer(stage, shard)
        except FileNotFoundError:
            return None
        self._unsaved.add(stage)
        return footer

    def _footer(self, stage: str, shard: str) -> Footer:
        files = self.files
        # One open file throughout: another process may replace it at any moment.
        with _corruption(stage, shard), files.open(stage, shard) as file:
            parquet = pq.ParquetFile(file)
            footer = _parse(parquet.metadata)
            if files.was_touched(file, footer.written):
                _verify(parquet.read(), footer)
                files.trust(file, footer.written)
            self._index(stage)[shard] = (files.identity_of(file), footer)
        return footer

    def _index(self, stage: str) -> dict[str, tuple[list[Any], Footer]]:
        """Footers of a stage by shard, as they were when its files were last opened."""
        if stage not in self._footers:
            try:
                remembered = self.files.read_index(stage)
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
                self.files.write_index(stage, footers)
            self._unsaved.discard(stage)

    def refresh(self, stage: str) -> None:
        """Have a network file system ask its server again what it holds of a stage."""
        self.files.refresh(stage)

    def place(self, stage: str) -> str:
        """Where the shards of a stage are, for messages."""
        return f"{self.files}/{stage}"

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
        try:
            try:
                return self._load(stage, shard, columns)
            except Conflict:  # replaced since it was seen
                self.files.look(stage, shard)
                return self._load(stage, shard, columns)
        except CorruptShard:
            with contextlib.suppress(OSError):  # gone already, or not ours to touch
                self.files.distrust(stage, shard)
            raise

    def _load(self, stage: str, shard: str, columns: Sequence[str] | None) -> pa.Table:
        source = self.files.source(stage, shard)
        is_remote = not isinstance(source, Path)
        with _corruption(stage, shard), pq.ParquetFile(source, pre_buffer=is_remote) as file:
            footer = _parse(file.metadata)
            wanted = None if columns is None else list(columns)
            groups = [file.read_row_group(i, wanted) for i in range(file.num_row_groups)]
            table = pa.concat_tables(groups) if groups else file.read(wanted)
            table = table.replace_schema_metadata(None)
            _verify(table, footer)
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
        text = json.dumps(footer.__dict__).encode()
        metadata = {_FOOTER: text, _FOOTER_SHA256: hashlib.sha256(text).hexdigest()}

        def write(file: Any) -> None:
            pq.write_table(
                table.replace_schema_metadata(metadata),
                file,
                row_group_size=ROW_GROUP,
                **options(table.schema),
            )

        for attempt in range(WRITE_TRIES):
            try:
                self.files.write(stage, shard, write, footer.written)
                break
            except Conflict:
                present = self.fresh(stage, shard)
                if present and present.key == key and present.errors <= errors:
                    return present  # made by another command, or by a PUT whose answer was lost
                if attempt == WRITE_TRIES - 1:
                    raise
        return footer

    def remove(self, stage: str, shard: str) -> None:
        self.files.remove(stage, shard)

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
            for shard in self.files.shards(stage):
                if footer := self.fresh(stage, shard):
                    self._columns[stage] = set(footer.digests)
                    break
        return self._columns.get(stage, set())

    def sweep(self, stage: str) -> int:
        """Remove what killed processes left unfinished under ``stage``."""
        return self.files.sweep(stage)

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


@contextlib.contextmanager
def _corruption(stage: str, shard: str) -> Iterator[None]:
    """Whatever a damaged Parquet file raises becomes CorruptShard; a missing file stays missing."""
    try:
        yield
    except CorruptShard:
        raise
    except (pa.ArrowException, OSError, ValueError, CorruptFile) as error:
        if isinstance(error, OSError) and error.errno:
            raise  # the system's own trouble (missing, no permission, too many files)
        blame_memory(error)
        raise CorruptShard(stage, shard, str(error).splitlines()[0][:120]) from error
