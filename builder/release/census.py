"""Counts of the rows of a release, taken as they pass through `package`."""

import dataclasses
import itertools
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from builder.core.manifest import Agent, Census, Clusters, ExampleRow, Extent, StreamSummary
from builder.land import times
from builder.land.classes import CLASSES
from builder.land.columns import COLUMN_NAMES, KINDS, SPLITS
from builder.land.pictures import per_class
from builder.land.score_columns import shown_in
from builder.quality.pixels import MEASURES as PIXEL_MEASURES
from builder.release.geo import bounds, footprints
from builder.release.source_leaks import SourceSample
from builder.scores.redundancy import Redundancy

MEANS = shown_in("card")
"""Scores that the card gives the mean of."""
MEASURES = ("mask_agreement", "realism", "nearest_real_ratio", *PIXEL_MEASURES)
"""Columns that the card gives the median of, of real beside synthetic rows."""
EXAMPLE = ("id", "percent", "longitude", "latitude", "captions")
"""Columns of the row that the card shows."""


@dataclass
class AgentCounter:
    """Rows by the model, and its revision, that they name."""

    rows: Counter[tuple[str, str | None]] = field(default_factory=Counter)

    def see(self, models: pa.ChunkedArray, revisions: pa.ChunkedArray) -> None:
        pairs = pa.table({"model": models, "revision": revisions})
        counted = pairs.group_by(["model", "revision"]).aggregate([([], "count_all")])
        for row in counted.to_pylist():
            if row["model"] is not None:
                self.rows[row["model"], row["revision"]] += row["count_all"]

    def agents(self) -> tuple[Agent, ...]:
        """Most rows first."""
        ordered = sorted(self.rows.items(), key=lambda item: (-item[1], str(item[0])))
        return tuple(Agent(model=a, revision=b, n=n) for (a, b), n in ordered)


@dataclass
class StreamCounter:
    """Captions of a stream and kind: how many repeat another, and mean scores."""

    repeats: Redundancy = field(default_factory=lambda: Redundancy(["raw"]))
    totals: Counter[str] = field(default_factory=Counter)
    counts: Counter[str] = field(default_factory=Counter)
    agents: AgentCounter = field(default_factory=AgentCounter)

    def see(self, table: pa.Table) -> None:
        written = table.filter(table.column("text").is_valid())
        self.agents.see(written.column("model"), written.column("revision"))
        self.repeats.add(table.column("text").combine_chunks())
        for name in MEANS:
            known = table.column(name).drop_null()
            self.totals[name] += pc.sum(known).as_py() or 0
            self.counts[name] += len(known)

    def summary(self) -> StreamSummary:
        means = {
            name: round(self.totals[name] / self.counts[name], 4) if self.counts[name] else None
            for name in MEANS
        }
        counts = dataclasses.asdict(self.repeats.summary()["raw"])
        return StreamSummary.model_validate({**counts, "agents": self.agents.agents(), **means})


@dataclass
class ClusterCounter:
    """Clusters of duplicate images: of how many rows, in which parts."""

    members: dict[str, Counter[str]] = field(default_factory=dict)

    def see(self, part: str, clusters: pa.ChunkedArray) -> None:
        for name in clusters.drop_null().to_pylist():
            self.members.setdefault(name, Counter())[part] += 1

    def clusters(self) -> Clusters:
        """Clusters with two members here or more, their rows, and those that span parts."""
        here = [parts for parts in self.members.values() if parts.total() > 1]
        spans = Counter(
            " and ".join(pair)
            for parts in here
            for pair in itertools.combinations(sorted(parts), 2)
        )
        rows = sum(parts.total() for parts in here)
        return Clusters(clusters=len(here), rows=rows, spans=dict(sorted(spans.items())))


@dataclass
class MeasureCounter:
    """Values of the `MEASURES` of a part, in 4 bytes each, for their medians."""

    values: dict[str, list[npt.NDArray[np.float32]]] = field(default_factory=dict)

    def see(self, table: pa.Table) -> None:
        for name in (name for name in MEASURES if name in table.column_names):
            known = pc.drop_null(table.column(name)).to_numpy()
            if known.size:
                self.values.setdefault(name, []).append(known)

    def medians(self) -> dict[str, float]:
        """Measure → median, in four digits; without those that no row has."""
        return {name: self._quantile(name, 0.5) for name in self.values}

    def ranges(self) -> dict[str, tuple[float, float]]:
        """Measure → the values between which nine in ten rows lie."""
        return {
            name: (self._quantile(name, 0.05), self._quantile(name, 0.95)) for name in self.values
        }

    def _quantile(self, name: str, share: float) -> float:
        return float(f"{np.quantile(np.concatenate(self.values[name]), share):.4g}")


