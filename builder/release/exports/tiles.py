"""The tiles of a release one after another, as every export format but the official reads them."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from builder.core.errors import ArasError
from builder.core.manifest import Manifest, read_manifest
from builder.core.progress import bar
from builder.land.classes import CLASSES
from builder.land.columns import KINDS, SPLITS
from builder.release.exports import Options
from builder.release.rows import opened

COLUMNS = (
    *("id", "image", "mask", "percent", "dominant", "crs", "transform", "source", "captions"),
)
"""What is read of a row; a column that an older release lacks is null."""
_ID = re.compile(r"[\w~%-][\w.~%-]*(/[\w~%-][\w.~%-]*)*")


@dataclass(frozen=True)
class Tile:
    """A row: encoded pictures, shares by class name in %, the text of each stream (None: failed),
    and the place, where it is known (``transform``: affine a to f in units of ``crs``)."""

    id: str
    kind: str
    split: str
    image: bytes
    mask: bytes
    percent: dict[str, int]
    dominant: str
    captions: dict[str, str | None]
    crs: str | None = None
    transform: tuple[float, ...] | None = None
    source: str | None = None

    def as_json(self) -> dict[str, Any]:
        """What a JSON record says of the tile; no ``captions`` where it has none at all."""
        captions = {"captions": self.captions} if self.captions else {}
        return {
            "id": self.id,
            "kind": self.kind,
            "split": self.split,
            "dominant": self.dominant,
            "percent": self.percent,
            **captions,
        }


def tiles(release: Path, manifest: Manifest) -> Iterator[Tile]:
    """Every row with pictures, by kind and split, in the order of the files.

    Memory holds a row group. Raises ArasError for a file that is missing or cut short, and for an
    id that cannot be the name of a file.
    """
    parts = [
        (kind, split, name)
        for kind in KINDS
        for split in SPLITS
        for name in manifest.split_files(kind, split)
    ]
    rows = sum(opened(release / name).metadata.num_rows for *_, name in parts)
    with bar("export", rows, "rows") as advance:
        for kind, split, name in parts:
            with opened(release / name) as file:
                columns = [column for column in COLUMNS if column in file.schema_arrow.names]
                for group in range(file.num_row_groups):
                    for row in file.read_row_group(group, columns=columns).to_pylist():
                        yield _tile(name, kind, split, row)
                        advance(1, f"{kind}/{split}")


def _tile(name: str, kind: str, split: str, row: dict[str, Any]) -> Tile:
    row_id = row["id"]
    if not _ID.fullmatch(row_id or ""):
        raise ArasError(f"{name}: id {row_id!r} cannot be the name of a file; import it anew")
    image, mask = ((row[column] or {}).get("bytes") for column in ("image", "mask"))
    if image is None or mask is None:
        raise ArasError(f"{name}: {row_id}: has no picture; `aras check` lists what else is wrong")
    place = row.get("transform")
    return Tile(
        id=row_id,
        kind=kind,
        split=split,
        image=image,
        mask=mask,
        percent={name: row["percent"][name] for name in CLASSES},
        dominant=CLASSES[row["dominant"]],
        captions={entry["stream"]: entry["text"] for entry in row["captions"] or ()},
        crs=row.get("crs"),
        transform=tuple(place) if place else None,
        source=row.get("source"),
    )


def streams(manifest: Manifest) -> tuple[str, ...]:
    """The caption streams of a release, in its order."""
    examples = manifest.facts.census.examples.values()
    return tuple(dict.fromkeys(entry.stream for row in examples for entry in row.captions))


def text_stream(release: Path, options: Options, column: str) -> str | None:
    """The stream that fills the one caption column of a format: that of ``--stream``, else the
    first of the release; None where it has no captions.

    Raises ArasError for a stream that the release does not have and for another column.
    """
    own = streams(read_manifest(release))
    if others := sorted(set(options.streams) - {column}):
        raise ArasError(f"{others[0]}: this layout has one caption column, {column}")
    chosen = options.streams.get(column, own[0] if own else None)
    if chosen is not None and chosen not in own:
        raise ArasError(
            f"{release}: has no stream {chosen}; it has {', '.join(own) or 'no captions'}"
        )
    return chosen


def write_picture(path: Path, data: bytes) -> None:
    """Write ``data`` under ``path``. Raises ArasError where another row has that name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with path.open("xb") as file:
            file.write(data)
    except FileExistsError:
        raise ArasError(f"{path.name}: two rows of the release have this id") from None
