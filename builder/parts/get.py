"""`aras get`: the rows that a question chooses, fetched by ranges and written as a release."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from builder.core.arrow import ROW_GROUP
from builder.core.errors import ArasError
from builder.core.files import alone, atomic, digest_of, read_json, remove, sweep, write_json
from builder.core.manifest import (
    ChangelogEntry,
    Manifest,
    Selection,
    read_manifest,
    write_manifest,
)
from builder.core.progress import bar, counted
from builder.land.columns import (
    ALWAYS,
    BLOB_DIGESTS,
    BLOBS,
    COLUMN_NAMES,
    DERIVED,
    GEO_COLUMNS,
    KINDS,
    LOCATIONS,
    SPLITS,
    arrow_schema,
    arrow_type,
    names_of,
)
from builder.land.pictures import image_column
from builder.parts.opened import Chosen, OpenRelease, Request
from builder.release.benchmark import write_benchmark
from builder.release.card import write_cards
from builder.release.census import RowCounter
from builder.release.rows import metadata
from builder.release.stac import write_items
from builder.release.writer import DataWriter

TOGETHER = {"captions": "caption_scores", "caption_scores": "captions"}
"""A list with an entry per caption comes with the other."""
DEFAULT_CONFIGS = (*KINDS, "controls")
LIMIT = 512e6
"""Bytes of a shard of a part."""


@dataclass(frozen=True)
class Got:
    """A part of a release: rows by config and split, and what was moved for it.

    ``bytes`` are those of the chosen pictures and of a release that holds them; ``moved`` what the
    source sent, ``requests`` in how many ranges. ``is_new`` is false where the part existed
    already, and with ``--dry-run``.
    """

    release: Path
    is_new: bool
    is_dry: bool
    rows: dict[str, dict[str, int]]
    of_rows: int
    pictures: int
    picture_bytes: int
    moved: int
    requests: int
    resumed: int = 0
    content_sha256: str = ""

    def lines(self) -> list[str]:
        chosen = sum(n for kind in KINDS for n in self.rows.get(kind, {}).values())
        size = f"{self.picture_bytes / 1e6:,.1f} MB of pictures"
        if self.is_dry:
            lines = [f"get: {chosen:,} of {self.of_rows:,} rows would be fetched, {size}"]
        elif self.is_new:
            lines = [f"get: {self.release} written: {chosen:,} of {self.of_rows:,} rows, {size}"]
        else:
            lines = [f"get: {self.release} already exists with these rows; nothing to do"]
        for config, splits in self.rows.items():
            rows = ", ".join(f"{split} {n:,}" for split, n in splits.items())
            lines.append(f"  {config:<10} {rows}")
        if self.resumed:
            lines.append(f"  {counted(self.resumed, 'row')} fetched by an earlier run kept")
        lines.append(f"  moved {self.moved / 1e6:,.2f} MB in {counted(self.requests, 'request')}")
        return lines

    def as_json(self) -> dict[str, Any]:
        return {"kind": "get", **asdict(self), "release": str(self.release)}


def get(release: OpenRelease, out: Path, request: Request, *, dry: bool = False) -> Got:
    """Write the rows of ``release`` that are asked for as a release ``out``.

    With ``dry`` rows and bytes are counted and nothing is written. What was fetched is kept beside
    ``out`` until it is whole, so that the same call continues a killed one. Raises ArasError for a
    bad request, for no rows, and where ``out`` is something else already.
    """
    work = out.with_name(f".{out.name}.get")
    request = replace(request, columns=_kept(release, request))
    columns = columns_of_part("metadata", request.columns)  # another aras may have others
    key = digest_of([release.manifest_sha256, asdict(request), columns])
    if out.exists() and not dry and not (out.is_dir() and not any(out.iterdir())):
        got = _existing(release, out, key)
        remove(work)  # of a run that was killed when all was written
        return got
    chosen = release.choose(request)
    if not any(len(part.rows) for part in chosen):
        raise ArasError(f"{release.source.address}: no row of {len(release):,} is as asked for")
    if dry:
        return _counted(release, out, chosen)
    out.parent.mkdir(parents=True, exist_ok=True)
    sweep(out.parent, out.name)
    work.mkdir(exist_ok=True)
    with alone(work, f"{out}: another process is fetching it"):
        if not (work / "key.json").exists() or read_json(work / "key.json") != key:
            for leftover in work.iterdir():
                remove(leftover)
            write_json(work / "key.json", key)
        fetched = _fetch_all(release, chosen, request, work)
        with atomic(out) as temporary:
            temporary.mkdir()
            _write(release, request, key, fetched.batches, temporary)
        remove(work)
    return replace(_described(release, out), is_new=True, resumed=fetched.resumed)


@dataclass(frozen=True)
class _Fetched:
    batches: list[Path]
    resumed: int


def _kept(release: OpenRelease, request: Request) -> tuple[str, ...] | None:
    """The columns asked for, in a release's order; ArasError for one that it lacks."""
    if request.columns is None:
        return None
    held = [name for name in release.columns().names if name in COLUMN_NAMES]
    if unknown := [name for name in request.columns if name not in (*held, *BLOBS)]:
        raise ArasError(f"--columns {unknown[0]}: the release has {', '.join(held)}")
    asked = {*request.columns, *(TOGETHER[name] for name in request.columns if name in TOGETHER)}
    return tuple(name for name in held if name in asked and name not in ALWAYS)


