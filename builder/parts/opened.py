"""A release that is read without downloading it: its manifest, chosen rows and their pictures."""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from builder.core import budgets
from builder.core.errors import ArasError, CorruptFile
from builder.core.foreign import ForeignParquet, chunks
from builder.core.manifest import MANIFEST, parse_manifest
from builder.core.progress import bar
from builder.core.seeds import seed as seed_of
from builder.land.columns import BLOB_DIGESTS, BY_NAME, KINDS, LATER, LOCATIONS, SPLITS
from builder.land.pictures import Pixels, decode_mask, decode_png
from builder.parts.question import Question
from builder.parts.ranges import Piece, fetch
from builder.parts.sources import Source, file_of, open_source

Box = tuple[float, float, float, float]
PLACE = ("longitude", "latitude")
CHOSEN_CONFIGS = (*KINDS, "controls", "embeddings")
"""Configs of which a part can be taken; `metadata` and `augmented` follow from them."""


@dataclass(frozen=True)
class Request:
    """Which rows of a release are asked for; see `Selection` of the manifest."""

    where: str = ""
    bbox: Box | None = None
    splits: tuple[str, ...] = ()
    configs: tuple[str, ...] = ()
    columns: tuple[str, ...] | None = None
    limit: int | None = None
    seed: int = 0

    @property
    def kinds(self) -> tuple[str, ...]:
        """Kinds of rows; both where no config of rows is named."""
        return tuple(kind for kind in KINDS if kind in self.configs) or KINDS


@dataclass(frozen=True)
class Chosen:
    """Rows of a file of config metadata, by their numbers in it, in order."""

    split: str
    file: str
    rows: npt.NDArray[np.int64]


def open_release(place: str | Path) -> "OpenRelease":
    """Open a release in a folder, at an http(s) address or at hf://datasets/ORG/NAME@TAG.

    Only its manifest is read. Raises ArasError where there is none, or an address is of no use.

        release = open_release("hf://datasets/ORG/NAME@0.1.0")
        rows = release.query("dominant = 'Water' AND grounding > 0.8", split="test")
    """
    return OpenRelease(open_source(str(place)))


