"""Figures of one caption stream: repetition, grounding against nulls, leakage."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from builder.core.seeds import seed
from builder.land.classes import CLASSES
from builder.land.columns import KINDS
from builder.land.pictures import per_class
from builder.land.score_columns import scores_of, shown_in
from builder.release.read import metadata
from builder.scores.leakage import null_grounding, source_leak, structural_leakage
from builder.scores.redundancy import Redundancy

SCORES, CLIP = (tuple(scores_of(stage, "report")) for stage in ("score", "clip"))
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


SAMPLE = 5_000
"""Most captions of a stream that the leakage models and nulls are fitted on, by hash of the id."""
BINS = np.linspace(0, 1, 21)
HISTOGRAMS = shown_in("histogram")
"""Scores whose distribution is shown."""
CONTRADICTIONS = 5
"""Most contradictions told of each kind of rows."""

Features = Mapping[str, npt.NDArray[np.float32]]
"""Row id → image features."""


def figures(one: Stream, features: Features | None = None) -> dict[str, Any]:
    """Everything about one stream. ``features`` holds those of the rows of `sample`."""
    repeats = Redundancy()
    repeats.add(pa.array(one.texts, pa.string()))
    chosen = sample(one)
    texts = [one.texts[i] or "" for i in chosen]
    ids = [one.ids[i] for i in chosen]
    shares = np.array([one.shares[i] for i in chosen]).reshape(-1, len(CLASSES))
    seen = None if features is None or not ids else np.stack([features[name] for name in ids])
    told = {
        "captions": sum(text is not None for text in one.texts),
        "failed": sum(text is None for text in one.texts),
        "redundancy": {name: asdict(count) for name, count in repeats.summary().items()},
        "near_duplicates": near_duplicates(one),
        "means": {kind: _means(one, k) for k, kind in enumerate(KINDS)},
        "grounding_by_class": {kind: _by_class(one, k) for k, kind in enumerate(KINDS)},
        "histograms": {
            name: {kind: histogram(_of(one, name, k), BINS) for k, kind in enumerate(KINDS)}
            for name in HISTOGRAMS
        },
        "contradictions": {
            kind: [[claim, n] for claim, n in _commonest(one.contradictions.get(kind, Counter()))]
            for kind in KINDS
        },
        "null_grounding": asdict(null_grounding(texts, shares)),
        "structural_leakage": asdict(structural_leakage(texts, shares, seen, groups=ids)),
        "source_leak": asdict(
            source_leak(texts, np.array([one.kinds[i] for i in chosen]) == 1, groups=ids)
        ),
    }
    if any(n is not None for n in one.scores["clip_tokens"]):
        told["clip"] = {name: mean(one.scores[name]) for name in CLIP}
    return told


def sample(one: Stream) -> list[int]:
    """Positions of at most `SAMPLE` captions with a text, by hash of the id: the same rows in
    every stream that has them."""
    there = [i for i, text in enumerate(one.texts) if text]
    return sorted(sorted(there, key=lambda i: seed("report", one.ids[i]))[:SAMPLE])


def near_duplicates(one: Stream) -> float | None:
    """1 − clusters/captions, a caption of its own being a cluster; None without captions."""
    there = [c for c, text in zip(one.clusters, one.texts, strict=True) if text]
    clusters = len(set(there) - {None}) + there.count(None)
    return 1 - clusters / len(there) if there else None


def mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return round(float(np.mean(known)), 4) if known else None


def histogram(values: Sequence[float | None], bins: npt.NDArray[np.float64]) -> list[int]:
    """Counts per bin; what lies outside goes to the outermost bins, what is missing nowhere."""
    known = [value for value in values if value is not None]
    return [int(n) for n in np.histogram(np.clip(known, bins[0], bins[-1]), bins)[0]]


def _means(one: Stream, kind: int) -> dict[str, float | None]:
    return {name: mean(_of(one, name, kind)) for name in SCORES}


def _of(one: Stream, name: str, kind: int) -> list[float | None]:
    """A score of the captions of one kind of rows."""
    return [v for v, k in zip(one.scores[name], one.kinds, strict=True) if k == kind]


def _by_class(one: Stream, kind: int) -> dict[str, float | None]:
    values = one.scores["grounding"]
    rows = list(zip(values, one.dominant, one.kinds, strict=True))
    return {
        name: mean([v for v, dominant, own in rows if (dominant, own) == (k, kind)])
        for k, name in enumerate(CLASSES)
    }


def _commonest(claims: Counter[str]) -> list[tuple[str, int]]:
    return sorted(claims.items(), key=lambda one: (-one[1], one[0]))[:CONTRADICTIONS]


RATIO_BINS = 24
SHOWN = 4
"""Tiles shown at either end of a measure, and clusters of near-duplicates."""
ENDS = ("realism", "mask_agreement")
"""Measures whose lowest and highest synthetic tiles are shown."""


def distributions(images: Images) -> dict[str, Any]:
    """For each measure its bins and, for real test and synthetic tiles, mean and histogram.

    Bins reach from the least to the 99th percentile of what is shown; a measure that no tile has
    is left out.
    """
    parts = np.array(images.parts)
    shown = {"real test": parts == "real test", "synthetic": np.char.startswith(parts, "synthetic")}
    told: dict[str, Any] = {}
    for name, column in images.measures.items():
        values = np.array(column, dtype=float)
        found = {part: values[mask] for part, mask in shown.items()}
        found = {part: v[~np.isnan(v)] for part, v in found.items()}
        found = {part: v for part, v in found.items() if len(v)}
        if not found:
            continue
        every = np.concatenate(list(found.values()))
        low, high = float(every.min()), float(np.percentile(every, 99))
        bins = np.linspace(low, high if high > low else low + 1, RATIO_BINS + 1)
        told[name] = {
            "bins": [round(float(edge), 6) for edge in bins],
            "parts": {
                part: {
                    "images": len(v),
                    "mean": round(float(v.mean()), 4),
                    "histogram": histogram(v.tolist(), bins),
                }
                for part, v in found.items()
            },
        }
    return told


def ends(images: Images) -> dict[str, dict[str, list[dict[str, Any]]]]:
    """Synthetic tiles with the lowest and the highest value of each of `ENDS`."""
    drawn = [i for i, part in enumerate(images.parts) if part.startswith("synthetic")]
    told: dict[str, dict[str, list[dict[str, Any]]]] = {}
    for name in ENDS:
        values = images.measures[name]
        known = [(values[i], images.ids[i]) for i in drawn if values[i] is not None]
        known.sort(key=lambda one: (one[0], one[1]))
        if known:
            some = min(SHOWN, (len(known) + 1) // 2)
            told[name] = {
                "lowest": [{"id": one, "value": value} for value, one in known[:some]],
                "highest": [{"id": one, "value": value} for value, one in known[::-1][:some]],
            }
    return told


def repeated(images: Images) -> list[list[str]]:
    """Two ids of each of the first clusters of near-duplicates."""
    members: dict[str, list[str]] = {}
    for one, cluster in zip(images.ids, images.clusters, strict=True):
        if cluster is not None:
            members.setdefault(cluster, []).append(one)
    found = [sorted(some)[:2] for some in members.values() if len(some) > 1]
    return sorted(found)[:SHOWN]
