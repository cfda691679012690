"""Maker of a store with a few tiles in it, as `tiles` and `split` would leave it."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from builder.core.store import Store
from builder.land.classes import count_pixels
from builder.land.columns import SPLITS
from builder.land.pictures import composition_columns, encode_png, image_column
from tests.makers.products import land, reflect, shown


def make_store(
    root: Path, splits: Sequence[str | None], size: int = 64, seed: int = 0, per_shard: int = 4
) -> Store:
    """One tile per entry of ``splits`` (None: set aside), ``per_shard`` to a shard."""
    store = Store(root)
    for first in range(0, len(splits), per_shard):
        part = range(first, min(first + per_shard, len(splits)))
        masks = [land((size, size), seed=1000 * seed + i, grain=size / 8) for i in part]
        images = [
            shown(reflect(mask, i)[:3]).transpose(1, 2, 0)
            for i, mask in zip(part, masks, strict=True)
        ]
        names = [f"{i}.png" for i in part]
        table = pa.table(
            {
                "id": pa.array([f"real/{i:03d}" for i in part]),
                "image": image_column([encode_png(np.ascontiguousarray(i)) for i in images], names),
                "mask": image_column([encode_png(mask) for mask in masks], names),
                **composition_columns(np.stack([count_pixels(mask) for mask in masks])),
            }
        )
        ids = [None if splits[i] is None else SPLITS.index(splits[i]) for i in part]
        store.write("tiles", f"real-X-{first:03d}", table, key="k")
        chosen = pa.table({"split": pa.array(ids, pa.int64())})
        store.write("split", f"real-X-{first:03d}", chosen, key="k")
    return store
