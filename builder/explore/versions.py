"""Two releases as pictures: which rows were added, removed and changed, for the page."""

from pathlib import Path
from typing import Any

from builder.core.errors import ArasError
from builder.explore.files import write_packed_json
from builder.land.columns import LOCATIONS
from builder.parts.opened import OpenRelease, Request
from builder.parts.sources import Folder
from builder.release.row_changes import row_changes

MOST = 20_000
"""Rows of each kind of change that the page shows; it says how many there are."""


def write_changes(old: OpenRelease, new: OpenRelease, folder: Path) -> dict[str, Any]:
    """Write ``changes.bin``; what the page's head says of it.

    Raises ArasError where either is not in a folder: rows are compared by all their columns.
    """
    roots = []
    for release in (old, new):
        if not isinstance(release.source, Folder):
            raise ArasError(
                f"{release.source.address}: only releases in folders are compared; take it with "
                "`aras get` first"
            )
        roots.append(release.source.root)
    changes = row_changes(roots[0], roots[1])
    asked = dict.fromkeys([*changes.removed[:MOST], *list(changes.changed)[:MOST]])
    before = _before(old, set(asked))
    kinds = {"added": changes.added, "removed": changes.removed, "changed": list(changes.changed)}
    rows = [
        {
            "id": row_id,
            "what": kind,
            "columns": changes.changed.get(row_id, ()),
            "old": before.get(row_id),
        }
        for kind, ids in kinds.items()
        for row_id in ids[:MOST]
    ]
    write_packed_json(folder / "changes.bin", {"rows": rows, "shards": list(old.sizes)})
    counts = {kind: len(ids) for kind, ids in kinds.items()}
    return {"version": old.manifest.version, "counts": counts, "shown": len(rows)}


def _before(old: OpenRelease, ids: set[str]) -> dict[str, dict[str, Any]]:
    """Places and captions of these rows in the older release."""
    held = old.columns().names
    names = [name for name in ("id", *LOCATIONS, "captions") if name in held]
    rows = {}
    for table in old.light(old.choose(Request()), names):
        for row in table.to_pylist():
            if row["id"] in ids:
                captions = {c["stream"]: c["text"] for c in row.get("captions") or ()}
                rows[row["id"]] = {**{n: row.get(n) for n in LOCATIONS}, "captions": captions}
    return rows
