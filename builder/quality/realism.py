"""Realism: how deep inside the real manifold a feature vector lies (Kynkäänniemi et al. 2019)."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from builder.core.store import Store
from builder.land.columns import SPLITS
from builder.models.neighbours import matrix, nearest
from builder.steps.stage import Maker, Output, Scan, Stage

TRAIN = SPLITS.index("train")

K = 3
"""Neighbour whose distance is the radius around a real image, as in the paper."""

MOST = 100.0
"""Largest realism that is given: that of a vector equal to a real vector has no bound."""

Floats = npt.NDArray[np.floating]


@dataclass(frozen=True)
class Manifold:
    """Balls around real images: their centres (m, d), the distance from each to its k-th nearest
    other image (m,), and the numbers (m,) of the images.

    The half of the images with the largest radii has no ball, as in the paper: an image in a
    sparse place does not make everything far around it count as real.
    """

    centres: Floats
    radii: npt.NDArray[np.float64]
    numbers: npt.NDArray[np.int64]

    @classmethod
    def of(cls, features: Floats, k: int = K) -> "Manifold | None":
        """None for k or fewer images (n, d), which have no k-th neighbour."""
        if len(features) <= k:
            return None
        radii = nearest(features, features, k + 1)[1][:, k]
        small = np.flatnonzero(radii <= np.median(radii))
        return cls(features[small], radii[small], small)

    def realism(self, queries: Floats, own: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
        """(n,) the largest radius / distance over all balls, at most `MOST`: 1 and more is inside.

        ``own`` (n,) is the number of the image that a query is itself, −1 for none: an image does
        not vouch for itself.
        """
        a, b = np.asarray(queries, np.float64), np.asarray(self.centres, np.float64)
        square = (a**2).sum(axis=1)[:, None] + (b**2).sum(axis=1) - 2 * a @ b.T
        gap = np.sqrt(np.maximum(square, 1e-24))
        gap[self.numbers == own[:, None]] = np.inf
        return np.asarray(np.minimum((self.radii / gap).max(axis=1, initial=0.0), MOST))


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
            train = np.array([split == TRAIN for split in table.column("split").to_pylist()], bool)
            if train.any():
                ids += [i for i, t in zip(table.column("id").to_pylist(), train, strict=True) if t]
                parts.append(matrix(table.column("features"))[train])
        features = np.concatenate(parts[1:]) if ids else parts[0]
        return {row: i for i, row in enumerate(ids)}, Manifold.of(features, self.k)

    def open(self, store: Store, survey: tuple[dict[str, int], Manifold | None]) -> Maker:
        numbers, manifold = survey

        def make(table: pa.Table) -> Output:
            if manifold is None or not table.num_rows:
                return Output(pa.table({"realism": pa.nulls(table.num_rows, pa.float32())}))
            own = np.array([numbers.get(row, -1) for row in table.column("id").to_pylist()], int)
            values = manifold.realism(matrix(table.column("features")), own)
            return Output(pa.table({"realism": pa.array(values, pa.float32())}))

        return make