class OpenRelease:
    """A release at a source. What was read of it is counted in ``source.moved``."""

    def __init__(self, source: Source) -> None:
        self.source = source
        text = source.whole(MANIFEST)
        self.manifest = parse_manifest(text, f"{source.address}/{MANIFEST}")
        self.manifest_sha256 = sha256(text).hexdigest()
        self.sizes = {file.path: file.bytes for file in self.manifest.files}
        self.footers: dict[str, pq.FileMetaData] = {}
        if not self.manifest.configs.get("metadata"):
            raise ArasError(f"{source.address}: has no config metadata to choose rows by")

    def __repr__(self) -> str:
        return f"<release {self.manifest.name} {self.manifest.version} at {self.source.address}>"

    def __len__(self) -> int:
        return sum(part.rows for part in self.manifest.configs["metadata"].values())

    def query(
        self,
        where: str = "",
        *,
        bbox: Box | None = None,
        split: str | Sequence[str] = (),
        config: str | Sequence[str] = (),
        limit: int | None = None,
        seed: int = 0,
    ) -> "Rows":
        """Rows that meet a condition in SQL over config metadata; nothing else of them is read.

        ``bbox`` is west, south, east, north of the tiles' centres in degrees. Of more than
        ``limit`` rows as many are drawn with ``seed``. Raises ArasError for a bad condition.
        """
        splits = (split,) if isinstance(split, str) else tuple(split)
        configs = (config,) if isinstance(config, str) else tuple(config)
        request = Request(where, bbox, splits, configs, limit=limit, seed=seed)
        return Rows(self, self.choose(request))

    def columns(self) -> pa.Schema:
        """Schema of config metadata, that questions are about."""
        first = next(name for part in self._metadata().values() for name in part)
        self._footer(first)  # kept, so that it is read once
        return self._parquet(first).schema_arrow

    def choose(self, request: Request) -> list[Chosen]:
        """The rows asked for, file by file. Reads the columns that the question needs.

        Raises ArasError for a bad condition, box or split, and for an id that occurs twice.
        """
        _check(self, request)
        schema = self.columns()
        question = Question(request.where, schema)
        more = [*(PLACE if request.bbox else ())]
        if set(request.kinds) != set(KINDS):
            more.append("kind")
        if request.limit is not None or (question.where and not question.leaves):
            more.append("id")
        asked = list(dict.fromkeys([*question.leaves, *more]))
        chosen, hashes = [], []
        files = [(split, name) for split, names in self._metadata().items() for name in names]
        files = [(s, name) for s, name in files if not request.splits or s in request.splits]
        rows = sum(self._footer(name).num_rows for _, name in files)
        with bar("ask", rows, "rows") as advance:
            for split, name in files:
                kept = [np.zeros(0, dtype=np.int64)]
                for first, count, table in self._groups(name, asked, request.bbox):
                    advance(count)
                    if table is None:
                        continue
                    numbers = question.rows(table) if question.where else np.arange(count)
                    if request.bbox or "kind" in more:
                        numbers = numbers[_inside(table, request)[numbers]]
                    if request.limit is not None:
                        ids = table.column("id").take(pa.array(numbers)).to_pylist()
                        hashes += [seed_of(request.seed, "part", row) for row in ids]
                    kept.append(first + numbers)
                chosen.append(Chosen(split, name, np.concatenate(kept)))
        return _limited(chosen, hashes, request.limit) if request.limit is not None else chosen

    def light(self, chosen: Sequence[Chosen], columns: Sequence[str]) -> Iterator[pa.Table]:
        """Columns of config metadata of the chosen rows, a row group at a time.

        Raises ArasError naming the columns that the release lacks.
        """
        for part in chosen:
            if not len(part.rows):
                continue
            held = self._parquet(part.file).schema_arrow.names
            if missing := [name for name in columns if name not in held]:
                why = "an older aras made it" if LATER.issuperset(missing) else "not as asked for"
                raise ArasError(
                    f"{self.source.address}: {part.file} lacks {', '.join(missing)} ({why}); "
                    "`aras import` and `aras package` of the whole release add what is missing"
                )
            ends = np.cumsum([0, *self._group_rows(part.file)])
            for group, (first, end) in enumerate(itertools.pairwise(ends)):
                here = part.rows[(part.rows >= first) & (part.rows < end)] - first
                if len(here):
                    table = self._read(part.file, group, columns)
                    yield table.select(list(columns)).take(pa.array(here))

    def pictures(self, table: pa.Table, name: str) -> list[bytes]:
        """The encoded images or masks (``name``) of rows, verified by their digests.

        ``table`` has id, kind, split, the digest of ``name`` and `LOCATIONS`. Raises ArasError
        for a place outside the release's own files, CorruptFile for other bytes.
        """
        (digest,) = (column for column, picture in BLOB_DIGESTS.items() if picture == name)
        rows = table.select(["id", "kind", "split", *LOCATIONS, digest]).to_pylist()
        held = fetch(self.source, self.sizes, [self._piece(row, name) for row in rows])
        for row, data in zip(rows, held, strict=True):
            if sha256(data).hexdigest() != row[digest]:
                raise CorruptFile(
                    f"{self.source.address}: {row['id']}: its {name} at byte "
                    f"{row[f'{name}_offset']} of {row['shard']} is not the one that metadata "
                    "describes (sha256 differs); the source is damaged or changed"
                )
        return held

    def table(self, name: str) -> Iterator[pa.Table]:
        """A file of the release, a row group at a time."""
        for group in range(self._footer(name).num_row_groups):
            yield self._read(name, group)

    def _piece(self, row: dict[str, Any], name: str) -> Piece:
        shard, start, size = row["shard"], row[f"{name}_offset"], row[f"{name}_size"]
        own = self.manifest.split_files(KINDS[row["kind"]], SPLITS[row["split"]])
        if shard not in own or start is None or size is None:
            raise CorruptFile(
                f"{self.source.address}: {row['id']}: its {name} is said to lie in {shard!r}, "
                "which is not a file of its config and split"
            )
        if start < 0 or size < 0 or start + size > self.sizes.get(shard, 0):
            raise CorruptFile(
                f"{self.source.address}: {row['id']}: its {name} is said to end at byte "
                f"{start + size:,} of {shard}, which has {self.sizes.get(shard, 0):,}"
            )
        return Piece(shard, start, start + size)

    def _metadata(self) -> dict[str, tuple[str, ...]]:
        return {name: part.files for name, part in self.manifest.configs["metadata"].items()}

    def _footer(self, name: str) -> pq.FileMetaData:
        if name not in self.footers:
            self.footers[name] = self._parquet(name).metadata
        return self.footers[name]

    def _group_rows(self, name: str) -> list[int]:
        footer = self._footer(name)
        return [footer.row_group(i).num_rows for i in range(footer.num_row_groups)]

    def _parquet(self, name: str, held: Sequence[tuple[int, bytes]] = ()) -> ForeignParquet:
        if name not in self.sizes:
            raise ArasError(f"{self.source.address}: {MANIFEST} names {name} and does not list it")
        size = self.sizes[name]
        return ForeignParquet(
            Path(name),
            name=f"{self.source.address}: {name}",
            source=lambda: pa.PythonFile(file_of(self.source, name, size, held), mode="r"),
            metadata=self.footers.get(name),
        )

    def _read(self, name: str, group: int, columns: Sequence[str] | None = None) -> pa.Table:
        """A row group. Raises Undecodable where pyarrow cannot read it.

        Its columns are fetched at once, and packed: they are measured before they are unpacked.
        """
        pieces = [Piece(name, *place) for place in chunks(self._footer(name), group, columns)]
        if sum(piece.end - piece.start for piece in pieces) > budgets.PARQUET_GROUP_BYTES or any(
            not 0 <= piece.start <= piece.end <= self.sizes[name] for piece in pieces
        ):
            raise CorruptFile(
                f"{self.source.address}: {name}: row group {group} is not within the file, or "
                f"larger than {budgets.PARQUET_GROUP_BYTES:,} bytes"
            )
        data = fetch(self.source, self.sizes, pieces)
        held = [(piece.start, packed) for piece, packed in zip(pieces, data, strict=True)]
        file = self._parquet(name, held)
        return file.read_row_group(group, columns=None if columns is None else list(columns))

    def _groups(
        self, name: str, columns: Sequence[str], bbox: Box | None
    ) -> Iterator[tuple[int, int, pa.Table | None]]:
        """(first row, rows, table) of each row group; None where no row can be within ``bbox``."""
        footer, first = self._footer(name), 0
        for group, count in enumerate(self._group_rows(name)):
            if bbox and _is_outside(footer.row_group(group), bbox):
                yield first, count, None
            elif columns:
                yield first, count, self._read(name, group, columns)
            else:
                yield first, count, pa.table({})
            first += count


