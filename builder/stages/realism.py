"""Stage: how deep inside the manifold of real train tiles every tile lies."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from builder.quality.neighbours import matrix
from builder.quality.realism import K, Manifold
from builder.schema import SPLITS
from builder.stage import Made, Maker, Scan, Stage
from builder.store import Store

TRAIN = SPLITS.index("train")


@dataclass(frozen=True)
class Realism(Stage):
    """``realism`` in `Segment`'s features against the real train tiles, a train tile against the
    others; null where there are too few of them. Real test tiles show what is usual.
    """

    k: int = K

    light = True
    needs = ("id", "features")
    surveys = ("id", "split", "features")
    surveyed = ("real",)
    adds = ("realism",)

    def survey(self, scan: Scan) -> tuple[dict[str, int], Manifold | None]:
        """The number of every real train tile by id, and their manifold."""
        ids: list[str] = []
        parts = [np.zeros((0, 0), dtype=np.float32)]
        for _, table in scan(self.surveys):
            train = np.array([one == TRAIN for one in table.column("split").to_pylist()], bool)
            if train.any():
                ids += [i for i, t in zip(table.column("id").to_pylist(), train, strict=True) if t]
                parts.append(matrix(table.column("features"))[train])
        features = np.concatenate(parts[1:]) if ids else parts[0]
        return {one: i for i, one in enumerate(ids)}, Manifold.of(features, self.k)

    def open(self, store: Store, survey: tuple[dict[str, int], Manifold | None]) -> Maker:
        numbers, manifold = survey

        def make(table: pa.Table) -> Made:
            if manifold is None or not table.num_rows:
                return Made(pa.table({"realism": pa.nulls(table.num_rows, pa.float32())}))
            own = np.array([numbers.get(one, -1) for one in table.column("id").to_pylist()], int)
            values = manifold.realism(matrix(table.column("features")), own)
            return Made(pa.table({"realism": pa.array(values, pa.float32())}))

        return make
