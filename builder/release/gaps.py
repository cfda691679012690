"""How far each row of a split lies from the train tiles: what is near is not a fair test."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from builder.land.columns import SPLITS
from builder.land.pictures import per_class
from builder.release.rows import metadata
from builder.tiles.split import nearest_gap

MIN_KM = 1.0
"""A test tile whose edge is nearer than this to a train tile's is not an independent test."""


def gaps(
    release: Path, table: pa.Table, split: str, min_km: float
) -> npt.NDArray[np.float64] | None:
    """Kilometres from each row to the nearest real train tile; None where places are unknown."""
    if split == SPLITS[0]:
        return None
    train = [
        _places(part)
        for name, part in metadata(release, ("longitude", "latitude"))
        if name == SPLITS[0]
    ]
    here = _places(table)
    known = ~np.isnan(here).any(axis=1)
    others = np.concatenate(train) if train else np.empty((0, 2))
    others = others[~np.isnan(others).any(axis=1)]
    if not known.any() or not len(others):
        return None
    first = int(np.argmax(known))
    size = abs(table["transform"][first].as_py()[0]) * np.sqrt(
        per_class(table["pixels"])[first].sum()
    )
    out = np.full(len(here), np.inf)
    out[known] = nearest_gap(here[known], others, float(size), min_km)
    return out


def _places(table: pa.Table) -> npt.NDArray[np.float64]:
    columns = [table.column(name).to_numpy() for name in ("longitude", "latitude")]
    return np.stack([np.asarray(column, dtype=np.float64) for column in columns], axis=1)
