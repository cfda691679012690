"""Stage: what the pixels of a tile say of its quality, and what finds its duplicates."""

from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from builder.pictures import decode_png, image_bytes
from builder.quality import pixels
from builder.quality.duplicates import pixel_digest, thumbnail
from builder.quality.neighbours import perceptual_hash
from builder.stage import Made, Maker, Stage
from builder.store import Store


@dataclass(frozen=True)
class Quality(Stage):
    """`pixels.MEASURES`, and as working columns ``pixel_sha256``, ``phash`` and ``thumbnail``.

    One stage per kind, because the split, which synthetic tiles wait for, looks for duplicates
    among the real ones.
    """

    kind: str = "real"

    needs = ("id", "image")
    adds = (*pixels.MEASURES, "pixel_sha256", "phash", "thumbnail")

    @property
    def name(self) -> str:
        return f"quality-{self.kind}"

    @property
    def kinds(self) -> tuple[str, ...]:
        return (self.kind,)

    def open(self, store: Store, survey: Any) -> Maker:
        return _make


def _make(table: pa.Table) -> Made:
    names = table.column("id").to_pylist()
    columns: dict[str, list[Any]] = {name: [] for name in Quality.adds}
    for data, name in zip(image_bytes(table.column("image")), names, strict=True):
        image = decode_png(data, name)
        for measure, value in pixels.measure(image).items():
            columns[measure].append(value)
        columns["pixel_sha256"].append(pixel_digest(image))
        columns["phash"].append(perceptual_hash(image))
        columns["thumbnail"].append(thumbnail(image))
    kinds = {"pixel_sha256": pa.string(), "phash": pa.uint64(), "thumbnail": pa.binary()}
    arrays = {name: pa.array(some, kinds.get(name, pa.float32())) for name, some in columns.items()}
    return Made(pa.table(arrays))
