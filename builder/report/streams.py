"""Figures of the caption streams of a release: repetition, grounding against nulls, leakage.

Rows are read once, a row group at a time; what is kept of them does not grow with their number, but
for eight bytes a caption and kind of repetition.
"""

import heapq
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from builder.core.errors import ArasError
from builder.core.manifest import Record
from builder.core.seeds import seed
from builder.land.classes import CLASSES
from builder.land.columns import KINDS
from builder.land.pictures import per_class
from builder.land.score_columns import scores_of, shown_in
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
_SHARE = re.compile(r" [\d.e+-]+ %")
"""The tile's own share in a contradiction, without which like claims can be counted."""


WORST = 6
"""Captions shown at either end of discrimination."""
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


Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Captions:
    """n captions of a stream; what is missing is None, or NaN among ``scores``."""

    ids: list[str]
    """Of their rows."""
    seeds: list[int]
    """Of their rows, which decide who is in the sample."""
    texts: list[str | None]
    kinds: npt.NDArray[np.int64]
    dominant: npt.NDArray[np.int64]
    shares: Floats
    """(n, 7) class fractions."""
    clusters: list[str | None]
    """Of captions that nearly repeat each other."""
    scores: dict[str, Floats]
    contradictions: list[list[str] | None]


@dataclass(frozen=True)
class Sample:
    """The captions that the leakage models and nulls are fitted on, in the order of the rows."""

    ids: list[str]
    texts: list[str]
    shares: Floats
    synthetic: npt.NDArray[np.bool_]


@dataclass
class Mean:
    """A mean over any number of batches; None where there is nothing to average."""

    total: float = 0.0
    count: int = 0

    def add(self, values: Floats) -> None:
        known = values[~np.isnan(values)]
        self.total += float(known.sum())
        self.count += len(known)

    @property
    def value(self) -> float | None:
        return round(self.total / self.count, 4) if self.count else None


Scored = tuple[float, str, float | None, str | None]
"""Discrimination of a caption, its row's id, grounding and text."""


@dataclass
class Stream:
    """What is known of the captions of a stream, batch by batch."""

    captions: int = 0
    failed: int = 0
    repeats: Redundancy = field(default_factory=Redundancy)
    clusters: Redundancy = field(default_factory=lambda: Redundancy(("raw",)))
    """Names of the clusters of captions that have one."""
    means: defaultdict[tuple[int, str], Mean] = field(default_factory=lambda: defaultdict(Mean))
    """By kind and score."""
    by_class: defaultdict[tuple[int, int], Mean] = field(default_factory=lambda: defaultdict(Mean))
    """Of grounding, by kind and dominant class."""
    counts: dict[tuple[int, str], npt.NDArray[np.int64]] = field(default_factory=dict)
    """Histograms by kind and score."""
    contradictions: dict[str, Counter[str]] = field(default_factory=dict)
    """By kind, how many captions contradict the land cover in these words."""
    lowest: list[Scored] = field(default_factory=list)
    highest: list[Scored] = field(default_factory=list)
    _kept: list[tuple[int, int, str, str, Floats, bool]] = field(default_factory=list)
    """Seed and number of a caption with a text, id, text, shares and whether it is synthetic."""
    _seen: int = 0
    _texts: int = 0

    def add(self, batch: Captions) -> None:
        has_text = [bool(text) for text in batch.texts]
        self.captions += sum(text is not None for text in batch.texts)
        self.failed += sum(text is None for text in batch.texts)
        self.repeats.add(pa.array(batch.texts, pa.string()))
        named = [c for c, has in zip(batch.clusters, has_text, strict=True) if has]
        self._texts += len(named)
        self.clusters.add(pa.array(named, pa.string()))
        for kind, name in enumerate(KINDS):
            mine = batch.kinds == kind
            self._count(kind, {key: values[mine] for key, values in batch.scores.items()})
            for k in range(len(CLASSES)):
                here = mine & (batch.dominant == k)
                self.by_class[kind, k].add(batch.scores["grounding"][here])
            claims = self.contradictions.setdefault(name, Counter())
            for i in np.flatnonzero(mine):
                claims.update({_SHARE.sub("", c, count=1) for c in batch.contradictions[i] or ()})
        self._show(batch)
        self._kept += [
            (batch.seeds[i], self._seen + i, batch.ids[i], text, batch.shares[i],
             bool(batch.kinds[i] == 1))
            for i, text in enumerate(batch.texts) if text
        ]  # fmt: skip
        self._seen += len(batch.ids)
        if len(self._kept) > 2 * SAMPLE:
            self._kept = heapq.nsmallest(SAMPLE, self._kept, key=_order)

    def _count(self, kind: int, scores: Mapping[str, Floats]) -> None:
        for name, values in scores.items():
            self.means[kind, name].add(values)
            if name in HISTOGRAMS:
                here = np.array(histogram(values, BINS))
                self.counts[kind, name] = self.counts.get((kind, name), 0) + here

    def _show(self, batch: Captions) -> None:
        """Keep the captions of the lowest and the highest discrimination."""
        values, grounding = batch.scores["discrimination"], batch.scores["grounding"]
        given = [None if np.isnan(value) else float(value) for value in grounding]
        ends = [
            (float(values[i]), batch.ids[i], given[i], batch.texts[i])
            for i in np.flatnonzero(~np.isnan(values))
        ]
        self.lowest = heapq.nsmallest(WORST, [*self.lowest, *ends], key=lambda c: c[:2])
        self.highest = heapq.nsmallest(WORST, [*self.highest, *ends], key=lambda c: (-c[0], c[1]))

    def histogram(self, kind: int, name: str) -> list[int]:
        counts = self.counts.get((kind, name), np.zeros(len(BINS) - 1, np.int64))
        return [int(n) for n in counts]

    def sample(self) -> Sample:
        """At most `SAMPLE` captions with a text, by hash of the id: the same rows in every stream
        that has them."""
        chosen = sorted(heapq.nsmallest(SAMPLE, self._kept, key=_order), key=lambda c: c[1])
        shares = np.array([share for *_, share, _ in chosen]).reshape(-1, len(CLASSES))
        return Sample(
            [id_ for _, _, id_, *_ in chosen],
            [text for _, _, _, text, *_ in chosen],
            shares,
            np.array([is_synthetic for *_, is_synthetic in chosen], dtype=bool),
        )

    @property
    def near_duplicates(self) -> float | None:
        """1 − clusters/captions, a caption of its own being a cluster; None without captions."""
        in_clusters = self.clusters.summary()["raw"]
        clusters = in_clusters.unique + self._texts - in_clusters.n
        return 1 - clusters / self._texts if self._texts else None


