"""Stage: what a tile looks like turned and flipped, for the search for copies.

Training crops are turned and flipped, and so are the layouts of repeats, so a copy of a train
tile need not stand upright.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from builder.pictures import decode_png, image_bytes
from builder.quality.neighbours import perceptual_hash
from builder.schema import SPLITS
from builder.stage import Made, Maker, Stage, setting
from builder.store import Store

TEST = SPLITS.index("test")
SYMMETRIES = 8
"""Of a square: four quarter turns, of the tile as it is and of its mirror image."""


@dataclass(frozen=True)
class Turned(Stage):
    """``turned_features`` and ``turned_hashes`` of the seven turns and flips of a tile besides
    itself, of every synthetic row and, to know what is usual, of every real test row; null for
    other rows. The features are `Segment`'s: seven forward passes a tile.
    """

    kind: str = "synthetic"
    model: Path = setting(Path())

    gpus = 1
    adds = ("turned_features", "turned_hashes")

    @property
    def name(self) -> str:
        return f"turned-{self.kind}"

    @property
    def kinds(self) -> tuple[str, ...]:
        return (self.kind,)

    @property
    def needs(self) -> tuple[str, ...]:
        return ("id", "image", "split") if self.kind == "real" else ("id", "image")

    def models(self) -> dict[str, str]:
        from builder.models import training

        return {"segmenter": training.require(self.model, "segmenter")["weights_sha256"]}

    def open(self, store: Store, survey: Any) -> Maker:
        from builder.models import segmenter

        model = segmenter.load(self.model)

        def make(table: pa.Table) -> Made:
            ids = table.column("id").to_pylist()
            wanted = [True] * len(ids)
            if self.kind == "real":
                wanted = [one == TEST for one in table.column("split").to_pylist()]
            features: list[Any] = [None] * len(ids)
            hashes: list[Any] = [None] * len(ids)
            images = image_bytes(table.column("image"))
            for i in np.flatnonzero(wanted):
                others = symmetries(decode_png(images[i], ids[i]))[1:]
                features[i] = segmenter.look(model, others)[1].ravel()
                hashes[i] = [perceptual_hash(one) for one in others]
            columns = {
                "turned_features": pa.array(features, pa.list_(pa.float32())),
                "turned_hashes": pa.array(hashes, pa.list_(pa.uint64())),
            }
            return Made(pa.table(columns))

        return make


def symmetries(image: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """The eight turns and flips of a square (s, s, 3) tile, (8, s, s, 3), itself first."""
    mirrored = (image, image[:, ::-1])
    return np.stack([np.rot90(one, turns) for one in mirrored for turns in range(4)])
