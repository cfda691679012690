"""Stage: what the segmenter sees in a tile: agreement with the mask, features, or the mask."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from builder.core.errors import ArasError
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
from builder.quality.embed import finite
from builder.steps.stage import Maker, Output, Stage, each, setting

_FEATURES = pa.list_(pa.float32())


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

            def decode(i: int, name: str) -> tuple[Any, Any]:
                image = decode_png(images[i], name)
                if self.blanks:
                    return image, None
                mask = decode_mask(masks[i], name)
                if mask.shape != image.shape[:2] or image.ndim != 3:
                    raise ArasError(
                        f"image and {self.reference} differ in size: {image.shape}, {mask.shape}"
                    )
                return image, mask

            seen: dict[int, Seen] = {}
            failed: dict[int, str] = {}
            for start in range(0, len(ids), self.batch):
                part = range(start, min(start + self.batch, len(ids)))
                whole, lost = each(ids, decode, part)
                failed |= lost
                for shape in dict.fromkeys(image.shape for image, _ in whole.values()):
                    alike = {i: tile for i, tile in whole.items() if tile[0].shape == shape}
                    looks = segmenter.look(model, np.stack([image for image, _ in alike.values()]))
                    for (i, (_, mask)), classes, vector in zip(alike.items(), *looks, strict=True):
                        agreement = None if mask is None else float((mask == classes).mean())
                        seen[i] = Seen(classes, agreement, vector)
            kept, lost = each(ids, lambda i, _: seen[i].finite(), seen)
            failed |= lost
            rows = [kept.get(i) for i in range(len(ids))]
            columns = {
                "mask_agreement": pa.array([row and row.agreement for row in rows], pa.float32()),
                "features": pa.array([row and row.features for row in rows], _FEATURES),
            }
            if self.labels:
                columns |= _labels(ids, rows)
            return Output(pa.table(columns), failed=failed)

        return make


class Seen(NamedTuple):
    """What the segmenter sees in a tile."""

    classes: npt.NDArray[np.uint8]
    agreement: float | None
    features: npt.NDArray[np.float32]

    def finite(self) -> "Seen":
        """Itself. Raises ArasError for features that are not finite numbers."""
        finite(self.features)
        return self


def _labels(ids: list[str], rows: list[Seen | None]) -> dict[str, pa.Array]:
    """The columns of a mask that the segmenter made; those of a failed row are not read."""
    blank = np.zeros((1, 1), dtype=np.uint8)
    masks = [blank if row is None else row.classes for row in rows]
    pngs = [row.split("/")[-1] + ".png" for row in ids]
    counts = np.array([count_pixels(mask) for mask in masks]).reshape(-1, 7)
    return {
        "mask": image_column([encode_png(mask) for mask in masks], pngs),
        "gen_mask": pa.array(["segmenter"] * len(ids)),
        **composition_columns(counts),
    }
