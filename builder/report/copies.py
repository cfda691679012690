"""Copies of train tiles in a report: how many there are, and which are shown side by side."""

import heapq
from collections.abc import Iterable, Iterator
from pathlib import Path

import pyarrow as pa

from builder.core.manifest import Record, read_manifest
from builder.core.store import Store
from builder.land.columns import KINDS
from builder.land.pictures import image_bytes
from builder.release.rows import metadata, opened
from builder.report.distances import has_column
from builder.steps.stage import shards

COLUMNS = ("id", "copy", "copied_from")
SHOWN = 5
"""Copies shown, those that cover the largest share of their tile."""


class Piece(Record):
    """A rectangle of a tile, in pixels from its upper left."""

    row: int
    column: int
    height: int
    width: int


class ShownCopy(Record):
    """A synthetic tile, the train tile that it copies, and the piece in both (`copied_from`)."""

    id: str
    source: str
    own: Piece
    piece: Piece
    turn: str
    scale: float
    share: float


class CopyFigures(Record):
    """Synthetic tiles of a release that copy a train tile, and copies to show; None for ``kept``
    where the release does not say which tiles are copies."""

    kept: int | None = None
    left_out: int = 0
    shown: tuple[ShownCopy, ...] = ()

    @property
    def ids(self) -> list[str]:
        """Ids of all tiles that are shown."""
        return sorted({id_ for copy in self.shown for id_ in (copy.id, copy.source)})


def copy_figures(release: Path, store: Store | None) -> CopyFigures:
    """What the report says of copies. Shown are those of ``store``, where it has been searched:
    copies are usually left out of a release. Otherwise those that the release holds."""
    left_out = read_manifest(release).facts.census.left_out
    out = left_out.get("synthetic", {}).get("copies", 0)
    held = _held(release)
    if "copy" not in held:
        return CopyFigures(left_out=out)
    kept = 0
    shown: list[ShownCopy] = []
    for _, table in metadata(release, held):
        kept += table.column("copy").to_pylist().count(True)
        if "copied_from" in held:
            shown = _largest([*shown, *_copies(table)])
    if kept + out and store is not None and has_column(store, "copied_from", ("synthetic",)):
        shown = []
        for _, table in store.scan(shards(store, ("synthetic",)), COLUMNS):
            shown = _largest([*shown, *_copies(table)])
    return CopyFigures(kept=kept, left_out=out, shown=tuple(shown))


def _held(release: Path) -> list[str]:
    """Those of `COLUMNS` that a release has: older ones do not say what was copied."""
    parts = read_manifest(release).configs["metadata"].values()
    held = list(COLUMNS)
    for name in (name for part in parts for name in part.files):
        with opened(release / name) as file:
            held = [column for column in held if column in file.schema_arrow.names]
    return held


def _copies(table: pa.Table) -> Iterator[ShownCopy]:
    rows = table.filter(table.column("copied_from").is_valid()).to_pylist()
    for id_, source in ((row["id"], row["copied_from"]) for row in rows):
        yield ShownCopy(
            id=id_,
            source=source["id"],
            own=Piece(**{side: source[f"own_{side}"] for side in Piece.model_fields}),
            piece=Piece(**{side: source[side] for side in Piece.model_fields}),
            turn=source["turn"],
            scale=round(source["scale"], 3),
            share=round(source["share"], 4),
        )


def _largest(copies: Iterable[ShownCopy]) -> list[ShownCopy]:
    return heapq.nsmallest(SHOWN, copies, key=lambda copy: (-copy.share, copy.id))


def stored_pictures(store: Store, ids: Iterable[str]) -> dict[str, bytes]:
    """PNG bytes of the rows among ``ids`` that a store has."""
    asked = set(ids)
    pictures: dict[str, bytes] = {}
    for shard in shards(store, KINDS) if asked else ():
        names = store.read(shard, ("id",)).column("id").to_pylist()
        if asked & set(names):
            images = image_bytes(store.read(shard, ("image",)).column("image"))
            pictures.update(pair for pair in zip(names, images, strict=True) if pair[0] in asked)
    return pictures