SIDES = ("west", "south", "east", "north")


@dataclass
class ExtentCounter:
    """Where on Earth the real tiles lie, by their centres, and when they were taken."""

    west: float = np.inf
    south: float = np.inf
    east: float = -np.inf
    north: float = -np.inf
    cells: set[tuple[int, int]] = field(default_factory=set)
    """Cells of 1°, as (longitude, latitude) of their lower left corner."""
    years: set[int] = field(default_factory=set)
    scenes: dict[str, times.Time] = field(default_factory=dict)
    """Time of each source that is no yearly composite."""
    box: npt.NDArray[np.float64] | None = None
    """West, south, east, north of the tiles."""
    crs: set[str] = field(default_factory=set)
    pixel: set[float] = field(default_factory=set)

    def see(self, table: pa.Table) -> None:
        self._see_tiles(table)
        for source in pc.unique(table.column("source")).drop_null().to_pylist():
            if time := times.of_source(source):
                if time.is_year:
                    self.years.add(time.first.year)
                else:
                    self.scenes[source] = time
        places = table.select(["longitude", "latitude"]).drop_null()
        if not places.num_rows:
            return
        x, y = (column.to_numpy() for column in places.columns)
        self.west, self.east = min(self.west, x.min()), max(self.east, x.max())
        self.south, self.north = min(self.south, y.min()), max(self.north, y.max())
        corners = np.unique(np.floor(np.stack([x, y], axis=1)).astype(int), axis=0)
        self.cells |= {(lon, lat) for lon, lat in corners.tolist()}

    def merge(self, other: "ExtentCounter") -> None:
        """Take what another has seen."""
        self.west, self.south = min(self.west, other.west), min(self.south, other.south)
        self.east, self.north = max(self.east, other.east), max(self.north, other.north)
        self.cells |= other.cells
        self.years |= other.years
        self.scenes |= other.scenes
        self.crs |= other.crs
        self.pixel |= other.pixel
        if other.box is not None:
            self._widen(other.box[None])

    def _see_tiles(self, table: pa.Table) -> None:
        boxes = bounds(footprints(table))
        boxes = boxes[np.isfinite(boxes[:, 0])]
        if not len(boxes):
            return
        self._widen(boxes)
        self.crs |= set(table.column("crs").drop_null().unique().to_pylist())
        width = pc.list_element(table.column("transform").drop_null(), 0)
        self.pixel |= {float(f"{abs(a):.12g}") for a in pc.unique(width).to_pylist()}

    def _widen(self, boxes: npt.NDArray[np.float64]) -> None:
        known = np.concatenate([boxes, self.box[None]] if self.box is not None else [boxes])
        self.box = np.concatenate([known[:, :2].min(axis=0), known[:, 2:].max(axis=0)])

    def extent(self) -> Extent | None:
        """None where no tile has a place."""
        if not self.cells:
            return None
        box: dict[str, Any] = {name: round(float(getattr(self, name)), 4) for name in SIDES}
        footprint = None
        if self.box is not None:  # outwards, so that no tile lies beyond it
            west, south = (float(side) / 1e6 for side in np.floor(self.box[:2] * 1e6))
            east, north = (float(side) / 1e6 for side in np.ceil(self.box[2:] * 1e6))
            footprint = (west, south, east, north)
        return Extent(
            **box,
            cells=len(self.cells),
            years=tuple(sorted(self.years)),
            **self._acquired(),
            footprint=footprint,
            crs=tuple(sorted(self.crs)),
            pixel=tuple(sorted(self.pixel)),
        )

    def _acquired(self) -> dict[str, Any]:
        """What is said of scenes, nothing where there are none: as older releases have it."""
        if not self.scenes:
            return {}
        first, last = (f(t[i] for t in self.scenes.values()) for i, f in enumerate((min, max)))
        ends = tuple(f"{at:%Y-%m-%dT%H:%M:%SZ}" for at in (first, last))
        return {"acquired": ends, "scenes": len(self.scenes)}


