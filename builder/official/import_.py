"""Source stage: rows of the official layout, from zips as they are or from folders."""

import csv
import itertools
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, BinaryIO, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pydantic import Field

from builder.core import budgets
from builder.core.errors import ArasError
from builder.core.fields import MD5, Files, Name, Section
from builder.core.files import remove, write_csv
from builder.core.manifest import Account, CaptionFile, ImportReport
from builder.core.store import Store
from builder.land import classes
from builder.land.columns import PER_CLASS_PERCENT, SPLITS, STREAM_PREFIX
from builder.land.grid import CRS_NAME
from builder.land.pictures import COMPOSITION, composition_columns, encode_png, image_column
from builder.official import zips
from builder.official.index import Index, IndexRequest, Line, Part, ensure
from builder.official.names import GROUPS, OFFICIAL_MD5, Place, Refused, place, row_id
from builder.official.pictures import checked_image, colour_table, mask_ids
from builder.official.sources import Source, find_sources, read_file
from builder.official.streams import PUBLISHED, UNKNOWN, Column, caption_columns, cell
from builder.steps.stage import Maker, Output, Stage, Unit, refuse_beside, setting

REJECTS = ".rejects"
"""Folder beside the shards: the rows that each of them rejected."""
INDEX = ".index.sqlite"
REPORTS = {
    "rejects": "import-rejects.csv",
    "entries": "import-set-aside.csv",
    "percent": "import-percent.csv",
}
"""Under reports/: rejected rows, entries outside every row, and percentages that differ from the
mask's."""

DERIVED = "derived"
NO_PLACE = "no place: blocks need names like N36E028_005_025"
_TILES = [group for group, (kind, _) in GROUPS.items() if kind == "real"]


class ImportSection(Section):
    sources: Files = Field(default=[])
    md5: dict[str, Annotated[str, Field(pattern=MD5)]] = Field(default={})
    run: Name = "official"
    split: Literal["official", "blocks"] = "official"
    captions: bool = True
    text: list[str] = Field(default=[])
    segmenter: bool = False
    shard_rows: Annotated[int, Field(ge=1, le=2048)] = 128


@dataclass(frozen=True, kw_only=True)
class Import(Stage):
    """Bring in every whole row of the sources; the others are listed with the reason.

    Images keep their samples, and their bytes but for chunks that no decoder needs; RGB masks
    become single-channel id masks, and the ``columns`` of captions.csv become streams. Without
    ``captions`` only the pictures come. ``run`` names the synthetic rows. With ``placed`` a real
    row is rejected when its name gives no place.
    """

    sources: tuple[Path, ...] = setting()
    md5: tuple[tuple[str, str], ...] = setting()
    text: tuple[str, ...] = setting(())
    run: str
    size: int
    captions: bool
    columns: tuple[Column, ...] = UNKNOWN
    placed: bool
    shard_rows: int

    version = 2

    @property
    def streams(self) -> tuple[str, ...]:
        return tuple(column.stream for column in self.columns) if self.captions else ()

    @property
    def provenance(self) -> str:
        """Who names the models of the captions: the ``record``, a ``sidecar`` or ``nobody``."""
        if self.columns[: len(PUBLISHED)] == PUBLISHED:
            return "record"
        return "sidecar" if any(column.model for column in self.columns) else "nobody"

    @property
    def adds(self) -> tuple[str, ...]:
        return (
            *("id", "split", "image", "mask", *COMPOSITION, "percent_published"),
            *("crs", "transform", "longitude", "latitude", "georeference", "gen_layout"),
            *(STREAM_PREFIX + stream for stream in self.streams),
        )

    def index(self, store: Store) -> Index:
        """The index of the sources, remade when they change. Raises ArasError as `ensure`."""
        sources = tuple(find_sources(self.sources))
        request = IndexRequest(sources, dict(self.md5), self.captions, self.shard_rows, self.text)
        return ensure(store.root / self.name / INDEX, request)

    def units(self, store: Store) -> list[Unit]:
        """Shards of at most ``shard_rows`` rows, ordered by split and name.

        Raises ArasError as `ensure`, and beside rows of another source.
        """
        refuse_beside(store)
        with self.index(store) as index:
            return [Unit(name, name, digest) for name, _, digest in index.shards()]

    def open(self, store: Store, survey: Any) -> Maker:
        reader = _Reader(self.index(store), self.size, self.placed)

        def make(shard: str) -> Output:
            return with_rejects(store, shard, lambda path: _make(self, reader, shard, path))

        return make

    def report(self, store: Store) -> ImportReport:
        """Write the lists under reports/ and account for every row.

        Raises ArasError when rows in are not rows out and rejects, or nothing could be imported.
        """
        reports = store.root.parent / "reports"
        with self.index(store) as index:
            reasons = write_rejects(store, index, reports / REPORTS["rejects"])
            entries = write_set_aside(index, reports / REPORTS["entries"])
            counts, sums = index.fact("counts"), index.fact("md5")
            files = [CaptionFile.model_validate(file) for file in index.fact("files")]
        footers = (store.footer(self.name, shard) for shard in store.shards(self.name))
        rows_out = sum(footer.rows for footer in footers if footer)
        rows_in, rejects = counts["candidates"], sum(reasons.values())
        if rows_in != rows_out + rejects:
            raise ArasError(
                f"import: {rows_in:,} rows in are not {rows_out:,} rows out and {rejects:,} "
                f"rejects; remove {store.root / self.name} and import again"
            )
        if not rows_out:
            (reason, n), *_ = reasons.most_common(1)
            raise ArasError(
                f"import: none of {rows_in:,} rows is whole ({reason}: {n:,}); all are listed in "
                f"{reports / REPORTS['rejects']}"
            )
        md5 = {Path(path).name: sum_ for path, (_, sum_) in sums.items()}
        return ImportReport(
            account=Account(rows_in=rows_in, rows_out=rows_out, rejects=rejects),
            captions=self.captions,
            provenance=self.provenance,
            md5=md5,
            official=bool(md5) and md5.items() <= OFFICIAL_MD5.items(),
            reasons=dict(reasons.most_common()),
            set_aside=dict(entries.most_common()),
            captions_elsewhere=counts["captions_elsewhere"],
            percentages_elsewhere=counts["percentages_elsewhere"],
            percent_differs=write_percent(store, reports / REPORTS["percent"]),
            lists=tuple(f"reports/{name}" for name in REPORTS.values()),
            caption_files=tuple(files) if self.captions else (),
            captions_unmatched=counts["captions_unmatched"],
        )


