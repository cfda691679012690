"""Figures of one caption stream: repetition, grounding against nulls, leakage."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from builder.landcover import CLASSES
from builder.report.gather import CLIP, SCORES, Stream
from builder.schema import KINDS
from builder.scores.leakage import source_leak, structural_leakage
from builder.scores.nulls import null_grounding
from builder.scores.redundancy import Redundancy
from builder.seeds import seed

SAMPLE = 5_000
"""Most captions of a stream that the leakage models and nulls are fitted on, by hash of the id."""
BINS = np.linspace(0, 1, 21)

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
        "redundancy": repeats.summary(),
        "near_duplicates": near_duplicates(one),
        "means": {kind: _means(one, k) for k, kind in enumerate(KINDS)},
        "grounding_by_class": _by_class(one),
        "grounding_histogram": histogram(one.scores["grounding"], BINS),
        "null_grounding": null_grounding(texts, shares),
        "structural_leakage": structural_leakage(texts, shares, seen, groups=ids),
        "source_leak": source_leak(
            texts, np.array([one.kinds[i] for i in chosen]) == 1, groups=ids
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
    places = [i for i, k in enumerate(one.kinds) if k == kind]
    return {name: mean([one.scores[name][i] for i in places]) for name in SCORES}


def _by_class(one: Stream) -> dict[str, float | None]:
    values = one.scores["grounding"]
    return {
        name: mean([v for v, d in zip(values, one.dominant, strict=True) if d == k])
        for k, name in enumerate(CLASSES)
    }
