"""Figures of the image measures of a release: distributions, ends, near-duplicates.

Kept are the measures of real test tiles and of synthetic tiles, and of ids those that are shown.
"""

import heapq
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from builder.core.manifest import Record
from builder.land.columns import KINDS
from builder.report.streams import histogram

MEASURES = (
    *("mask_agreement", "realism", "nearest_real_ratio", "sharpness", "contrast"),
    *("colour_saturation", "cloudiness", "blankness", "saturated"),
)
"""Columns of numbers about the image that the report shows the distribution of."""

PARTS = ("real test", "synthetic")
"""What the distributions are of."""
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


@dataclass
class Images:
    """What is known of the images, batch by batch."""

    values: defaultdict[tuple[str, str], list[npt.NDArray[np.float64]]] = field(
        default_factory=lambda: defaultdict(list)
    )
    """By part and measure; NaN where it is missing."""
    lowest: dict[str, list[tuple[float, str]]] = field(default_factory=dict)
    highest: dict[str, list[tuple[float, str]]] = field(default_factory=dict)
    known: Counter[str] = field(default_factory=Counter)
    """Synthetic tiles that have a measure of `ENDS`."""
    clusters: dict[str, list[str]] = field(default_factory=dict)
    """Near-duplicate cluster → its two first members by id."""

    def add(self, split: str, table: pa.Table) -> None:
        """Rows of a split, with ids, kinds, measures and near-duplicate clusters."""
        ids = table.column("id").to_pylist()
        synthetic = table.column("kind").to_numpy() == KINDS.index("synthetic")
        parts = {"synthetic": synthetic}
        if split == "test":
            parts["real test"] = ~synthetic
        for name in MEASURES:
            column = np.array(table.column(name).to_numpy(), dtype=np.float64)
            for part, mine in parts.items():
                self.values[part, name].append(column[mine])
            if name in ENDS:
                self._show(name, [(float(column[i]), ids[i]) for i in np.flatnonzero(synthetic)])
        for id_, cluster in zip(
            ids, table.column("near_duplicate_cluster").to_pylist(), strict=True
        ):
            if cluster is not None:
                members = self.clusters.setdefault(cluster, [])
                members[:] = sorted([*members, id_])[:2]

    def _show(self, name: str, tiles: Sequence[tuple[float, str]]) -> None:
        tiles = [tile for tile in tiles if not np.isnan(tile[0])]
        self.known[name] += len(tiles)
        self.lowest[name] = heapq.nsmallest(SHOWN, [*self.lowest.get(name, []), *tiles])
        self.highest[name] = heapq.nlargest(SHOWN, [*self.highest.get(name, []), *tiles])


def distributions(images: Images) -> dict[str, Distribution]:
    """For each measure its bins and, for real test and synthetic tiles, mean and histogram.

    Bins reach from the least to the 99th percentile of what is shown; a measure that no tile has
    is left out.
    """
    measures: dict[str, Distribution] = {}
    for name in MEASURES:
        known = {}
        for part in PARTS:
            values = np.concatenate([np.zeros(0), *images.values[part, name]])
            if len(values := values[~np.isnan(values)]):
                known[part] = values
        if not known:
            continue
        every = np.concatenate(list(known.values()))
        low, high = float(every.min()), float(np.percentile(every, 99))
        bins = np.linspace(low, high if high > low else low + 1, RATIO_BINS + 1)
        measures[name] = Distribution(
            bins=[round(float(edge), 6) for edge in bins],
            parts={
                part: PartDistribution(
                    images=len(values),
                    mean=round(float(values.mean()), 4),
                    histogram=histogram(values, bins),
                )
                for part, values in known.items()
            },
        )
    return measures


def ends(images: Images) -> dict[str, dict[str, list[ShownTile]]]:
    """Synthetic tiles with the lowest and the highest value of each of `ENDS`."""
    measures: dict[str, dict[str, list[ShownTile]]] = {}
    for name in ENDS:
        if known := images.known[name]:
            most = min(SHOWN, (known + 1) // 2)
            measures[name] = {
                end: [ShownTile(id=id_, value=value) for value, id_ in tiles[name][:most]]
                for end, tiles in (("lowest", images.lowest), ("highest", images.highest))
            }
    return measures


def repeated(images: Images) -> list[list[str]]:
    """Two ids of each of the first clusters of near-duplicates."""
    return sorted(pair for pair in images.clusters.values() if len(pair) > 1)[:SHOWN]
