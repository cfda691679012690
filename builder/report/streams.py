"""Figures of one caption stream: repetition, grounding against nulls, leakage."""

from collections import Counter
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
HISTOGRAMS = ("grounding", "coverage", "leak")
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
        "redundancy": repeats.summary(),
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