@dataclass
class _Reader:
    """Reads pictures of the index's sources, each archive opened once per worker."""

    index: Index
    size: int
    placed: bool
    files: dict[int, BinaryIO] = field(default_factory=dict)

    @cached_property
    def sources(self) -> dict[int, Source]:
        return self.index.sources()

    @cached_property
    def table(self) -> npt.NDArray[np.uint8]:
        return colour_table()

    def read(self, part: Part) -> bytes:
        source = self.sources[part.source]
        if part.member is None:
            return read_file(source.path / part.path)
        if part.source not in self.files:
            self.files[part.source] = source.path.open("rb")
        return zips.read(self.files[part.source], part.member, budgets.PICTURE_BYTES)

    def row(self, line: Line) -> tuple[bytes, bytes, npt.NDArray[np.int64]]:
        """(image bytes, id mask bytes, pixel counts). Raises Refused naming the file."""
        part = line.image
        try:
            if self.placed and line.group in _TILES and not place(line.name, self.size):
                raise Refused(NO_PLACE)
            image = checked_image(self.read(part), self.size)
            part = line.mask
            ids = mask_ids(self.read(part), self.size, self.table)
        except Refused as error:
            raise Refused(f"{self.sources[part.source].path.name}/{part.path}: {error}") from error
        return image, encode_png(ids), classes.count_pixels(ids)


def _make(stage: Import, reader: _Reader, shard: str, rejects: Path) -> Output:
    """Rows of a shard; broken rows go to ``rejects``, which is written first."""
    kept: list[Line] = []
    pictures: list[tuple[bytes, bytes, npt.NDArray[np.int64]]] = []
    refused: list[tuple[str, str, str]] = []
    for line in reader.index.lines(shard):
        try:
            pictures.append(reader.row(line))
        except Refused as error:
            file, _, reason = str(error).partition(": ")
            refused.append((file, f"{line.group}/{line.name}", reason))
        else:
            kept.append(line)
    if refused:
        write_csv(rejects, refused)
    else:
        remove(rejects)
    wanted = stage.columns if stage.captions else ()
    cells_of = {column: [cell(line.texts, column) for line in kept] for column in wanted}
    columns = {**_pictures(stage, kept, pictures), **caption_columns(cells_of)}
    captioned = [i for i, line in enumerate(kept) if line.texts is not None and stage.captions]
    cells = [(column.stream, cells_of[column][i]) for i in captioned for column in wanted]
    counts = {
        "kept": len(kept),
        "rejected": len(refused),
        "without_captions": len(kept) - len(captioned),
        "caption_errors": sum(cell.error is not None for _, cell in cells),
        "percent_differs": len(kept) - columns["percent_published"].null_count,
        **Counter(f"{stream}_{what}" for stream, cell in cells for what in cell.cut),
    }
    return Output(pa.table(columns), counts)


