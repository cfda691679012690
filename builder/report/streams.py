"""Figures of a caption stream: repetition, grounding against nulls, leakage."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from builder.core.manifest import Record
from builder.core.seeds import seed
from builder.land.classes import CLASSES
from builder.land.columns import KINDS
from builder.land.pictures import per_class
from builder.land.score_columns import scores_of, shown_in
from builder.release.rows import metadata
from builder.scores.leakage import (
    NullGrounding,
    SourceLeak,
    StructuralLeakage,
    null_grounding,
    source_leak,
    structural_leakage,
)
from builder.scores.redundancy import Redundancy, Repetition

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
    """Captions of a stream, gathered over all rows; flat lists of equal length."""

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
                stream = streams.setdefault(caption["stream"], Stream())
                _add(stream, row, share, caption["text"], score)
    return streams, images


def _add(stream: Stream, row: dict[str, Any], share: Any, text: str | None, score: Any) -> None:
    stream.ids.append(row["id"])
    stream.texts.append(text)
    stream.kinds.append(row["kind"])
    stream.dominant.append(row["dominant"])
    stream.shares.append(share)
    stream.clusters.append(score["near_duplicate_cluster"])
    for name in (*SCORES, *CLIP):
        stream.scores.setdefault(name, []).append(score.get(name))
    claims = {_SHARE.sub("", claim, count=1) for claim in score["contradictions"] or ()}
    stream.contradictions.setdefault(KINDS[row["kind"]], Counter()).update(claims)


SAMPLE = 5_000
"""Most captions of a stream that the leakage models and nulls are fitted on, by hash of the id."""
BINS = np.linspace(0, 1, 21)
HISTOGRAMS = shown_in("histogram")
"""Scores whose distribution is shown."""
CONTRADICTIONS = 5
"""Most contradictions reported of each kind of rows."""

Features = Mapping[str, npt.NDArray[np.float32]]
"""Row id → image features."""


Means = dict[str, float | None]
"""Means by score or by class; None where there is nothing to average."""


class StreamFigures(Record):
    """All that is measured of a caption stream; kinds are those of the rows."""

    captions: int
    failed: int
    redundancy: dict[str, Repetition]
    near_duplicates: float | None
    """Share of captions that nearly repeat another."""
    means: dict[str, Means]
    """By kind and score."""
    grounding_by_class: dict[str, Means]
    """By kind and dominant class."""
    histograms: dict[str, dict[str, list[int]]]
    """By score and kind, counts in `BINS`."""
    contradictions: dict[str, list[tuple[str, int]]]
    """By kind, the commonest claims that the land cover contradicts, and how many make them."""
    null_grounding: NullGrounding
    structural_leakage: StructuralLeakage
    source_leak: SourceLeak
    clip: Means | None = None


def figures(stream: Stream, features: Features | None = None) -> StreamFigures:
    """Everything about a stream. ``features`` holds those of the rows of `sample`."""
    repeats = Redundancy()
    repeats.add(pa.array(stream.texts, pa.string()))
    chosen = sample(stream)
    texts = [stream.texts[i] or "" for i in chosen]
    ids = [stream.ids[i] for i in chosen]
    shares = np.array([stream.shares[i] for i in chosen]).reshape(-1, len(CLASSES))
    seen = None if features is None or not ids else np.stack([features[name] for name in ids])
    synthetic = np.array([stream.kinds[i] for i in chosen]) == 1
    measured = StreamFigures(
        captions=sum(text is not None for text in stream.texts),
        failed=sum(text is None for text in stream.texts),
        redundancy=repeats.summary(),
        near_duplicates=near_duplicates(stream),
        means={kind: _means(stream, k) for k, kind in enumerate(KINDS)},
        grounding_by_class={kind: _by_class(stream, k) for k, kind in enumerate(KINDS)},
        histograms={
            name: {kind: histogram(_of(stream, name, k), BINS) for k, kind in enumerate(KINDS)}
            for name in HISTOGRAMS
        },
        contradictions={
            kind: _commonest(stream.contradictions.get(kind, Counter())) for kind in KINDS
        },
        null_grounding=null_grounding(texts, shares),
        structural_leakage=structural_leakage(texts, shares, seen, groups=ids),
        source_leak=source_leak(texts, synthetic, groups=ids),
    )
    if all(n is None for n in stream.scores["clip_tokens"]):
        return measured
    clip = {name: mean(stream.scores[name]) for name in CLIP}
    return measured.model_copy(update={"clip": clip})


def sample(stream: Stream) -> list[int]:
    """Positions of at most `SAMPLE` captions with a text, by hash of the id: the same rows in
    every stream that has them."""
    captions = [i for i, text in enumerate(stream.texts) if text]
    return sorted(sorted(captions, key=lambda i: seed("report", stream.ids[i]))[:SAMPLE])


def near_duplicates(stream: Stream) -> float | None:
    """1 − clusters/captions, a caption of its own being a cluster; None without captions."""
    named = [c for c, text in zip(stream.clusters, stream.texts, strict=True) if text]
    clusters = len(set(named) - {None}) + named.count(None)
    return 1 - clusters / len(named) if named else None


def mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return round(float(np.mean(known)), 4) if known else None


def histogram(values: Sequence[float | None], bins: npt.NDArray[np.float64]) -> list[int]:
    """Counts per bin; what lies outside goes to the outermost bins, what is missing nowhere."""
    known = [value for value in values if value is not None]
    return [int(n) for n in np.histogram(np.clip(known, bins[0], bins[-1]), bins)[0]]


def _means(stream: Stream, kind: int) -> Means:
    return {name: mean(_of(stream, name, kind)) for name in SCORES}


def _of(stream: Stream, name: str, kind: int) -> list[float | None]:
    """A score of the captions of a kind of rows."""
    return [v for v, k in zip(stream.scores[name], stream.kinds, strict=True) if k == kind]


def _by_class(stream: Stream, kind: int) -> Means:
    values = stream.scores["grounding"]
    rows = list(zip(values, stream.dominant, stream.kinds, strict=True))
    return {
        name: mean([v for v, dominant, own in rows if (dominant, own) == (k, kind)])
        for k, name in enumerate(CLASSES)
    }


def _commonest(claims: Counter[str]) -> list[tuple[str, int]]:
    return sorted(claims.items(), key=lambda item: (-item[1], item[0]))[:CONTRADICTIONS]


RATIO_BINS = 24
SHOWN = 4
"""Tiles shown at either end of a measure, and clusters of near-duplicates."""
ENDS = ("realism", "mask_agreement")
"""Measures whose lowest and highest synthetic tiles are shown."""


class PartDistribution(Record):
    """Of a part: how many images, their mean, and counts in the bins."""

    images: int
    mean: float
    histogram: list[int]


class Distribution(Record):
    """One image measure, of real test tiles and of synthetic tiles."""

    bins: list[float]
    parts: dict[str, PartDistribution]


class ShownTile(Record):
    """A tile at either end of a measure."""

    id: str
    value: float


def distributions(images: Images) -> dict[str, Distribution]:
    """For each measure its bins and, for real test and synthetic tiles, mean and histogram.

    Bins reach from the least to the 99th percentile of what is shown; a measure that no tile has
    is left out.
    """
    parts = np.array(images.parts)
    shown = {"real test": parts == "real test", "synthetic": np.char.startswith(parts, "synthetic")}
    measures: dict[str, Distribution] = {}
    for name, column in images.measures.items():
        values = np.array(column, dtype=float)
        by_part = {part: values[mask] for part, mask in shown.items()}
        known = {part: v[~np.isnan(v)] for part, v in by_part.items()}
        known = {part: v for part, v in known.items() if len(v)}
        if not known:
            continue
        every = np.concatenate(list(known.values()))
        low, high = float(every.min()), float(np.percentile(every, 99))
        bins = np.linspace(low, high if high > low else low + 1, RATIO_BINS + 1)
        measures[name] = Distribution(
            bins=[round(float(edge), 6) for edge in bins],
            parts={
                part: PartDistribution(
                    images=len(v),
                    mean=round(float(v.mean()), 4),
                    histogram=histogram(v.tolist(), bins),
                )
                for part, v in known.items()
            },
        )
    return measures


def ends(images: Images) -> dict[str, dict[str, list[ShownTile]]]:
    """Synthetic tiles with the lowest and the highest value of each of `ENDS`."""
    synthetic = [i for i, part in enumerate(images.parts) if part.startswith("synthetic")]
    measures: dict[str, dict[str, list[ShownTile]]] = {}
    for name in ENDS:
        pairs = [(images.measures[name][i], images.ids[i]) for i in synthetic]
        tiles = [ShownTile(id=id_, value=value) for value, id_ in pairs if value is not None]
        tiles.sort(key=lambda tile: (tile.value, tile.id))
        if tiles:
            most = min(SHOWN, (len(tiles) + 1) // 2)
            measures[name] = {"lowest": tiles[:most], "highest": tiles[::-1][:most]}
    return measures


def repeated(images: Images) -> list[list[str]]:
    """Two ids of each of the first clusters of near-duplicates."""
    members: dict[str, list[str]] = {}
    for id_, cluster in zip(images.ids, images.clusters, strict=True):
        if cluster is not None:
            members.setdefault(cluster, []).append(id_)
    pairs = [sorted(ids)[:2] for ids in members.values() if len(ids) > 1]
    return sorted(pairs)[:SHOWN]
