"""Stage: a second opinion on masks, by a classifier that has nothing in common with the segmenter.

The segmenter that judges synthetic tiles also chooses the generator's weights. This classifier is
of another kind and sees none of that: a Gaussian discriminant on the colour and grain of blocks.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from builder.core.errors import ArasError
from builder.core.seeds import seed
from builder.core.store import Store
from builder.land.classes import CLASSES
from builder.land.columns import SPLITS
from builder.land.pictures import decode_mask, decode_png, image_bytes
from builder.steps.stage import Maker, Output, Scan, Stage, each, setting

TRAIN = SPLITS.index("train")
BLOCK = 8
"""Side of a block in pixels."""
TILES, BLOCKS = 400, 100
"""Train tiles that the classifier is fitted to, and most blocks of each."""
PURE = 0.9
"""Share of a block's pixels that must have its class, for the fit."""
LEAST = 20
"""Blocks below which a class is not known."""
POOLED = 0.5
"""Weight of the covariance of all classes in that of each (Friedman 1989)."""

Pixels = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float64]


def block_features(image: Pixels) -> Floats:
    """(rows, columns, 10): mean colour, log spread and log steps of the luminance of each block of
    an (H, W, 3) uint8 image, and the means of the same over the block and its eight neighbours."""
    levels = image.astype(np.float32)
    grey = levels.mean(axis=2)
    steps = np.zeros_like(grey)
    steps[:, 1:] += np.abs(np.diff(grey, axis=1))
    steps[1:] += np.abs(np.diff(grey, axis=0))
    spread = np.sqrt((_means(grey**2) - _means(grey) ** 2).clip(0))
    own = np.dstack([_means(levels), np.log1p(spread), np.log1p(_means(steps))])
    padded = np.pad(own, ((1, 1), (1, 1), (0, 0)), mode="edge")
    height, width = own.shape[:2]
    around = sum(padded[y : y + height, x : x + width] for y in range(3) for x in range(3)) / 9
    return np.concatenate([own, around], axis=2).astype(np.float64)


def block_classes(mask: Pixels) -> tuple[npt.NDArray[np.int64], Floats]:
    """The class with most pixels of each block of an (H, W) mask, and its share of them."""
    shares = _means(np.eye(len(CLASSES), dtype=np.float32)[mask])
    return shares.argmax(axis=2), shares.max(axis=2).astype(np.float64)


