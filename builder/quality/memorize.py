"""Stage: how near every synthetic tile comes to a real train tile, against what is usual.

A generator that copies its training data betrays itself by synthetic tiles nearer to a train
tile than unseen real tiles are. Distances are Euclidean in `Segment`'s features, differences are
bits of perceptual hashes; both are exact, over all train tiles, and the smallest over the turns
and flips of the tile that is compared (`Turned`), because a turned copy is a copy. Tiles drawn on
the layout of a train tile come near it too, without a pixel of it: `copies` decides.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pydantic import Field

from builder.core.errors import ArasError
from builder.core.fields import NotNegative, Section
from builder.core.store import Store
from builder.land.columns import SPLITS
from builder.land.pictures import decode_png, image_bytes
from builder.models.neighbours import matrix, nearest, nearest_hash, perceptual_hash
from builder.models.record import require
from builder.quality.embed import finite
from builder.steps.stage import Maker, Output, Scan, Stage, each, setting

TRAIN, TEST = SPLITS.index("train"), SPLITS.index("test")
SYMMETRIES = 8
"""Of a square: four quarter turns, of the tile as it is and of its mirror image."""

COMPARED = ("features", "turned_features", "phash", "turned_hashes")
"""Columns that a tile is compared by."""


class MemorizationSection(Section):
    copy_ratio: NotNegative = 0.3
    copy_bits: Annotated[int, Field(ge=-1, le=64)] = 4
    drop_copies: bool = True


@dataclass(frozen=True)
class Turned(Stage):
    """``turned_features`` and ``turned_hashes`` of the seven turns and flips of a tile besides
    itself, of every synthetic row and, to know what is usual, of every real test row; null for
    other rows. The features are `Segment`'s: seven forward passes a tile.
    """

    kind: str = "synthetic"
    model: Path = setting(Path())

    gpus = 1
    adds = ("turned_features", "turned_hashes")

    @property
    def name(self) -> str:
        return f"turned-{self.kind}"

    @property
    def kinds(self) -> tuple[str, ...]:
        return (self.kind,)

    @property
    def needs(self) -> tuple[str, ...]:
        return ("id", "image", "split") if self.kind == "real" else ("id", "image")

    def models(self) -> dict[str, str]:
        return {"segmenter": require(self.model, "segmenter").weights_sha256}

    def open(self, store: Store, survey: Any) -> Maker:
        from builder.models import segmenter

        model = segmenter.load(self.model)

        def make(table: pa.Table) -> Output:
            ids = table.column("id").to_pylist()
            wanted = [True] * len(ids)
            if self.kind == "real":
                wanted = [split == TEST for split in table.column("split").to_pylist()]
            images = image_bytes(table.column("image"))

            def look(i: int, name: str) -> tuple[Any, Any]:
                if not wanted[i]:
                    return None, None
                others = symmetries(decode_png(images[i], name))[1:]
                features = finite(segmenter.look(model, others)[1].ravel())
                return features, [perceptual_hash(image) for image in others]

            looks, failed = each(ids, look)
            pairs = [looks.get(i, (None, None)) for i in range(len(ids))]
            columns = {
                "turned_features": pa.array([a for a, _ in pairs], pa.list_(pa.float32())),
                "turned_hashes": pa.array([b for _, b in pairs], pa.list_(pa.uint64())),
            }
            return Output(pa.table(columns), failed=failed)

        return make


def symmetries(image: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """The eight turns and flips of a square (s, s, 3) tile, (8, s, s, 3), itself first.

    Raises ArasError for a tile that is not square."""
    if image.shape[0] != image.shape[1]:
        raise ArasError(f"is {image.shape[1]}×{image.shape[0]} pixels, expected a square")
    mirrored = (image, image[:, ::-1])
    return np.stack([np.rot90(side, turns) for side in mirrored for turns in range(4)])


@dataclass(frozen=True)
class Gallery:
    """Train tiles, and the usual distance: the median from a real test tile to its nearest."""

    ids: list[str]
    features: npt.NDArray[np.float32]
    hashes: npt.NDArray[np.uint64]
    usual: float


@dataclass(frozen=True)
class Memorize(Stage):
    """``nearest_real_ratio``: distance to the nearest train tile over the usual distance.

    A tile is ``suspected``, a working column, of being a copy when its ratio is below
    ``copy_ratio``, or when its perceptual hash differs from that of any train tile in at most
    ``copy_bits`` bits; `Copies` compares it with that tile pixel by pixel. ``nearest_real_id`` is
    the nearest tile in features, and where the hash alone is near, the tile that it is near to.
    """

    version = 3

    copy_ratio: float
    copy_bits: int

    kinds = ("synthetic",)
    light = True
    needs = ("id", *COMPARED)
    surveys = ("id", "split", *COMPARED)
    surveyed = ("real",)
    adds = ("nearest_real_id", "nearest_real_ratio", "suspected")

    def survey(self, scan: Scan) -> Gallery:
        """Raises ArasError when there are no train or no test tiles to calibrate with."""
        ids: list[str] = []
        features, hashes = [], []
        for _, table in scan(("id", "split", "features", "phash")):
            if (train := _of(table, TRAIN)).num_rows:
                ids += train.column("id").to_pylist()
                features.append(matrix(train.column("features")))
                hashes.append(train.column("phash").to_numpy())
        gaps = []
        if ids:
            gallery = np.concatenate(features)
            tests = (_of(table, TEST) for _, table in scan(("split", *COMPARED)))
            gaps = [_nearest(test, gallery)[1] for test in tests if test.num_rows]
        if not gaps:
            raise ArasError(
                "memorisation needs real train and real test tiles, and either split is "
                "empty: change shares, block or buffer_km in [split]"
            )
        usual = float(np.median(np.concatenate(gaps)))
        if usual == 0:
            raise ArasError(
                "half of the real test tiles equal a train tile; check where they come from"
            )
        return Gallery(ids, gallery, np.concatenate(hashes), usual)

    def open(self, store: Store, survey: Gallery) -> Maker:
        def make(table: pa.Table) -> Output:
            places, gap = _nearest(table, survey.features)
            ratio = gap / survey.usual
            alike, bits = _nearest_hash(table, survey.hashes)
            by_ratio, by_hash = ratio < self.copy_ratio, bits <= self.copy_bits
            named = np.where(by_hash & ~by_ratio, alike, places)
            suspected = by_ratio | by_hash
            columns: dict[str, pa.Array] = {
                "nearest_real_id": pa.array([survey.ids[i] for i in named], pa.string()),
                "nearest_real_ratio": pa.array(ratio, pa.float32()),
                "suspected": pa.array(suspected),
            }
            return Output(pa.table(columns), {"suspected": int(suspected.sum())})

        return make


def _of(table: pa.Table, split: int) -> pa.Table:
    mask = [value == split for value in table.column("split").to_pylist()]
    return table.filter(pa.array(mask, pa.bool_()))


def _nearest(
    table: pa.Table, gallery: npt.NDArray[np.float32]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """The nearest gallery row of each row in any of its symmetries: positions and distances."""
    upright = matrix(table.column("features"))
    turned = matrix(table.column("turned_features"))
    every = np.concatenate([upright, turned], axis=1).reshape(-1, upright.shape[1])
    places, gaps = (part.reshape(-1, SYMMETRIES) for part in nearest(every, gallery))
    return _smallest(places, gaps)


def _nearest_hash(
    table: pa.Table, gallery: npt.NDArray[np.uint64]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """The gallery row of the nearest hash, in any symmetry: positions and differing bits."""
    upright = table.column("phash").to_numpy()[:, None]
    turned = table.column("turned_hashes").combine_chunks().flatten().to_numpy()
    every = np.concatenate([upright, turned.reshape(len(upright), -1)], axis=1).ravel()
    places, bits = (part.reshape(-1, SYMMETRIES) for part in nearest_hash(every, gallery))
    return _smallest(places, bits)


def _smallest(places: Any, gaps: Any) -> tuple[Any, Any]:
    best = np.argmin(gaps, axis=1)[:, None]
    take = np.take_along_axis
    return take(places, best, axis=1)[:, 0], take(gaps, best, axis=1)[:, 0]
