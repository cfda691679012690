"""Scenes of labelled tiles: real ones with a long tail, held-out ones, and test scenes.

A scene is a square of side² tiles; its caption names the class in each place. With side = 1 a scene
is a tile, and retrieval is of a class.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from builder.core.errors import ArasError
from builder.core.seeds import generator
from builder.retrieval.ranks import Floats, Ints

Pixels = npt.NDArray[np.uint8]

PLACES = ("top left", "top right", "bottom left", "bottom right")


@dataclass(frozen=True)
class Sizes:
    """How many tiles there are of what, and in how many scenes each lies.

    ``real`` tiles in a long tail in which the largest class has ``factor`` times those of the
    smallest; ``ratio`` times as many held-out ones at most; ``test`` scenes; ``judge`` tiles of
    each class for models that measure doses.
    """

    side: int = 2
    real: int = 1_400
    factor: float = 50.0
    ratio: float = 3.0
    uses: int = 4
    test: int = 2_000
    judge: int = 150

    def counts(self, classes: int, order: Ints | None = None) -> Ints:
        """(classes,) real tiles of each class; ``order`` from the most to the least, at random
        unless given."""
        if order is None:
            order = generator(0, "eurosat", "order").permutation(classes)
        weights = np.zeros(classes)
        weights[order] = self.factor ** (-np.arange(classes) / (classes - 1))
        counts = np.round(self.real * weights / weights.sum()).astype(np.int64)
        counts[counts.argmax()] += self.real - counts.sum()
        return np.asarray(counts, np.int64)


@dataclass(frozen=True)
class Tiles:
    """Tiles (n, h, w, 3) and their classes (n,)."""

    pixels: Pixels
    labels: Ints

    def only(self, classes: Sequence[int]) -> "Tiles":
        """The tiles of some classes, which are numbered anew in this order."""
        where = np.flatnonzero(np.isin(self.labels, classes))
        numbers = np.array([classes.index(label) for label in self.labels[where]], np.int64)
        return Tiles(self.pixels[where], numbers)

    def first(self, each: int) -> "Tiles":
        """The first ``each`` tiles of every class."""
        parts = [np.flatnonzero(self.labels == k)[:each] for k in np.unique(self.labels)]
        where = np.concatenate(parts)
        return Tiles(self.pixels[where], self.labels[where])


@dataclass(frozen=True)
class Scenes:
    """n scenes: their tiles (n, side²), captions, and class shares (n, K)."""

    tiles: Ints
    texts: list[str]
    shares: Floats


@dataclass(frozen=True)
class Mosaics:
    """Tiles by part, and how scenes are put together of them; no tile is in two parts."""

    real: Tiles
    held: Tiles
    """In blocks: what balanced arms at ratio 1 hold, then natural ones at 1, then the rest."""
    test: Tiles
    judge: Tiles
    classes: tuple[str, ...]
    nouns: Mapping[str, str]
    sizes: Sizes

    @property
    def counts(self) -> Ints:
        return np.bincount(self.real.labels, minlength=len(self.classes))

    def real_scenes(self) -> Scenes:
        return self.scenes(self.real.labels, np.arange(len(self.real.labels)), "real")

    def test_scenes(self) -> Scenes:
        """Test scenes, every class as often, each tile in one of them, no two layouts alike."""
        labels, cells = self.test.labels, self.sizes.side**2
        order = generator(0, "mosaics", "test").permutation(len(labels)).reshape(-1, cells)
        if cells > 1:
            order = distinct(order, labels)
        return self._described(order, labels[order])

    def balanced(self, ratio: float) -> Ints:
        """Held-out tiles with every class as often, ``ratio`` per real tile in all."""
        each = round(ratio * len(self.real.labels) / len(self.classes))
        return self._first(np.full(len(self.classes), each))

    def natural(self, ratio: float) -> Ints:
        """Held-out tiles with the class shares of the real ones, ``ratio`` per real tile."""
        return self._first(np.round(ratio * self.counts).astype(np.int64))

    def _first(self, wanted: Ints) -> Ints:
        parts = [
            np.flatnonzero(self.held.labels == label)[:number]
            for label, number in enumerate(wanted)
        ]
        if any(len(part) < number for part, number in zip(parts, wanted, strict=True)):
            raise ArasError("a ratio asks for more held-out tiles than there are")
        return np.sort(np.concatenate(parts))

    def scenes(self, labels: Ints, tiles: Ints, name: str) -> Scenes:
        """Scenes of ``tiles`` with ``labels`` (n,), each in as many scenes, in random order."""
        rng, cells = generator(0, "mosaics", name), self.sizes.side**2
        order = np.concatenate([rng.permutation(len(tiles)) for _ in range(self.sizes.uses)])
        order = order[: len(order) // cells * cells].reshape(-1, cells)
        return self._described(tiles[order], labels[order])

    def _described(self, tiles: Ints, kinds: Ints) -> Scenes:
        """Scenes of ``tiles`` (n, cells) of classes ``kinds`` (n, cells), with captions."""
        texts = [self._caption(row) for row in kinds]
        shares = np.stack([(kinds == k).mean(1) for k in range(len(self.classes))], 1)
        return Scenes(tiles, texts, shares)

    def _caption(self, labels: Ints) -> str:
        nouns = [self.nouns[self.classes[label]] for label in labels]
        if len(nouns) > 1:
            nouns = [f"{place} {noun}" for place, noun in zip(PLACES, nouns, strict=True)]
        text = "; ".join(nouns) + "."
        return text[0].upper() + text[1:]


def distinct(order: Ints, labels: Ints) -> Ints:
    """``order`` (n, cells) of tiles with ``labels``, tiles exchanged until no two rows have the
    same layout."""
    order, rng = order.copy(), generator(0, "mosaics", "distinct")
    while True:
        first = np.unique(labels[order], axis=0, return_index=True)[1]
        again = np.setdiff1d(np.arange(len(order)), first)
        if not len(again):
            return order
        for row in again:
            cell, other = rng.integers(order.shape[1]), rng.integers(len(order))
            order[[row, other], cell] = order[[other, row], cell]


def mosaics(
    pixels: Pixels,
    labels: Ints,
    classes: tuple[str, ...],
    nouns: Mapping[str, str],
    sizes: Sizes,
) -> Mosaics:
    """Deal tiles (n, h, w, 3) with ``labels`` (n,) to all parts, test tiles first.

    Raises ArasError for a class that has too few tiles.
    """
    tested = sizes.test * sizes.side**2 // len(classes)
    orders = _orders(labels, len(classes))
    where = np.concatenate([order[:tested] for order in orders])
    return _dealt(
        Tiles(pixels, labels),
        [order[tested:] for order in orders],
        Tiles(pixels[where], labels[where]),
        classes,
        nouns,
        sizes,
        sizes.counts(len(classes)),
    )


def deal(
    real: Tiles,
    test: Tiles,
    classes: tuple[str, ...],
    nouns: Mapping[str, str],
    sizes: Sizes,
    counts: Ints,
) -> Mosaics:
    """Deal ``real`` tiles to the parts but the test tiles, which are given; ``counts`` of each
    class are real train tiles."""
    orders = _orders(real.labels, len(classes))
    return _dealt(real, orders, test, classes, nouns, sizes, counts)


def _orders(labels: Ints, classes: int) -> list[Ints]:
    """The tiles of each class, as numbers, in the order in which they are dealt."""
    return [
        generator(0, "mosaics", "parts", label).permutation(np.flatnonzero(labels == label))
        for label in range(classes)
    ]


def _dealt(
    tiles: Tiles,
    orders: Sequence[Ints],
    test: Tiles,
    classes: tuple[str, ...],
    nouns: Mapping[str, str],
    sizes: Sizes,
    counts: Ints,
) -> Mosaics:
    """Parts of ``tiles``, those of each class in the order of ``orders``."""
    even = round(sizes.real / len(classes))
    parts: dict[str, list[Ints]] = {"judge": [], "real": [], "held": []}
    ranks = []
    for name, order, count in zip(classes, orders, counts, strict=True):
        held = max(round(sizes.ratio * even), round(sizes.ratio * count))
        needed = sizes.judge + count + held
        if len(order) < needed:
            raise ArasError(
                f"{name}: {len(order):,} tiles beside the test tiles, but {needed:,} are needed"
            )
        cuts = np.cumsum([sizes.judge, count])
        for part, some in zip(parts.values(), np.split(order[:needed], cuts), strict=True):
            part.append(some)
        place = np.arange(held)
        ranks.append(np.where(place < even, 0, np.where(place < count, 1, 2)))
    blocks = np.argsort(np.concatenate(ranks), kind="stable")
    where = {name: np.concatenate(part) for name, part in parts.items()}
    where["held"] = where["held"][blocks]
    dealt = {name: Tiles(tiles.pixels[part], tiles.labels[part]) for name, part in where.items()}
    return Mosaics(**dealt, test=test, classes=classes, nouns=nouns, sizes=sizes)


def picture(pixels: Pixels, scenes: Ints) -> Pixels:
    """(n, side²) tiles of ``pixels`` (m, h, w, 3) → pictures (n, side · h, side · w, 3)."""
    side = round(scenes.shape[1] ** 0.5)
    h, w = pixels.shape[1:3]
    cells = pixels[scenes.ravel()].reshape(-1, side, side, h, w, 3)
    return np.ascontiguousarray(cells.transpose(0, 1, 3, 2, 4, 5)).reshape(
        -1, side * h, side * w, 3
    )
