"""What the page shows of a tile: captions with their claims, composition, scores, provenance."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from builder.explore.claims import Marked, mark
from builder.land.pictures import per_class
from builder.land.times import Time
from builder.scores import lexicon as lexicons
from builder.scores.lexicon import Lexicon

SHOWN_AS_THEY_ARE = (
    *("block", "source", "crs", "transform", "longitude", "latitude", "georeference"),
    *("gen_model", "gen_revision", "gen_seed", "gen_layout", "gen_transform", "gen_mask"),
    *("gen_config_sha256", "nearest_real_id", "copy", "flags", "image_sha256", "mask_sha256"),
    *("duplicate_cluster", "near_duplicate_cluster", "shard"),
)
"""Columns that are shown as they are, where they have a value."""
MEASURES = (
    *("mask_agreement", "realism", "nearest_real_ratio", "sharpness", "contrast"),
    *("colour_saturation", "cloudiness", "blankness", "saturated"),
)
SHOWN = (
    *("grounding", "accuracy", "coverage", "chair_i", "layout", "leak", "fabricated"),
    *("n_words", "clip_cosine", "clip_truncated"),
)
"""Scores of a caption that are shown."""
ALIKE = 24
"""Rows of a cluster of duplicates that are shown."""


@dataclass
class Clusters:
    """Rows that share a cluster of duplicates, by column and cluster."""

    rows: dict[tuple[str, str], list[int]] = field(default_factory=dict)

    def see(self, first: int, table: pa.Table) -> None:
        for name in ("duplicate_cluster", "near_duplicate_cluster"):
            if name in table.column_names:
                for i, cluster in enumerate(table.column(name).to_pylist()):
                    if cluster is not None:
                        self.rows.setdefault((name, cluster), []).append(first + i)

    def beside(self, row: int, values: Mapping[str, Any]) -> list[int]:
        """The other rows of the clusters of a row."""
        alike: dict[int, None] = {}
        for name in ("duplicate_cluster", "near_duplicate_cluster"):
            if (cluster := values.get(name)) is not None:
                alike |= dict.fromkeys(self.rows.get((name, cluster), ()))
        alike.pop(row, None)
        return list(alike)[:ALIKE]


def row_digest(row_id: str, stream: str, text: str, image: str, mask: str) -> str:
    """What a mark of a reader is about: equal digests, the same caption (or mask) of a tile."""
    return hashlib.sha256("\x1f".join((row_id, stream, text, image, mask)).encode()).hexdigest()[
        :16
    ]


@dataclass
class Details:
    """Makes the JSON objects of rows; ``places`` is id → row."""

    places: Mapping[str, int]
    clusters: Clusters
    lexicon: Lexicon = field(default_factory=lexicons.load)

    def of(self, first: int, table: pa.Table) -> list[dict[str, Any]]:
        """An object per row; ``first`` is the number of the first."""
        rows = table.to_pylist()
        pixels = per_class(table.column("pixels"))
        shares = pixels / np.maximum(pixels.sum(axis=1, keepdims=True), 1)
        marked = self._marked(rows, np.where(pixels.sum(axis=1, keepdims=True) > 0, shares, np.nan))
        return [
            self._row(first + i, row, pixels[i].tolist(), own)
            for i, (row, own) in enumerate(zip(rows, marked, strict=True))
        ]

    def _marked(self, rows: list[dict[str, Any]], shares: Any) -> list[list[Marked]]:
        owners = [i for i, row in enumerate(rows) for _ in row.get("captions") or ()]
        texts = [caption["text"] for row in rows for caption in row.get("captions") or ()]
        scores = [
            (row.get("caption_scores") or [{}] * len(row["captions"]))[k] or {}
            for row in rows
            for k in range(len(row.get("captions") or ()))
        ]
        marked = mark(
            texts,
            shares[owners].reshape(-1, shares.shape[1]),
            [score.get("contradictions") for score in scores],
            [score.get("layout") for score in scores],
            self.lexicon,
        )
        by_row: list[list[Marked]] = [[] for _ in rows]
        for owner, caption in zip(owners, marked, strict=True):
            by_row[owner].append(caption)
        return by_row

    def _row(
        self, number: int, row: dict[str, Any], pixels: list[int], marked: list[Marked]
    ) -> dict[str, Any]:
        row_id = row["id"]
        image, mask = row.get("image_sha256") or "", row.get("mask_sha256") or ""
        captions = []
        scores = row.get("caption_scores") or ()
        for k, caption in enumerate(row.get("captions") or ()):
            own = scores[k] if k < len(scores) and scores[k] else {}
            captions.append(
                {
                    "stream": caption["stream"],
                    "model": caption.get("model"),
                    "revision": caption.get("revision"),
                    "error": caption.get("error"),
                    "pieces": marked[k].pieces,
                    "claims": marked[k].claims,
                    "contradictions": own.get("contradictions") or [],
                    "repeats": own.get("near_duplicate_cluster"),
                    "scores": {n: _number(own[n]) for n in SHOWN if own.get(n) is not None},
                    "digest": row_digest(
                        row_id, caption["stream"], caption["text"] or "", image, mask
                    ),
                }
            )
        facts = {name: row[name] for name in SHOWN_AS_THEY_ARE if row.get(name) not in (None, [])}
        first, last = row.get("start_datetime"), row.get("end_datetime")
        if first and last:
            facts["taken"] = Time(first, last).words()
        return {
            "id": row_id,
            "pixels": pixels,
            "published": list((row.get("percent_published") or {}).values()),
            "captions": captions,
            "facts": facts,
            "measures": {n: _number(row[n]) for n in MEASURES if row.get(n) is not None},
            "nearest": self.places.get(row.get("nearest_real_id") or ""),
            "layout": self.places.get(row.get("gen_layout") or ""),
            "alike": self.clusters.beside(number, row),
            "digest": row_digest(row_id, "", "", image, mask),
        }


def _number(value: float | bool) -> float | bool | None:
    if isinstance(value, bool):
        return value
    return round(value, 5) if np.isfinite(value) else None
