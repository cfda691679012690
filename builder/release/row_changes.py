"""Which rows differ between two releases, row by row; `builder.release.diff` counts them."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from builder.core.manifest import read_manifest
from builder.land.columns import BLOB_DIGESTS, DERIVED
from builder.release.diff import PARTS, column_types, read_side, same_ids


@dataclass(frozen=True)
class RowChanges:
    """Ids that only the newer or only the older release has, in its order; ``changed`` is id →
    columns with other values, ``split`` for a row that moved."""

    added: list[str]
    removed: list[str]
    changed: dict[str, tuple[str, ...]]


def row_changes(old: Path, new: Path) -> RowChanges:
    """Compare two release directories row by row. Raises ArasError as `diff.compare`."""
    manifests = [read_manifest(path) for path in (old, new)]
    kinds = [column_types(path, m) for path, m in zip((old, new), manifests, strict=True)]
    both = [n for n in kinds[0] if kinds[1].get(n) == kinds[0][n] and n not in DERIVED]
    before, after = (
        read_side(path, m, both) for path, m in zip((old, new), manifests, strict=True)
    )
    place = pc.index_in(after.ids, value_set=before.ids)
    is_new = pc.is_null(place).to_numpy(zero_copy_only=False)
    kept, was = np.flatnonzero(~is_new), place.drop_null().to_numpy()
    gone = np.ones(len(before.ids), dtype=bool)
    gone[was] = False
    columns: dict[int, list[str]] = {}

    def note(name: str, differs: np.ndarray) -> None:
        for row in kept[differs].tolist():
            columns.setdefault(row, []).append(name)

    moved = np.array(PARTS)[before.parts[was]] != np.array(PARTS)[after.parts[kept]]
    note("split", np.flatnonzero(moved))
    for name in before.hashes:
        differs = np.flatnonzero(before.hashes[name][was] != after.hashes[name][kept])
        shown = BLOB_DIGESTS.get(name, name)
        if shown == "mask" and len(differs):
            ids = after.ids.take(pa.array(kept[differs]))
            differs = differs[~same_ids((old, new), manifests, ids)]
        note(shown, differs)
    ids = after.ids.to_pylist()
    return RowChanges(
        added=[ids[i] for i in np.flatnonzero(is_new)],
        removed=before.ids.take(pa.array(np.flatnonzero(gone))).to_pylist(),
        changed={ids[i]: tuple(columns[i]) for i in sorted(columns)},
    )