def _means(plane: npt.NDArray[Any]) -> npt.NDArray[Any]:
    height, width = (side // BLOCK for side in plane.shape[:2])
    whole = plane[: height * BLOCK, : width * BLOCK]
    blocks = whole.reshape(height, BLOCK, width, BLOCK, *plane.shape[2:])
    return np.asarray(blocks.mean(axis=(1, 3)))


@dataclass(frozen=True, eq=False)
class Discriminant:
    """A Gaussian for each of ``classes`` (k,): ``means`` (k, d), ``whitening`` (k, d, d) and
    ``priors`` (k,), the logarithm of its share of the blocks over its volume."""

    classes: npt.NDArray[np.int64]
    means: Floats
    whitening: Floats
    priors: Floats

    @classmethod
    def of(cls, features: Floats, classes: npt.NDArray[np.int64]) -> "Discriminant | None":
        """From blocks (n, d) and their classes (n,); None where no class has `LEAST` of them."""
        known = [i for i in range(len(CLASSES)) if (classes == i).sum() >= LEAST]
        if not known:
            return None
        means = np.stack([features[classes == i].mean(axis=0) for i in known])
        own = [np.cov(features[classes == i].T) for i in known]
        counts = np.array([(classes == i).sum() for i in known], dtype=np.float64)
        pooled = np.einsum("k,kij->ij", counts / counts.sum(), np.stack(own))
        mixed = [(1 - POOLED) * covariance + POOLED * pooled for covariance in own]
        whitening, volumes = [], []
        for covariance in mixed:
            values, vectors = np.linalg.eigh(covariance)
            values = values.clip(1e-6)
            whitening.append(vectors / np.sqrt(values))
            volumes.append(np.log(values).sum() / 2)
        priors = np.log(counts / counts.sum()) - np.array(volumes)
        return cls(np.array(known, dtype=np.int64), means, np.stack(whitening), priors)

    def classify(self, features: Floats) -> npt.NDArray[np.int64]:
        """The class of each block, (…, d) → (…)."""
        gaps = [(features - mean) @ w for mean, w in zip(self.means, self.whitening, strict=True)]
        scores = np.stack([-np.square(gap).sum(axis=-1) / 2 for gap in gaps], axis=-1)
        return np.asarray(self.classes[(scores + self.priors).argmax(axis=-1)])

    def agreement(self, image: Pixels, mask: Pixels) -> float:
        """Share of the blocks of a tile whose class is that with most pixels of its mask."""
        return float((self.classify(block_features(image)) == block_classes(mask)[0]).mean())


def fit(tiles: Iterable[tuple[Pixels, Pixels, int]]) -> Discriminant | None:
    """From images, masks and seeds; None without a block of a single class."""
    features, classes = [], []
    for image, mask, number in tiles:
        own, shares = block_classes(mask)
        pure = np.flatnonzero(shares.ravel() >= PURE)
        chosen = np.random.default_rng(number).permutation(pure)[:BLOCKS]
        features.append(block_features(image).reshape(own.size, -1)[chosen])
        classes.append(own.ravel()[chosen])
    if not features:
        return None
    return Discriminant.of(np.concatenate(features), np.concatenate(classes))


@dataclass(frozen=True)
class SecondOpinion(Stage):
    """``discriminant_agreement``, a working column: `Discriminant.agreement` of synthetic tiles
    with the ``reference`` that they were drawn on, and of validation and test tiles with their
    masks; null for train tiles, which it is fitted to, and where there is nothing to fit.
    """

    reference: str = "mask"
    rows: tuple[str, ...] = setting(("real", "synthetic"))

    surveys = ("id", "split", "image", "mask")
    surveyed = ("real",)
    adds = ("discriminant_agreement",)

    @property
    def name(self) -> str:
        return "discriminant" if len(self.rows) > 1 else f"discriminant-{self.rows[0]}"

    @property
    def kinds(self) -> tuple[str, ...]:
        return self.rows

    @property
    def needs(self) -> tuple[str, ...]:
        return ("id", "split", "image", self.reference)

    def survey(self, scan: Scan) -> Discriminant | None:
        numbers: list[int] = []
        for _, table in scan(("id", "split")):
            numbers += [_number(row) for row in _train(table).column("id").to_pylist()]
        last = sorted(numbers)[:TILES][-1] if numbers else -1
        return fit(self._sample(scan, last))

    def _sample(self, scan: Scan, last: int) -> Iterable[tuple[Pixels, Pixels, int]]:
        """Train tiles whose number is at most ``last``; those that cannot be decoded are left to
        the stages that fail on them."""
        for _, table in scan(self.surveys):
            train = _train(table)
            ids = train.column("id").to_pylist()
            numbers = [_number(row) for row in ids]
            images, masks = (image_bytes(train.column(name)) for name in ("image", "mask"))
            pairs = list(zip(images, masks, strict=True))
            chosen = [i for i, number in enumerate(numbers) if number <= last]
            whole, _ = each(ids, partial(_decoded, pairs), chosen)
            yield from ((*tile, numbers[i]) for i, tile in whole.items())

    def open(self, store: Store, survey: Discriminant | None) -> Maker:
        def make(table: pa.Table) -> Output:
            ids, splits = (table.column(name).to_pylist() for name in ("id", "split"))
            drawn = [row.startswith("synthetic/") for row in ids]
            images, masks = (image_bytes(table.column(name)) for name in ("image", self.reference))
            pairs = list(zip(images, masks, strict=True))

            def agree(i: int, name: str) -> float | None:
                if survey is None or not (drawn[i] or splits[i] not in (None, TRAIN)):
                    return None
                return survey.agreement(*_decoded(pairs, i, name))

            values, failed = each(ids, agree)
            column = pa.array([values.get(i) for i in range(len(ids))], pa.float32())
            return Output(pa.table({self.adds[0]: column}), failed=failed)

        return make


def _train(table: pa.Table) -> pa.Table:
    chosen = [split == TRAIN for split in table.column("split").to_pylist()]
    return table.filter(pa.array(chosen, pa.bool_()))


def _number(row: str) -> int:
    """What decides whether a train tile is in the sample, and which of its blocks."""
    return seed("discriminant", row)


def _decoded(pairs: Sequence[tuple[bytes, bytes]], i: int, name: str) -> tuple[Pixels, Pixels]:
    image, mask = pairs[i]
    pixels, classes = decode_png(image, name), decode_mask(mask, name)
    if classes.shape != pixels.shape[:2]:
        raise ArasError(f"image and mask differ in size: {pixels.shape}, {classes.shape}")
    return pixels, classes