@dataclass
class RowCounter:
    """Counts rows as they pass. A part is ``kind/split``."""

    rows: Counter[str] = field(default_factory=Counter)
    duplicates: ClusterCounter = field(default_factory=ClusterCounter)
    near_duplicates: ClusterCounter = field(default_factory=ClusterCounter)
    pixels: dict[str, npt.NDArray[np.int64]] = field(default_factory=dict)
    streams: dict[str, StreamCounter] = field(default_factory=dict)
    agreement: dict[str, float] = field(default_factory=dict)
    measures: dict[str, MeasureCounter] = field(default_factory=dict)
    nulls: dict[str, set[str]] = field(default_factory=dict)
    examples: dict[str, ExampleRow] = field(default_factory=dict)
    extent: ExtentCounter = field(default_factory=ExtentCounter)
    generators: dict[str, AgentCounter] = field(default_factory=dict)
    sources: SourceSample = field(default_factory=SourceSample)

    def see(self, kind: str, split: str, table: pa.Table) -> None:
        part = f"{kind}/{split}"
        self.sources.see(kind, table)
        self.rows[part] += table.num_rows
        self.pixels[part] = self.pixels.get(part, 0) + per_class(table.column("pixels")).sum(axis=0)
        agreement = table.column("mask_agreement")
        if agreement.null_count < table.num_rows:
            seen = float(np.nansum(agreement.to_numpy()))
            self.agreement[part] = self.agreement.get(part, 0.0) + seen
        self.measures.setdefault(part, MeasureCounter()).see(table)
        self.nulls.setdefault(kind, set()).update(
            name for name in table.column_names if table.column(name).null_count
        )
        if kind == "real":
            self.extent.see(table)
        else:
            drawn = self.generators.setdefault(part, AgentCounter())
            drawn.see(table.column("gen_model"), table.column("gen_revision"))
        self.duplicates.see(part, table.column("duplicate_cluster"))
        self.near_duplicates.see(part, table.column("near_duplicate_cluster"))
        for name, captions in _by_stream(table).items():
            self.streams.setdefault(f"{kind}/{name}", StreamCounter()).see(captions)
        if kind not in self.examples:
            (row,) = table.select(EXAMPLE).slice(0, 1).to_pylist()
            self.examples[kind] = ExampleRow.model_validate(row)

    def census(
        self, left_out: Mapping[str, Mapping[str, int]], flags: Mapping[str, Mapping[str, int]]
    ) -> Census:
        """The counts of all rows that passed, beside those that the funnel left out and flagged."""
        parts = [f"{kind}/{split}" for kind in KINDS for split in SPLITS]
        parts = [part for part in parts if part in self.rows]
        return Census(
            extent=self.extent.extent(),
            rows={part: self.rows[part] for part in parts},
            left_out={kind: dict(counts) for kind, counts in left_out.items()},
            flags={kind: dict(counts) for kind, counts in flags.items()},
            duplicates=self.duplicates.clusters(),
            near_duplicates=self.near_duplicates.clusters(),
            pixels={
                part: dict(zip(CLASSES, self.pixels[part].tolist(), strict=True)) for part in parts
            },
            mask_agreement={
                part: round(self.agreement[part] / self.rows[part], 4)
                for part in parts
                if part in self.agreement
            },
            generators={part: seen.agents() for part, seen in self.generators.items()},
            measures={part: self.measures[part].medians() for part in parts},
            ranges={part: self.measures[part].ranges() for part in parts},
            nulls={
                kind: tuple(name for name in COLUMN_NAMES if name in names)
                for kind, names in self.nulls.items()
            },
            streams={name: captions.summary() for name, captions in self.streams.items()},
            source_leaks=self.sources.sentences(),
            examples=self.examples,
        )


def _by_stream(table: pa.Table) -> dict[str, pa.Table]:
    """Texts and scores of each stream as flat tables of one row per caption."""
    captions = table.column("captions").combine_chunks().flatten()
    scores = table.column("caption_scores").combine_chunks().flatten()
    columns = {name: captions.field(name) for name in ("text", "model", "revision")}
    columns |= {name: scores.field(name) for name in MEANS}
    flat = pa.table(columns)
    streams = captions.field("stream")
    return {
        str(name): flat.filter(pc.equal(streams, name)) for name in pc.unique(streams).to_pylist()
    }
