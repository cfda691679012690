"""Stage: what the segmenter sees in a tile: agreement with the mask, features, or the mask."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from builder.core.store import Store
from builder.land.classes import count_pixels
from builder.land.pictures import (
    COMPOSITION,
    composition_columns,
    decode_mask,
    decode_png,
    encode_png,
    image_bytes,
    image_column,
)
from builder.models.record import require
from builder.steps.stage import Maker, Output, Stage, setting


@dataclass(frozen=True)
class Segment(Stage):
    """``mask_agreement``: share of pixels on which the segmenter agrees with the tile's mask.
    ``features`` (of its encoder) is a working column for distances.

    With ``labels`` (synthetic rows whose published mask is the segmenter's) the agreement is
    with the layout that the tile was drawn on, null for ``blanks`` that have none, and the
    segmenter's ids become the mask.
    """

    labels: bool = False
    blanks: bool = False
    rows: tuple[str, ...] = setting(("real", "synthetic"))
    model: Path = setting(Path())
    batch: int = setting(16)

    gpus = 1

    @property
    def name(self) -> str:
        return "label" if self.labels else "segment"

    @property
    def kinds(self) -> tuple[str, ...]:
        return self.rows

    @property
    def reference(self) -> str:
        return "layout" if self.labels else "mask"

    @property
    def needs(self) -> tuple[str, ...]:
        return ("id", "image") if self.blanks else ("id", "image", self.reference)

    @property
    def adds(self) -> tuple[str, ...]:
        mask_columns = ("mask", *COMPOSITION, "gen_mask") if self.labels else ()
        return (*mask_columns, "mask_agreement", "features")

    def models(self) -> dict[str, str]:
        return {"segmenter": require(self.model, "segmenter").weights_sha256}

    def open(self, store: Store, survey: Any) -> Maker:
        from builder.models import segmenter

        model = segmenter.load(self.model)

        def make(table: pa.Table) -> Output:
            ids = table.column("id").to_pylist()
            images = image_bytes(table.column("image"))
            masks = [] if self.blanks else image_bytes(table.column(self.reference))
            agreement: list[float | None] = []
            features: list[Any] = []
            seen: list[Any] = []
            for start in range(0, len(ids), self.batch):
                names = ids[start : start + self.batch]
                tiles = np.stack([decode_png(images[start + i], n) for i, n in enumerate(names)])
                ids_seen, vectors = segmenter.look(model, tiles)
                for i, name in enumerate(names):
                    if self.blanks:
                        agreement.append(None)
                    else:
                        mask = decode_mask(masks[start + i], name)
                        agreement.append(float((mask == ids_seen[i]).mean()))
                    features.append(vectors[i])
                    seen.append(ids_seen[i])
            columns = {
                "mask_agreement": pa.array(agreement, pa.float32()),
                "features": pa.array(features, pa.list_(pa.float32())),
            }
            if self.labels:
                pngs = [row.split("/")[-1] + ".png" for row in ids]
                counts = np.array([count_pixels(mask) for mask in seen]).reshape(-1, 7)
                columns["mask"] = image_column([encode_png(mask) for mask in seen], pngs)
                columns["gen_mask"] = pa.array(["segmenter"] * len(ids))
                columns.update(composition_columns(counts))
            return Output(pa.table(columns))

        return make
