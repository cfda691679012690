"""Source stage: rows of a Parquet release that `aras package` wrote, unchanged."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from builder.core.arrow import ROW_GROUP, refuse_bombs
from builder.core.errors import ArasError, CorruptFile
from builder.core.files import content_hashes, digest_of
from builder.core.manifest import MANIFEST, Account, ImportReport, Manifest, read_manifest
from builder.core.progress import bar
from builder.core.store import Store
from builder.land.columns import BLOB_DIGESTS, CAPTION, COLUMNS, KINDS, STREAM_PREFIX, arrow_type
from builder.steps.stage import Maker, Output, Stage, Unit, refuse_beside, setting

MISSING = "the imported release has no caption of this stream"
_OWN = ("kind", "captions", "caption_scores", *BLOB_DIGESTS)
_REMADE = ("quality", "duplicates", "package")
"""Makers of columns that are measured again: duplicates are counted among the imported rows."""


def is_release(path: Path) -> bool:
    return (path / MANIFEST).is_file()


def streams_of(release: Path) -> tuple[str, ...]:
    """Names of a release's caption streams, in its order, from its own rows."""
    examples = read_manifest(release).facts.census.examples
    names = [caption.stream for row in examples.values() for caption in row.captions]
    return tuple(dict.fromkeys(names))


@dataclass(frozen=True, kw_only=True)
class ImportRelease(Stage):
    """Bring in every row of a release; each file is first checked against the manifest."""

    release: Path = setting()
    streams: tuple[str, ...]
    shard_rows: int

    name = "import"

    @property
    def adds(self) -> tuple[str, ...]:
        plain = (
            column.name
            for column in COLUMNS
            if column.name not in _OWN and column.made_by not in _REMADE
        )
        return (*plain, *(STREAM_PREFIX + stream for stream in self.streams))

    def units(self, store: Store) -> list[Unit]:
        """Shards of whole row groups. Raises CorruptFile for a file other than that listed."""
        refuse_beside(store)
        manifest = read_manifest(self.release)
        listed = {file.path: file for file in manifest.files}
        files = list(_files(manifest))
        cache = store.root / ".inputs.json"
        step = max(1, self.shard_rows // ROW_GROUP)
        units = []
        with bar("sha256", sum(listed[name].bytes for _, name in files), "bytes") as advance:
            for part, name in files:
                path = self.release / name
                if not path.is_file():
                    raise ArasError(f"{path}: listed in {MANIFEST} but missing; fetch it again")
                digest = content_hashes([path], cache)[str(path)]
                if digest != listed[name].sha256:
                    raise CorruptFile(
                        f"{path}: not the file that {MANIFEST} lists (its sha256 differs)"
                    )
                advance(listed[name].bytes)
                groups = range(pq.read_metadata(path).num_row_groups)
                number = Path(name).stem.split("-")[1]
                for first in groups[::step]:
                    payload = (name, first, min(first + step, len(groups)))
                    shard = f"{part}-{number}-{first:05d}"
                    units.append(Unit(shard, payload, digest_of([digest, *payload[1:]])))
        return sorted(units, key=lambda unit: unit.shard)

    def open(self, store: Store, survey: Any) -> Maker:
        return self._make

    def _make(self, payload: tuple[str, int, int]) -> Output:
        name, first, last = payload
        refuse_bombs(self.release / name, range(first, last))
        with pq.ParquetFile(self.release / name) as file:
            table = file.read_row_groups(range(first, last))
        rows = table.num_rows
        columns = {
            column: table.column(column).cast(arrow_type(column))  # an older release's types
            if column in table.column_names
            else pa.nulls(rows, arrow_type(column))
            for column in self.adds
            if not column.startswith(STREAM_PREFIX)
        }
        lists = table.column("captions").to_pylist() if "captions" in table.column_names else []
        captions = [{caption["stream"]: caption for caption in row} for row in lists or [[]] * rows]
        nothing = {"error": MISSING}
        for stream in self.streams:
            cells = [row.get(stream, nothing) for row in captions]
            columns[STREAM_PREFIX + stream] = pa.array(map(_cell, cells), CAPTION)
        errors = sum(cell["error"] is not None for row in captions for cell in row.values())
        return Output(pa.table(columns), {"kept": rows, "caption_errors": errors})

    def report(self, store: Store) -> ImportReport:
        """Account for every row. Raises ArasError when rows in are not rows out."""
        configs = read_manifest(self.release).configs
        listed = sum(part.rows for kind in KINDS for part in configs.get(kind, {}).values())
        footers = (store.footer(self.name, shard) for shard in store.shards(self.name))
        rows = sum(footer.rows for footer in footers if footer)
        if rows != listed:
            raise ArasError(
                f"import: {self.release / MANIFEST} lists {listed:,} rows, {rows:,} came in; "
                f"run `aras check {self.release}`"
            )
        account = Account(rows_in=listed, rows_out=rows, rejects=0)
        return ImportReport(account=account, official=False)


def _cell(caption: Mapping[str, Any]) -> dict[str, Any]:
    """A caption of a release as a cell of the store; older releases hold seeds as numbers."""
    cell = {field.name: caption.get(field.name) for field in CAPTION}
    return cell if cell["seed"] is None else {**cell, "seed": str(cell["seed"])}


def _files(manifest: Manifest) -> Iterator[tuple[str, str]]:
    """(kind-split, path) of every data file."""
    for kind in KINDS:
        for split, part in manifest.configs.get(kind, {}).items():
            for name in part.files:
                yield f"{kind}-{split}", name