def columns_of_part(config: str, kept: Sequence[str] | None) -> tuple[str, ...]:
    """The columns of a config of a part that keeps these; all of them for None."""
    if kept is None or config not in (*KINDS, "metadata"):
        return names_of(config)
    always = {*ALWAYS, *DERIVED, *BLOB_DIGESTS, *kept}
    return tuple(name for name in names_of(config) if name in always)


def _fetch_all(
    release: OpenRelease, chosen: Sequence[Chosen], request: Request, work: Path
) -> _Fetched:
    """Fetch the rows into files of at most `ROW_GROUP` rows; those that are there stay."""
    asked = columns_of_part("metadata", request.columns)
    names = [name for name in asked if name not in GEO_COLUMNS]  # they follow from the others
    batches: list[Path] = []
    resumed = 0
    with bar("get", sum(len(part.rows) for part in chosen), "rows") as advance:
        for number, part in enumerate(chosen):
            todo = {
                start: work / f"{number:04d}-{start:08d}.arrow"
                for start in range(0, len(part.rows), ROW_GROUP)
            }
            batches += todo.values()
            for start, path in todo.items():
                if not path.exists():
                    continue
                rows = len(part.rows[start : start + ROW_GROUP])
                resumed += rows
                advance(rows)
            missing = [start for start, path in todo.items() if not path.exists()]
            for start, table in _batches(release, part, names, missing):
                _save(_with_pictures(release, table), todo[start])
                advance(table.num_rows)
    return _Fetched(batches, resumed)


def _batches(
    release: OpenRelease, part: Chosen, names: Sequence[str], starts: Sequence[int]
) -> Iterator[tuple[int, pa.Table]]:
    """(start, rows from there on without pictures) of each batch that is missing."""
    ends = {start: min(start + ROW_GROUP, len(part.rows)) for start in starts}
    rows = [part.rows[start:end] for start, end in ends.items()]
    if not rows:
        return
    waiting: list[pa.Table] = []
    queue = list(ends.items())
    for table in release.light([replace(part, rows=np.concatenate(rows))], names):
        waiting.append(table)
        while queue and sum(t.num_rows for t in waiting) >= queue[0][1] - queue[0][0]:
            start, end = queue.pop(0)
            whole = pa.concat_tables(waiting)
            yield start, whole.slice(0, end - start).combine_chunks()
            waiting = [whole.slice(end - start)]


def _with_pictures(release: OpenRelease, table: pa.Table) -> pa.Table:
    """Rows with image and mask in place of where they lie."""
    files = [f"{row.rpartition('/')[2]}.png" for row in table.column("id").to_pylist()]
    for name in BLOBS:
        table = table.append_column(name, image_column(release.pictures(table, name), files))
    return table.drop_columns(list(LOCATIONS))


def _save(table: pa.Table, path: Path) -> None:
    with (
        atomic(path) as temporary,
        pa.OSFile(str(temporary), "wb") as file,
        pa.ipc.new_stream(file, table.schema) as writer,
    ):
        writer.write_table(table)


def _write(
    release: OpenRelease, request: Request, key: str, batches: Sequence[Path], folder: Path
) -> None:
    """The release of the fetched rows."""
    data = DataWriter(folder, LIMIT, lambda config: columns_of_part(config, request.columns))
    counter, ids = RowCounter(), set[str]()
    for path in batches:
        with pa.OSFile(str(path)) as file, pa.ipc.open_stream(file) as stream:
            table = stream.read_all()
        for kind, split, rows in _by_part(table):
            counter.see(kind, split, _filled(rows))
            names = [*data.columns(kind), *BLOB_DIGESTS]
            data.add(kind, split, rows.select(names))
            for row in rows.column("id").to_pylist():
                if row in ids:
                    raise ArasError(f"{release.source.address}: id {row} occurs twice")
                ids.add(row)
    for config in ("controls", "embeddings"):
        if config in (request.configs or DEFAULT_CONFIGS):
            for split, rows in _beside(release, config, ids):
                data.add(config, split, rows)
    configs, content = data.close()
    if "real" not in configs:
        configs.pop("augmented", None)
    of = release.manifest
    census = counter.census(of.facts.census.left_out, {})
    nulls = {
        kind: tuple(name for name in names if name in data.columns(kind))
        for kind, names in census.nulls.items()
    }
    census = census.model_copy(update={"nulls": nulls})
    facts = of.facts.with_setting("release", "repo", "")
    facts = facts.model_copy(update={"census": census, "balance": None, "split": None})
    if "embeddings" not in configs:
        facts = facts.model_copy(update={"embeddings": None})
    selection = _selection(release, request, len(ids))
    line = (
        f"{len(ids):,} of {selection.of_rows:,} rows of {of.name} {of.version} (content digest "
        f"`{of.content_sha256}`): {selection.condition}"
    )
    manifest = of.model_copy(
        update={
            "key": key,
            "content_sha256": content,
            "configs": configs,
            "files": (),
            "facts": facts,
            "subsets": {},
            "doi": None,
            "concept_doi": None,
            "synthetic_doi": None,
            "endpoint": None,
            "copies": {},
            "history": (ChangelogEntry(version=of.version, date=of.date, lines=(line,)),),
            "part": None,
            "selection": selection,
        }
    )
    write_manifest(folder, manifest)
    write_items(folder, manifest)
    write_benchmark(folder, manifest)
    write_cards(folder)


