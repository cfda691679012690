"""Gathers tiles as they pass through `package`, to compare synthetic with held-out real ones."""

import heapq
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from builder.core.errors import NotMade
from builder.core.manifest import TileComparison
from builder.core.seeds import generator, seed
from builder.core.store import Store
from builder.land.columns import KINDS, SPLITS
from builder.models.neighbours import matrix
from builder.quality.comparison import Tiles, compare
from builder.quality.statistics import FEATURES

SAMPLE = 2_000
"""Most tiles of a side, by hash of the id."""
WORKING = ("deviations", "discriminant_agreement")
"""Working columns that are compared, where a store has them."""
JUDGES = {"segmenter": "mask_agreement", "discriminant": "discriminant_agreement"}
TRAIN = SPLITS.index("train")
HELD_OUT, REAL_TRAIN, SYNTHETIC = "held out", "train", "synthetic"

Row = tuple[int, str, np.ndarray]
"""Hash and id of a tile; its realism, its agreements and its deviations."""


def working_columns(store: Store, shard: str) -> list[str]:
    """Those of `WORKING` that a shard has."""
    names = []
    for name in WORKING:
        try:
            store.find(shard, [name])
        except NotMade:
            continue
        names.append(name)
    return names


@dataclass
class TileSample:
    """A sample of the rows of a release on each side; memory does not grow with the rows."""

    rows: dict[str, list[Row]] = field(default_factory=dict)

    def see(self, kind: str, rows: pa.Table, working: pa.Table) -> None:
        """Take rows that are published; ``working`` has id and `WORKING` columns of the shard."""
        if "deviations" not in working.column_names or not rows.num_rows:
            return
        places = {row: i for i, row in enumerate(working.column("id").to_pylist())}
        ids = rows.column("id").to_pylist()
        beside = working.take(pa.array([places[row] for row in ids], pa.int64()))
        columns = {name: rows.column(name) for name in ("realism", "mask_agreement")}
        columns |= {name: beside.column(name) for name in working.column_names if name != "id"}
        known = columns["deviations"].is_valid().to_pylist()
        splits = rows.column("split").to_pylist()
        values = [_floats(columns.get(name), len(ids)) for name in ("realism", *JUDGES.values())]
        whole = columns["deviations"].drop_null()
        deviations = matrix(whole) if len(whole) else np.zeros((0, len(FEATURES)), np.float32)
        figures = np.concatenate([np.stack(values, axis=1)[known], deviations], axis=1)
        kept = [i for i, has in enumerate(known) if has]
        for i, own in zip(kept, figures, strict=True):
            # A copy: a row of the array would keep the whole shard in memory.
            self._keep(_side(kind, splits[i]), (seed("comparison", ids[i]), ids[i], own.copy()))

    def _keep(self, side: str, row: Row) -> None:
        rows = self.rows.setdefault(side, [])
        rows.append(row)
        if len(rows) >= 2 * SAMPLE:
            self.rows[side] = _first(rows)

    def compared(self, copies: int, drawn: int) -> TileComparison | None:
        """The comparison, beside ``copies`` of ``drawn`` tiles; None with too few tiles."""
        sides = {name: _tiles(_first(rows)) for name, rows in self.rows.items()}
        if not {HELD_OUT, SYNTHETIC} <= sides.keys():
            return None
        measured = compare(
            sides[HELD_OUT],
            sides[SYNTHETIC],
            sides.get(REAL_TRAIN),
            generator("comparison"),
        )
        return measured and measured.model_copy(update={"copies": copies, "drawn": drawn})


def _side(kind: str, split: int) -> str:
    if kind == KINDS[1]:
        return SYNTHETIC
    return REAL_TRAIN if split == TRAIN else HELD_OUT


def _first(rows: Sequence[Row]) -> list[Row]:
    return heapq.nsmallest(SAMPLE, rows, key=lambda row: row[:2])


def _floats(column: pa.ChunkedArray | None, n: int) -> np.ndarray:
    """Values of a column as floats, NaN for null and where there is no such column."""
    if column is None:
        return np.full(n, np.nan, np.float32)
    return np.asarray(column.cast(pa.float32()).to_numpy(), np.float32)


def _tiles(rows: Sequence[Row]) -> Tiles:
    figures = np.stack([own for _, _, own in rows]).astype(np.float64)
    judges = {name: figures[:, 1 + i] for i, name in enumerate(JUDGES)}
    return Tiles(
        deviations=figures[:, 1 + len(JUDGES) :],
        realism=figures[:, 0],
        agreement={name: values for name, values in judges.items() if np.isfinite(values).any()},
    )
