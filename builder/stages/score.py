"""Stage: how grounded one caption stream is in the tiles' land cover, and what it gives away."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from builder.landcover import CLASSES
from builder.pictures import decode_mask, image_bytes, per_class
from builder.schema import CAPTION_SCORE, SCORE_PREFIX, STREAM_PREFIX
from builder.stage import Made, Maker, Stage, setting
from builder.store import Store


@dataclass(frozen=True)
class Score(Stage):
    """One struct of scores per caption; null values where there is no caption to score, and where
    there is no composition or mask that a value needs.

    ``lexicon`` is laid over the built-in one; its content, not its path, is in the key.
    """

    stream: str = "full"
    lexicon: Path | None = setting(None)

    light = True

    @property
    def name(self) -> str:
        return f"score-{self.stream}"

    @property
    def needs(self) -> tuple[str, ...]:
        return ("id", "mask", "pixels", f"{STREAM_PREFIX}{self.stream}")

    @property
    def adds(self) -> tuple[str, ...]:
        return (f"{SCORE_PREFIX}{self.stream}",)

    def models(self) -> dict[str, str]:
        from builder.scores import lexicon

        return {"lexicon": lexicon.load(self.lexicon).sha256}

    def open(self, store: Store, survey: Any) -> Maker:
        from builder.scores import lexicon
        from builder.scores.grounding import score_captions

        words = lexicon.load(self.lexicon)

        def make(table: pa.Table) -> Made:
            names = table.column("id").to_pylist()
            texts = [one["text"] for one in table.column(self.needs[-1]).to_pylist()]
            shares = _shares(table.column("pixels"))
            masks = [
                decode_mask(one, name) if one else None
                for one, name in zip(image_bytes(table.column("mask")), names, strict=True)
            ]
            scores = score_captions(texts, shares, masks, lexicon=words)
            cells = [scores.column(field.name).combine_chunks() for field in CAPTION_SCORE]
            column = pa.StructArray.from_arrays(
                [cell.cast(field.type) for cell, field in zip(cells, CAPTION_SCORE, strict=True)],
                fields=list(CAPTION_SCORE),
            )
            return Made(pa.table({self.adds[0]: column}))

        return make


def _shares(pixels: pa.ChunkedArray) -> npt.NDArray[np.float64]:
    """(n, 7) shares; NaN where there are no pixel counts."""
    known = pixels.is_valid().to_numpy()
    counts = np.full((len(pixels), len(CLASSES)), np.nan)
    counts[known] = per_class(pixels.filter(pa.array(known)))
    total = counts.sum(axis=1, keepdims=True)
    return np.asarray(counts / np.where(total > 0, total, np.nan))
