"""Stage: vectors of every image by a pretrained model, for CLIP scores or for set distances."""

from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from builder.models.pretrained import Weights
from builder.pictures import decode_png, image_bytes
from builder.stage import Made, Maker, Stage, setting
from builder.store import Store

COLUMNS = {"clip": "image_vector", "features": "embedding"}
"""What the vectors are for → the working column that holds them."""


@dataclass(frozen=True)
class Encode(Stage):
    """``image_vector``: a CLIP's vectors, of length 1; ``embedding``: the features of any model."""

    role: str = "features"
    weights: Weights = setting(Weights(""))
    batch: int = setting(32)

    needs = ("id", "image")
    gpus = 1

    @property
    def name(self) -> str:
        return f"encode-{self.role}"

    @property
    def adds(self) -> tuple[str, ...]:
        return (COLUMNS[self.role],)

    def models(self) -> dict[str, str]:
        return {self.role: self.weights.digest()}

    def open(self, store: Store, survey: Any) -> Maker:
        from builder.models import pretrained

        if self.role == "clip":
            encode = pretrained.clip(self.weights).images
        else:
            encode = pretrained.vision(self.weights)

        def make(table: pa.Table) -> Made:
            names = table.column("id").to_pylist()
            data = image_bytes(table.column("image"))
            found: list[Any] = []
            for start in range(0, len(names), self.batch):
                part = slice(start, start + self.batch)
                pictures = zip(data[part], names[part], strict=True)
                found += list(encode([decode_png(one, name) for one, name in pictures]))
            return Made(pa.table({self.adds[0]: pa.array(found, pa.list_(pa.float32()))}))

        return make