def _selection(release: OpenRelease, request: Request, rows: int) -> Selection:
    of = release.manifest
    return Selection(
        name=of.name,
        title=of.title,
        version=of.version,
        content_sha256=of.content_sha256,
        address=release.source.address,
        doi=of.doi,
        rows=rows,
        of_rows=len(release),
        of=of.selection,
        **asdict(request),
    )


def _by_part(table: pa.Table) -> Iterator[tuple[str, str, pa.Table]]:
    """Kind, split and rows, for each part that has some."""
    kinds, splits = table.column("kind"), table.column("split")
    for number, kind in enumerate(KINDS):
        for place, split in enumerate(SPLITS):
            here = pc.and_(pc.equal(kinds, number), pc.equal(splits, place))
            if (rows := table.filter(here)).num_rows:
                yield kind, split, rows


def _filled(table: pa.Table) -> pa.Table:
    """The columns that are counted, nulls and empty lists of captions where the part lacks them."""
    n, columns = table.num_rows, {}
    for name in COLUMN_NAMES:
        if name in table.column_names:
            columns[name] = table.column(name)
        elif name in TOGETHER:
            columns[name] = pa.array([[]] * n, arrow_type(name))
        else:
            columns[name] = pa.nulls(n, arrow_type(name))
    return pa.table(columns)


def _beside(release: OpenRelease, config: str, ids: set[str]) -> Iterator[tuple[str, pa.Table]]:
    """Rows of controls or embeddings that belong to ``ids``, with their splits."""
    schema = arrow_schema(names_of(config))
    for split, part in release.manifest.configs.get(config, {}).items():
        for name in part.files:
            for table in release.table(name):
                own = [row.partition("#")[0] in ids for row in table.column("id").to_pylist()]
                if any(own):
                    yield split, table.filter(pa.array(own)).cast(schema)


def _counted(release: OpenRelease, out: Path, chosen: Sequence[Chosen]) -> Got:
    """What would be fetched: only sizes are read of the chosen rows."""
    rows = Counter[tuple[str, str]]()
    size = 0
    for table in release.light(chosen, ("kind", "split", "image_size", "mask_size")):
        for kind, split, part in _by_part(table):
            rows[kind, split] += part.num_rows
            size += sum(pc.sum(part.column(f"{name}_size")).as_py() or 0 for name in BLOBS)
    by_config: dict[str, dict[str, int]] = {}
    for (kind, split), n in rows.items():
        by_config.setdefault(kind, {})[split] = n
    return Got(
        release=out,
        is_new=False,
        is_dry=True,
        rows=by_config,
        of_rows=len(release),
        pictures=len(BLOBS) * rows.total(),
        picture_bytes=size,
        moved=release.source.moved,
        requests=release.source.requests,
    )


def _existing(release: OpenRelease, out: Path, key: str) -> Got:
    try:
        held: Manifest | None = read_manifest(out)
    except ArasError:
        held = None
    if held is None or held.key != key:
        raise ArasError(f"{out}: already exists with other content; not changed")
    return _described(release, out)


def _described(release: OpenRelease, out: Path) -> Got:
    """What a part on disk holds."""
    manifest = read_manifest(out)
    rows = {
        config: {split: part.rows for split, part in splits.items()}
        for config, splits in manifest.configs.items()
    }
    sizes = [f"{name}_size" for name in BLOBS]
    size = sum(
        pc.sum(column).as_py() or 0 for _, table in metadata(out, sizes) for column in table.columns
    )
    chosen = sum(n for kind in KINDS for n in rows.get(kind, {}).values())
    return Got(
        release=out,
        is_new=False,
        is_dry=False,
        rows=rows,
        of_rows=len(release),
        pictures=len(BLOBS) * chosen,
        picture_bytes=size,
        moved=release.source.moved,
        requests=release.source.requests,
        content_sha256=manifest.content_sha256,
    )