def _check(release: OpenRelease, request: Request) -> None:
    """Raises ArasError for a request that no release, or not this one, can answer."""
    there = release.manifest.configs["metadata"]
    for split in request.splits:
        if split not in there:
            raise ArasError(f"--split {split}: the release has {', '.join(there)}")
    for config in request.configs:
        if config not in release.manifest.configs or config not in CHOSEN_CONFIGS:
            held = [name for name in CHOSEN_CONFIGS if name in release.manifest.configs]
            raise ArasError(f"--config {config}: the release has {', '.join(held)} to choose from")
    if request.bbox:
        west, south, east, north = request.bbox
        if not (-180 <= west <= 180 and -180 <= east <= 180 and -90 <= south < north <= 90):
            raise ArasError(
                f"--bbox {west} {south} {east} {north}: expected WEST SOUTH EAST NORTH in degrees, "
                "south below north; west beyond east crosses the 180th meridian"
            )


def _inside(table: pa.Table, request: Request) -> npt.NDArray[np.bool_]:
    """Which rows are of the kinds and within the box that are asked for."""
    inside = np.ones(table.num_rows, dtype=bool)
    if "kind" in table.column_names and set(request.kinds) != set(KINDS):
        numbers = [KINDS.index(kind) for kind in request.kinds]
        inside &= np.isin(table.column("kind").to_numpy(), numbers)
    if request.bbox:
        west, south, east, north = request.bbox
        x, y = (pc.fill_null(table.column(name), np.nan).to_numpy() for name in PLACE)
        across = (x >= west) & (x <= east) if west <= east else (x >= west) | (x <= east)
        inside &= across & (y >= south) & (y <= north)
    return inside


