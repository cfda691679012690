"""Distances between the real and the synthetic images of a store, in a space of features."""

import heapq
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from builder.core.errors import ArasError
from builder.core.manifest import Record
from builder.core.seeds import generator, seed
from builder.core.store import Store
from builder.land.columns import KINDS, SPLITS
from builder.models import sets
from builder.models.neighbours import matrix
from builder.steps.stage import shards

SAMPLE = 5_000
"""Most images of a side that are compared one by one, by hash of the id."""
LEAST = 16
"""Fewer images on a side are not compared."""
PARTS = ("test", "train", "synthetic")


@dataclass
class Side:
    """One set of images: moments of all of them, merged shard by shard, and a sample."""

    moments: sets.Moments | None = None
    kept: list[tuple[int, str, npt.NDArray[np.float32]]] = field(default_factory=list)

    def see(self, ids: list[str], features: npt.NDArray[np.float32]) -> None:
        if not ids:
            return
        here = sets.Moments.of(features)
        self.moments = here if self.moments is None else self.moments.merge(here)
        self.kept += [(seed("report", id_), id_, v) for id_, v in zip(ids, features, strict=True)]
        if len(self.kept) > 2 * SAMPLE:
            self.kept = self._chosen(SAMPLE)

    def __len__(self) -> int:
        return 0 if self.moments is None else self.moments.n

    def sample(self, n: int) -> npt.NDArray[np.float32]:
        """(n, d) features, the same in whatever order the shards came."""
        return np.stack([features for _, _, features in self._chosen(n)])

    def _chosen(self, n: int) -> list[tuple[int, str, npt.NDArray[np.float32]]]:
        return heapq.nsmallest(n, self.kept, key=lambda image: image[:2])


class SetDistances(Record):
    """Real test tiles against another set; intervals are [low, high] at 95 %."""

    frechet: float
    frechet_interval: list[float]
    frechet_at_infinity: list[float]
    """The value, and its standard error."""
    frechet_all: float
    kid_x1000: list[float]
    """The value and its interval."""
    precision: float
    recall: float
    density: float
    coverage: float


class Distances(Record):
    """How many images there are, how many were compared, and the distances; or why not."""

    images: dict[str, int]
    compared: int = 0
    train: SetDistances | None = None
    synthetic: SetDistances | None = None
    note: str = ""


def distances(store: Store, column: str = "features", seed_: int = 0) -> Distances:
    """Real test tiles against synthetic tiles and, as the floor, against real train tiles.

    Working column ``column`` holds the features. ``frechet_all`` is of the moments of all images;
    the other figures are at equal numbers of images, `SAMPLE` at most, because all of them depend
    on the number. Raises ArasError when a shard has no features.
    """
    sides = _sides(store, column)
    sizes = {name: len(side) for name, side in sides.items()}
    n = min(*sizes.values(), SAMPLE)
    if n < LEAST:
        note = f"too few images on one side: at least {LEAST} are needed"
        return Distances(images=sizes, note=note)
    rng = generator(seed_, "report")
    equal = {name: side.sample(n) for name, side in sides.items()}
    measured: dict[str, SetDistances] = {}
    for name in PARTS[1:]:
        a, b = equal["test"], equal[name]
        estimate = sets.frechet_estimate(a, b, groups=min(10, n // 2))
        mean, low, high = sets.kid(a, b, rng, size=max(2, n // 2))
        measured[name] = SetDistances(
            frechet=round(estimate.value, 4),
            frechet_interval=[round(edge, 4) for edge in estimate.interval],
            frechet_at_infinity=[round(estimate.at_infinity, 4), round(estimate.error, 4)],
            frechet_all=round(_frechet(sides["test"], sides[name]), 4),
            kid_x1000=[round(mean, 4), round(low, 4), round(high, 4)],
            **{k: round(v, 4) for k, v in sets.precision_recall(a, b, k=min(5, n - 1)).items()},
        )
    train, synthetic = measured["train"], measured["synthetic"]
    return Distances(images=sizes, compared=n, train=train, synthetic=synthetic)


def features_of(
    store: Store, ids: Iterable[str], column: str
) -> dict[str, npt.NDArray[np.float32]]:
    """Features of some rows by id. Raises ArasError naming a row that the store does not have."""
    asked = set(ids)
    features: dict[str, npt.NDArray[np.float32]] = {}
    for _, table in store.scan(shards(store, KINDS), ("id", column)):
        for i, id_ in enumerate(table.column("id").to_pylist()):
            if id_ in asked:
                features[id_] = np.array(table.column(column)[i].as_py(), dtype=np.float32)
    if missing := sorted(asked - features.keys()):
        raise ArasError(f"{store.root}: has no row {missing[0]}, which the release has")
    return features


def has_column(store: Store, column: str, kinds: Iterable[str] = KINDS) -> bool:
    """Whether every shard of the store, of ``kinds``, has a column."""
    try:
        return bool([store.find(shard, [column]) for shard in shards(store, kinds)])
    except ArasError:
        return False


def _sides(store: Store, column: str) -> dict[str, Side]:
    sides = {name: Side() for name in PARTS}
    for shard, table in store.scan(shards(store, KINDS), ("id", "split", column)):
        features = matrix(table.column(column))
        splits = np.array([-1 if s is None else s for s in table.column("split").to_pylist()])
        ids = np.array(table.column("id").to_pylist(), dtype=object)
        if shard.startswith("synthetic"):
            sides["synthetic"].see(ids.tolist(), features)
        elif len(ids):
            for name in PARTS[:2]:
                here = splits == SPLITS.index(name)
                sides[name].see(ids[here].tolist(), features[here])
    return sides


def _frechet(a: Side, b: Side) -> float:
    assert a.moments is not None  # both sides have images, see `distances`
    assert b.moments is not None
    return sets.frechet(a.moments, b.moments)
