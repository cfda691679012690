"""Stage: how near every synthetic tile comes to a real train tile, against what is usual.

A generator that copies its training data betrays itself by synthetic tiles nearer to a train
tile than unseen real tiles are. Distances are Euclidean in `Segment`'s features, and exact.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from builder.errors import ArasError
from builder.quality.neighbours import hamming, nearest
from builder.schema import SPLITS
from builder.stage import Made, Maker, Scan, Stage
from builder.stages.segment import matrix
from builder.store import Store

TRAIN, TEST = SPLITS.index("train"), SPLITS.index("test")


@dataclass(frozen=True)
class Gallery:
    """Train tiles, and the usual distance: the median from a real test tile to its nearest."""

    ids: list[str]
    features: npt.NDArray[np.float32]
    hashes: npt.NDArray[np.uint64]
    usual: float


@dataclass(frozen=True)
class Memorize(Stage):
    """``nearest_real_ratio``: distance to the nearest train tile over the usual distance.

    A tile is a ``copy`` when its ratio is below ``copy_ratio``, or when its perceptual hash
    differs from that of its nearest train tile in at most ``copy_bits`` bits.
    """

    copy_ratio: float = 0.3
    copy_bits: int = 4

    kinds = ("synthetic",)
    light = True
    needs = ("id", "features", "phash")
    surveys = ("id", "split", "features", "phash")
    surveyed = ("real",)
    adds = ("nearest_real_id", "nearest_real_ratio", "copy")

    def survey(self, scan: Scan) -> Gallery:
        """Raises ArasError when there are no train or no test tiles to calibrate with."""
        ids: list[str] = []
        train, test, hashes = [], [], []
        for _, table in scan(self.surveys):
            splits = np.array([-1 if s is None else s for s in table.column("split").to_pylist()])
            features = matrix(table.column("features"))
            names = np.array(table.column("id").to_pylist(), dtype=object)
            if not len(names):
                continue
            ids += names[splits == TRAIN].tolist()
            train.append(features[splits == TRAIN])
            test.append(features[splits == TEST])
            hashes.append(table.column("phash").to_numpy()[splits == TRAIN])
        if not ids or not any(len(one) for one in test):
            raise ArasError(
                "memorisation is measured against real train and test tiles, and one of them is "
                "empty: change shares, block or buffer_km in [split]"
            )
        gallery = np.concatenate(train)
        usual = float(np.median(nearest(np.concatenate(test), gallery)[1]))
        if usual == 0:
            raise ArasError("half of the real test tiles are the same as a train tile: check them")
        return Gallery(ids, gallery, np.concatenate(hashes), usual)

    def open(self, store: Store, survey: Gallery) -> Maker:
        def make(table: pa.Table) -> Made:
            places, gap = nearest(matrix(table.column("features")), survey.features)
            ratio = gap[:, 0] / survey.usual
            bits = hamming(table.column("phash").to_numpy(), survey.hashes[places[:, 0]])
            copy = (ratio < self.copy_ratio) | (bits <= self.copy_bits)
            columns: dict[str, Any] = {
                "nearest_real_id": pa.array([survey.ids[i] for i in places[:, 0]], pa.string()),
                "nearest_real_ratio": pa.array(ratio, pa.float32()),
                "copy": pa.array(copy),
            }
            return Made(pa.table(columns), {"copies": int(copy.sum())})

        return make
