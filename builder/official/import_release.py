"""Source stage: rows of a Parquet release that `aras package` wrote, unchanged."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from builder.core.arrow import ROW_GROUP
from builder.core.errors import ArasError, CorruptFile
from builder.core.files import content_hashes, digest_of, remove, write_csv
from builder.core.foreign import ForeignParquet
from builder.core.manifest import MANIFEST, Account, ImportReport, Manifest, read_manifest
from builder.core.progress import bar
from builder.core.store import Store
from builder.land.columns import BLOB_DIGESTS, CAPTION, COLUMNS, KINDS, STREAM_PREFIX, arrow_type
from builder.land.pictures import decode_mask, decode_png, image_bytes
from builder.official.import_ import (
    REPORTS,
    rejects_of_shards,
    with_rejects,
    write_reasons,
)
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
    """Bring in every row of a release; each file is first checked against the manifest.

    A row whose image or mask `datasets` would not decode is a reject, with its reason.
    """

    release: Path = setting()
    streams: tuple[str, ...]
    shard_rows: int

    name = "import"
    version = 2

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
                with ForeignParquet(path) as file:
                    groups = range(file.num_row_groups)
                number = Path(name).stem.split("-")[1]
                for first in groups[::step]:
                    shard, end = f"{part}-{number}-{first:05d}", min(first + step, len(groups))
                    payload = (shard, name, first, end)
                    units.append(Unit(shard, payload, digest_of([digest, first, end])))
        return sorted(units, key=lambda unit: unit.shard)

    def open(self, store: Store, survey: Any) -> Maker:
        def make(payload: tuple[str, str, int, int]) -> Output:
            return with_rejects(store, payload[0], lambda path: self._make(payload, path))

        return make

    def _make(self, payload: tuple[str, str, int, int], rejects: Path) -> Output:
        _, name, first, last = payload
        with ForeignParquet(self.release / name) as file:
            table = file.read_row_groups(range(first, last))
        refused = _undecodable(table)
        if refused:
            write_csv(rejects, [(name, *reason) for reason in refused.values()])
            table = table.take(pa.array(sorted(set(range(table.num_rows)) - refused.keys())))
        else:
            remove(rejects)
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
        counts = {"kept": rows, "rejected": len(refused), "caption_errors": errors}
        return Output(pa.table(columns), counts)

    def report(self, store: Store) -> ImportReport:
        """List the rejects under reports/ and account for every row.

        Raises ArasError when rows in are not rows out and rejects.
        """
        configs = read_manifest(self.release).configs
        listed = sum(part.rows for kind in KINDS for part in configs.get(kind, {}).values())
        footers = (store.footer(self.name, shard) for shard in store.shards(self.name))
        rows = sum(footer.rows for footer in footers if footer)
        path = store.root.parent / "reports" / REPORTS["rejects"]
        reasons = write_reasons(path, rejects_of_shards(store))
        rejects = sum(reasons.values())
        if rows + rejects != listed:
            raise ArasError(
                f"import: {self.release / MANIFEST} lists {listed:,} rows, {rows:,} came in, "
                f"{rejects:,} were rejected; "
                f"run `aras check {self.release}`"
            )
        account = Account(rows_in=listed, rows_out=rows, rejects=rejects)
        lists = (f"reports/{REPORTS['rejects']}",) if rejects else ()
        return ImportReport(
            account=account, official=False, reasons=dict(reasons.most_common()), lists=lists
        )


def _undecodable(table: pa.Table) -> dict[int, tuple[str, str]]:
    """Row → its id and why its pictures cannot be decoded."""
    refused = {}
    pictures = (image_bytes(table.column(name)) for name in ("image", "mask"))
    for i, (id_, image, mask) in enumerate(
        zip(table.column("id").to_pylist(), *pictures, strict=True)
    ):
        try:
            decode_png(image or b"", "image")
            decode_mask(mask or b"", "mask")
        except ArasError as error:
            refused[i] = (str(id_), str(error))
    return refused


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
