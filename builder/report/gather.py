"""Captions and image measures of a release, read once, without its pictures."""

import re
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from builder.pictures import per_class
from builder.release.read import metadata
from builder.schema import KINDS

SCORES = (
    *("grounding", "accuracy", "coverage", "f1", "chair_i", "layout", "tau_b", "leak"),
    *("percentages", "fabricated"),
)
CLIP = ("clip_cosine", "clip_score", "clip_tokens", "clip_truncated")
MEASURES = (
    *("mask_agreement", "realism", "nearest_real_ratio", "sharpness", "contrast"),
    *("colour_saturation", "cloudiness", "blankness", "saturated"),
)
"""Columns of numbers about the image that the report shows the distribution of."""

_SHARE = re.compile(r" [\d.e+-]+ %")
"""The tile's own share in a contradiction, without which like claims can be counted."""


@dataclass
class Stream:
    """Captions of one stream, gathered over all rows; flat lists of equal length."""

    ids: list[str] = field(default_factory=list)
    texts: list[str | None] = field(default_factory=list)
    kinds: list[int] = field(default_factory=list)
    dominant: list[int] = field(default_factory=list)
    shares: list[npt.NDArray[np.float64]] = field(default_factory=list)
    clusters: list[str | None] = field(default_factory=list)
    scores: dict[str, list[float | None]] = field(default_factory=dict)
    contradictions: dict[str, Counter[str]] = field(default_factory=dict)
    """By kind, how many captions contradict the land cover in these words."""


@dataclass
class Images:
    """Image measures by row; flat lists of equal length. A part is ``kind split``."""

    ids: list[str] = field(default_factory=list)
    parts: list[str] = field(default_factory=list)
    clusters: list[str | None] = field(default_factory=list)
    """Near-duplicate clusters."""
    measures: dict[str, list[float | None]] = field(
        default_factory=lambda: {name: [] for name in MEASURES}
    )


def gather(release: Path) -> tuple[dict[str, Stream], Images]:
    """Every caption by stream, and every row's image measures."""
    streams: dict[str, Stream] = {}
    images = Images()
    columns = ("id", "kind", "dominant", "pixels", "captions", "caption_scores", *MEASURES)
    for split, table in metadata(release, (*columns, "near_duplicate_cluster")):
        counts = per_class(table.column("pixels")).astype(float)
        shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
        rows = table.select(["id", "kind", "dominant", "captions", "caption_scores"]).to_pylist()
        images.ids += [row["id"] for row in rows]
        images.parts += [f"{KINDS[row['kind']]} {split}" for row in rows]
        images.clusters += table.column("near_duplicate_cluster").to_pylist()
        for name, values in images.measures.items():
            values += table.column(name).to_pylist()
        for row, share in zip(rows, shares, strict=True):
            for caption, score in zip(row["captions"], row["caption_scores"], strict=True):
                one = streams.setdefault(caption["stream"], Stream())
                _add(one, row, share, caption["text"], score)
    return streams, images


def _add(one: Stream, row: dict[str, Any], share: Any, text: str | None, score: Any) -> None:
    one.ids.append(row["id"])
    one.texts.append(text)
    one.kinds.append(row["kind"])
    one.dominant.append(row["dominant"])
    one.shares.append(share)
    one.clusters.append(score["near_duplicate_cluster"])
    for name in (*SCORES, *CLIP):
        one.scores.setdefault(name, []).append(score[name])
    said = {_SHARE.sub("", claim, count=1) for claim in score["contradictions"] or ()}
    one.contradictions.setdefault(KINDS[row["kind"]], Counter()).update(said)