def _order(caption: tuple[int, int, str, str, Floats, bool]) -> tuple[int, int]:
    return caption[:2]


def streams_of(table: pa.Table, release: str) -> Iterator[tuple[str, Captions]]:
    """The captions of a table of rows, by stream.

    Raises ArasError where a row has other numbers of captions and of scores.
    """
    captions, scores = (
        table.column(name).combine_chunks() for name in ("captions", "caption_scores")
    )
    rows = pc.list_parent_indices(captions)
    if not rows.equals(pc.list_parent_indices(scores)):
        raise ArasError(f"{release}: a row has other numbers of captions and of scores; check it")
    rows, captions, scores = rows.to_numpy(), captions.flatten(), scores.flatten()
    names = captions.field("stream")
    counts = per_class(table.column("pixels")).astype(float)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    ids = table.column("id").to_pylist()
    seeds = [seed("report", id_) for id_ in ids]
    kinds, dominant = (table.column(name).to_numpy() for name in ("kind", "dominant"))
    for name in names.unique().to_pylist():
        here = np.flatnonzero(pc.equal(names, name).to_numpy(zero_copy_only=False))
        mine, cells, row = captions.take(here), scores.take(here), rows[here]
        yield (
            name,
            Captions(
                ids=[ids[i] for i in row],
                seeds=[seeds[i] for i in row],
                texts=mine.field("text").to_pylist(),
                kinds=kinds[row],
                dominant=dominant[row],
                shares=shares[row],
                clusters=cells.field("near_duplicate_cluster").to_pylist(),
                scores={score: _numbers(cells, score) for score in (*SCORES, *CLIP)},
                contradictions=cells.field("contradictions").to_pylist(),
            ),
        )


def _numbers(cells: pa.StructArray, name: str) -> Floats:
    """A member of structs as numbers, NaN where it is null or there is none."""
    if cells.type.get_field_index(name) < 0:
        return np.full(len(cells), np.nan)
    return np.array(cells.field(name).to_numpy(zero_copy_only=False), dtype=np.float64)


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
    """Everything about a stream. ``features`` holds those of the rows of its sample."""
    chosen = stream.sample()
    seen = None
    if features is not None and chosen.ids:
        seen = np.stack([features[name] for name in chosen.ids])
    measured = StreamFigures(
        captions=stream.captions,
        failed=stream.failed,
        redundancy=stream.repeats.summary(),
        near_duplicates=stream.near_duplicates,
        means={
            kind: {name: stream.means[k, name].value for name in SCORES}
            for k, kind in enumerate(KINDS)
        },
        grounding_by_class={
            kind: {name: stream.by_class[k, c].value for c, name in enumerate(CLASSES)}
            for k, kind in enumerate(KINDS)
        },
        histograms={
            name: {kind: stream.histogram(k, name) for k, kind in enumerate(KINDS)}
            for name in HISTOGRAMS
        },
        contradictions={
            kind: _commonest(stream.contradictions.get(kind, Counter())) for kind in KINDS
        },
        null_grounding=null_grounding(chosen.texts, chosen.shares),
        structural_leakage=structural_leakage(chosen.texts, chosen.shares, seen, groups=chosen.ids),
        source_leak=source_leak(chosen.texts, chosen.synthetic, groups=chosen.ids),
    )
    clip = {name: _over_kinds(stream, name).value for name in CLIP}
    return (
        measured.model_copy(update={"clip": clip}) if clip["clip_tokens"] is not None else measured
    )


def _over_kinds(stream: Stream, name: str) -> Mean:
    both = [stream.means[k, name] for k in range(len(KINDS))]
    return Mean(sum(mean.total for mean in both), sum(mean.count for mean in both))


def histogram(values: Floats, bins: Floats) -> list[int]:
    """Counts per bin; what lies outside goes to the outermost bins, what is missing nowhere."""
    known = values[~np.isnan(values)]
    return [int(n) for n in np.histogram(np.clip(known, bins[0], bins[-1]), bins)[0]]


def _commonest(claims: Counter[str]) -> list[tuple[str, int]]:
    return sorted(claims.items(), key=lambda item: (-item[1], item[0]))[:CONTRADICTIONS]
