"""The configs beside the rows: ``embeddings``, vectors of a baseline; ``controls``, captions that
show how much a model reads the words of the real captions."""

import heapq
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from builder.core.seeds import seed
from builder.land.classes import CLASSES
from builder.land.columns import CONTROLS, SPLITS, arrow_schema, names_of
from builder.land.pictures import per_class
from builder.scores import lexicon as lexicons
from builder.scores.controls import control_captions

CAPTION_ID = "{}#{}"
"""Id of a caption: id of its row and name of its stream."""


def embedding_rows(table: pa.Table) -> Iterator[tuple[str, pa.Table]]:
    """Split and rows of ``embeddings``, from the store's columns id, split and vectors."""
    rows: dict[str, list[dict[str, Any]]] = {}
    for row in table.select(["id", "split", "vectors"]).to_pylist():
        for embedding in row["vectors"] or ():
            stream = embedding["stream"]
            rows.setdefault(SPLITS[row["split"]], []).append(
                {
                    "id": row["id"] if stream is None else CAPTION_ID.format(row["id"], stream),
                    "owner": None if stream is None else row["id"],
                    "stream": stream,
                    "vector": embedding["vector"],
                }
            )
    schema = arrow_schema(names_of("embeddings"))
    for split, part in rows.items():
        yield split, pa.Table.from_pylist(part, schema)


def embedding_violations(table: pa.Table) -> Iterator[tuple[str, str]]:
    """(id, what is wrong) of rows of ``embeddings`` that break an invariant."""
    width = 0
    for row in table.to_pylist():
        vector = np.array(row["vector"] or (), dtype=np.float64)
        width = width or len(vector)
        if len(vector) != width or not width:
            yield row["id"], f"its vector has {len(vector)} numbers, others {width}"
        elif not abs(np.linalg.norm(vector) - 1) < 1e-3:  # NaN too
            yield row["id"], "its vector is not of unit length"
        owner, stream = row["owner"], row["stream"]
        if (owner is None) != (stream is None):
            yield row["id"], "has only one of owner and stream"
        elif owner is not None and row["id"] != CAPTION_ID.format(owner, stream):
            yield row["id"], "its id is not owner#stream"


CONTROL_KIND, CONTROL_SPLIT = "real", "test"
"""Control captions are of real test tiles, on which models are compared."""


class _Tile(NamedTuple):
    hash: int
    id: str
    pixels: npt.NDArray[np.int64]
    texts: dict[str, str | None]
    """By stream."""


@dataclass
class Controls:
    """Picks at most ``rows`` real test tiles by hash of their ids as they pass: the same tiles in
    any order, and a smaller number is part of a larger. ``lexicon`` is laid over the built-in
    lexicon, whose words of land cover are masked."""

    rows: int
    seed: int
    lexicon: Path | None = None
    kept: list[_Tile] = field(default_factory=list)

    def see(self, kind: str, split: str, table: pa.Table) -> None:
        """Take the rows (columns id, pixels, captions) of a part of the release."""
        if (kind, split) != (CONTROL_KIND, CONTROL_SPLIT) or not self.rows:
            return
        light = table.select(["id", "captions"]).to_pylist()
        for row, pixels in zip(light, per_class(table.column("pixels")), strict=True):
            texts = {caption["stream"]: caption["text"] for caption in row["captions"]}
            order = seed(self.seed, "controls", row["id"])
            self.kept.append(_Tile(order, row["id"], pixels, texts))
        if len(self.kept) > 2 * self.rows:
            self.kept = self._chosen()

    def table(self) -> pa.Table | None:
        """Rows of ``controls``, ordered by stream, control and id; None where there are none.

        A control that a row has no other text in (no caption, no number to mask) leaves it out.
        """
        tiles = sorted(self._chosen(), key=lambda tile: tile.id)
        ids = [tile.id for tile in tiles]
        pixels = np.array([tile.pixels for tile in tiles], dtype=np.float64)
        pixels = pixels.reshape(-1, len(CLASSES))
        shares = pixels / np.maximum(pixels.sum(axis=1, keepdims=True), 1)
        words = lexicons.load(self.lexicon)
        names, parts = names_of("controls"), []
        for stream in tiles[0].texts if tiles else ():
            texts = [tile.texts.get(stream) for tile in tiles]
            rows = control_captions(ids, texts, shares, seed=self.seed, lexicon=words)
            rows = rows.append_column("stream", pa.array([stream] * rows.num_rows))
            parts.append(rows.select(names))
        return pa.concat_tables(parts).cast(arrow_schema(names)) if parts else None

    def _chosen(self) -> list[_Tile]:
        return heapq.nsmallest(self.rows, self.kept, key=lambda tile: tile[:2])


def control_violations(table: pa.Table) -> Iterator[tuple[str, str]]:
    """(id, what is wrong) of rows of ``controls`` that break an invariant."""
    for row in table.to_pylist():
        text, control = row["text"], row["control"]
        if control not in CONTROLS:
            yield row["id"], f"control {control!r} is unknown"
        elif text is None or (control == "empty") != (text == ""):
            yield row["id"], "its text is missing, or not empty where it should be"
        elif control == "digits_masked" and re.search(r"\d", text):
            yield row["id"], "a digit remains in a text whose digits are masked"


VIOLATIONS = {"embeddings": embedding_violations, "controls": control_violations}
"""Config whose rows are not those of the release → (id, what is wrong) of a table of it."""