def _is_outside(group: pq.RowGroupMetaData, bbox: Box) -> bool:
    """Whether the statistics of a row group show that no row is within the box."""
    west, south, east, north = bbox
    known = {}
    for i in range(group.num_columns):
        column = group.column(i)
        if column.path_in_schema in PLACE and (stats := column.statistics) and stats.has_min_max:
            known[column.path_in_schema] = (stats.min, stats.max)
    lowest, highest = known.get("latitude", (-90, 90))
    if highest < south or lowest > north:
        return True
    first, last = known.get("longitude", (-180, 180))
    return bool(west <= east and (last < west or first > east))


def _limited(chosen: Sequence[Chosen], hashes: Sequence[int], limit: int) -> list[Chosen]:
    """The ``limit`` rows with the smallest hashes."""
    numbers = np.array(hashes, dtype=np.int64)
    kept = np.zeros(len(numbers), dtype=bool)
    kept[np.argsort(numbers, kind="stable")[:limit]] = True
    ends = np.cumsum([0, *(len(part.rows) for part in chosen)])
    return [
        Chosen(part.split, part.file, part.rows[kept[start:end]])
        for part, start, end in zip(chosen, ends, ends[1:], strict=False)
    ]


@dataclass(frozen=True)
class Rows:
    """Rows of a release, read when they are looked at: ``len``, ``rows[0]``, ``ids``, ``table``, a
    loop."""

    release: OpenRelease
    chosen: list[Chosen]

    def __len__(self) -> int:
        return sum(len(part.rows) for part in self.chosen)

    def __getitem__(self, number: int) -> "Row":
        """A row by its number, from 0, or from the end where that is negative. Raises IndexError
        beyond the rows, as a list does."""
        number += len(self) if number < 0 else 0
        for part in self.chosen:
            if 0 <= number < len(part.rows):
                return next(iter(Rows(self.release, [replace(part, rows=part.rows[[number]])])))
            number -= len(part.rows)
        raise IndexError(f"there are {len(self):,} rows")

    @property
    def ids(self) -> list[str]:
        """Ids of the rows, in the release's order."""
        return [str(row) for row in self.table(["id"]).column("id").to_pylist()]

    def table(self, columns: Sequence[str]) -> pa.Table:
        """Columns of config metadata of these rows, without pictures."""
        schema = pa.schema([self.release.columns().field(name) for name in columns])
        tables = list(self.release.light(self.chosen, columns))
        return pa.concat_tables(tables) if tables else schema.empty_table()

    def __iter__(self) -> Iterator["Row"]:
        names = self.release.columns().names
        for table in self.release.light(self.chosen, names):
            for i in range(table.num_rows):
                yield Row(self.release, table.slice(i, 1))


@dataclass(frozen=True)
class Row:
    """A row: its columns by name, its image and mask as arrays, fetched when they are looked at."""

    release: OpenRelease
    table: pa.Table = field(repr=False)

    def __getitem__(self, column: str) -> Any:
        """The value of a column; a class by its name."""
        value = self.table.column(column)[0].as_py()
        labels = BY_NAME[column].labels if column in BY_NAME else ()
        return labels[value] if labels and value is not None else value

    @property
    def id(self) -> str:
        return str(self["id"])

    @property
    def image(self) -> Pixels:
        """(H, W, 3) uint8."""
        (data,) = self.release.pictures(self.table, "image")
        return decode_png(data, self.id)

    @property
    def mask(self) -> Pixels:
        """(H, W) uint8 of class ids."""
        (data,) = self.release.pictures(self.table, "mask")
        return decode_mask(data, self.id)
