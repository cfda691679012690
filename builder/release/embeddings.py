"""The config ``embeddings``: vectors of a baseline, one row an image or a caption."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa

from builder.land.columns import SPLITS, arrow_schema, names_of

CONFIG = "embeddings"
TEXT = "{}#{}"
"""Id of a caption: id of its row and name of its stream."""


def parts(table: pa.Table) -> Iterator[tuple[str, pa.Table]]:
    """Split and rows of the config, from the store's columns id, split and vectors."""
    found: dict[str, list[dict[str, Any]]] = {}
    for row in table.select(["id", "split", "vectors"]).to_pylist():
        for one in row["vectors"] or ():
            stream = one["stream"]
            found.setdefault(SPLITS[row["split"]], []).append(
                {
                    "id": row["id"] if stream is None else TEXT.format(row["id"], stream),
                    "owner": None if stream is None else row["id"],
                    "stream": stream,
                    "vector": one["vector"],
                }
            )
    for split, rows in found.items():
        yield split, pa.Table.from_pylist(rows, arrow_schema(names_of(CONFIG)))


def violations(table: pa.Table) -> Iterator[tuple[str, str]]:
    """(id, what is wrong) of rows that break an invariant of the config."""
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
            yield row["id"], "has one of owner and stream, not both"
        elif owner is not None and row["id"] != TEXT.format(owner, stream):
            yield row["id"], "is not owner#stream"