def _pictures(stage: Import, lines: Sequence[Line], pictures: Sequence[Any]) -> dict[str, pa.Array]:
    """All columns except the captions."""
    files = [f"{line.name}.png" for line in lines]
    pixels = np.array([counts for *_, counts in pictures], dtype=np.int64).reshape(-1, 7)
    places = [place(line.name, stage.size) if line.group in _TILES else None for line in lines]
    splits = [SPLITS.index(GROUPS[line.group][1]) for line in lines]
    layouts = [f"real/{line.name}" if line.group == "generated" else None for line in lines]
    return {
        "id": pa.array([row_id(line.group, line.name, stage.run) for line in lines], pa.string()),
        "split": pa.array(splits, pa.int64()),
        "image": image_column([image for image, *_ in pictures], files),
        "mask": image_column([mask for _, mask, _ in pictures], files),
        **composition_columns(pixels),
        "percent_published": _published(lines, classes.percent(pixels)),
        **_places(places),
        "gen_layout": pa.array(layouts, pa.string()),
    }


def _places(places: Sequence[Place | None]) -> dict[str, pa.Array]:
    """Georeference columns; null where the name gives no place."""

    def column(value: Any, kind: pa.DataType) -> pa.Array:
        return pa.array([None if where is None else value(where) for where in places], kind)

    return {
        "crs": column(lambda _: CRS_NAME, pa.string()),
        "transform": column(lambda where: where.transform, pa.list_(pa.float64())),
        "longitude": column(lambda where: where.longitude, pa.float64()),
        "latitude": column(lambda where: where.latitude, pa.float64()),
        "georeference": column(lambda _: DERIVED, pa.string()),
    }


def _published(lines: Sequence[Line], exact: npt.NDArray[np.int64]) -> pa.Array:
    """The published percentages, null where there are none or they equal the exact percentages."""
    values = [
        None
        if line.percent is None or list(line.percent) == own
        else dict(zip(classes.CLASSES, line.percent, strict=True))
        for line, own in zip(lines, exact.tolist(), strict=True)
    ]
    return pa.array(values, PER_CLASS_PERCENT)


def write_rejects(store: Store, index: Index, path: Path) -> Counter[str]:
    """List the rows that the index and the shards rejected; returns how many for each reason."""
    return write_reasons(path, itertools.chain(index.rejects(), rejects_of_shards(store)))


def write_set_aside(index: Index, path: Path) -> Counter[str]:
    """List the entries outside every row; returns how many for each reason."""
    return write_reasons(path, index.set_aside())


def write_reasons(path: Path, listed: Iterable[Sequence[str]]) -> Counter[str]:
    """List (file, row, reason); returns how many for each reason."""
    reasons: Counter[str] = Counter()

    def rows() -> Iterator[Sequence[str]]:
        yield ("file", "row", "reason")
        for listed_row in listed:
            reasons[re.split(r": | \(", listed_row[2])[0]] += 1
            yield listed_row

    write_csv(path, rows())
    return reasons


def with_rejects(store: Store, shard: str, make: Callable[[Path], Output]) -> Output:
    """What ``make`` gives, which lists the rows that it rejects in a CSV file; in a bucket too."""
    path = store.root / "import" / REJECTS / f"{shard}.csv"
    output = make(path)
    if store.mirror and path.is_file():
        store.mirror.keep_file(path)
    return output


def rejects_of_shards(store: Store) -> Iterator[Sequence[str]]:
    """(file, row, reason) of the rows that shards rejected."""
    for shard in store.shards("import"):
        path = store.root / "import" / REJECTS / f"{shard}.csv"
        footer = store.footer("import", shard)
        if store.mirror and footer and footer.counts.get("rejected"):
            store.mirror.bring_file(path)
        if path.is_file():
            with path.open(encoding="utf-8", newline="") as file:
                yield from csv.reader(file)


def write_percent(store: Store, path: Path) -> int:
    """List the percentages that differ from those of the mask; returns in how many rows."""
    differs = 0

    def rows() -> Iterator[Sequence[Any]]:
        nonlocal differs
        yield ("id", "class", "published", "exact")
        for shard in store.shards("import"):
            footer = store.footer("import", shard)
            if footer is None or not footer.counts.get("percent_differs"):
                continue
            table = store.load("import", shard, ["id", "percent_published", "percent"])
            for row in table.to_pylist():
                if published := row["percent_published"]:
                    differs += 1
                    for name, value in published.items():
                        if value != row["percent"][name]:
                            yield (row["id"], name, value, row["percent"][name])

    write_csv(path, rows())
    return differs
