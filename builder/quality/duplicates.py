"""Duplicate images: equal pixels, and near-duplicates by perceptual hash and thumbnail.

No model takes part, so that the split can keep duplicates together before anything is trained. The
perceptual hash proposes pairs and the thumbnail, which also knows colour and brightness, decides.
"""

import hashlib
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pydantic import Field

from builder.core.clusters import I64, join, named
from builder.core.errors import ArasError
from builder.core.fields import Section
from builder.core.store import Store
from builder.land.columns import KINDS, SPLITS
from builder.models.neighbours import hamming
from builder.steps.stage import Maker, Output, Scan, Stage

U64 = npt.NDArray[np.uint64]
U8 = npt.NDArray[np.uint8]

LOOKS = ("pixel_sha256", "phash", "thumbnail")
"""Columns that duplicates are recognised by: digest of the pixels, perceptual hash, thumbnail."""

THUMBNAIL = 16
"""Side of a thumbnail in pixels."""

WINDOW = 512
"""Images of a bucket that each image is compared with, ordered by brightness. Only sets with
larger buckets, of near-equal hashes, can lose a pair, and then the cluster is mostly whole."""

_PAIRS_AT_ONCE = 1 << 14
TRAIN = SPLITS.index("train")


class DuplicatesSection(Section):
    """Near-duplicates differ in at most ``bits`` of 64 bits of their perceptual hashes, and their
    thumbnails by at most ``rms`` levels of 255, root mean square over samples."""

    bits: Annotated[int, Field(ge=0, le=16)] = 6
    rms: Annotated[float, Field(ge=0, le=64)] = 4.0


def pixel_digest(image: U8) -> str:
    """sha256, in hex, of an image's shape and samples: equal for any encoder."""
    state = hashlib.sha256(repr(image.shape).encode())
    state.update(np.ascontiguousarray(image).data)
    return state.hexdigest()


def thumbnail(image: U8) -> bytes:
    """Block means of an (H, W, 3) uint8 image as 16×16×3 samples, row by row."""
    height, width = (side // THUMBNAIL * THUMBNAIL for side in image.shape[:2])
    if not height or not width:
        raise ArasError(f"an image of {image.shape} is too small for a thumbnail (16×16)")
    tall, wide = height // THUMBNAIL, width // THUMBNAIL
    rows = image[:height, :width].reshape(THUMBNAIL, tall, width * 3).sum(axis=1, dtype=np.uint32)
    total = rows.reshape(THUMBNAIL, THUMBNAIL, wide, 3).sum(axis=2)
    return bytes(np.rint(total / (tall * wide)).astype(np.uint8))


def exact_clusters(digests: Sequence[str]) -> I64:
    """(n,) the number of the first image with the same digest."""
    first: dict[str, int] = {}
    return np.array(
        [first.setdefault(digest, i) for i, digest in enumerate(digests)], dtype=np.int64
    )


def near_clusters(
    exact: I64, hashes: U64, thumbnails: Sequence[bytes], bits: int, rms: float
) -> I64:
    """(n,) the number of the first image of each near-duplicate cluster.

    ``exact`` are the clusters of equal images, which these contain. Clusters are connected
    components: A ~ B and B ~ C put A and C together.
    """
    label = exact.copy()
    first = np.flatnonzero(exact == np.arange(len(exact)))
    small = np.frombuffer(b"".join(thumbnails), np.uint8).reshape(-1, THUMBNAIL**2 * 3)
    brightness = small.mean(axis=1, dtype=np.float64)
    for a, b in close_pairs(hashes[first], brightness[first], bits):
        a, b = first[a], first[b]
        fresh = label[a] != label[b]
        a, b = a[fresh], b[fresh]
        gap = small[a].astype(np.int32) - small[b]
        alike = (gap**2).mean(axis=1) <= rms**2
        label = join(label, a[alike], b[alike])
    return label


@dataclass
class Looks:
    """What duplicates are recognised by, gathered shard by shard."""

    digests: list[str]
    hashes: list[int]
    thumbnails: list[bytes]

    @classmethod
    def none(cls) -> "Looks":
        return cls([], [], [])

    def see(self, table: pa.Table) -> None:
        self.digests += table.column("pixel_sha256").to_pylist()
        self.hashes += table.column("phash").to_pylist()
        self.thumbnails += table.column("thumbnail").to_pylist()

    def clusters(self, bits: int, rms: float) -> tuple[I64, I64]:
        """Exact and near-duplicate clusters: (n,) number of the first member, twice."""
        exact = exact_clusters(self.digests)
        hashes = np.array(self.hashes, dtype=np.uint64)
        return exact, near_clusters(exact, hashes, self.thumbnails, bits, rms)

    def take(self, rows: I64) -> "Looks":
        return Looks(*([some[i] for i in rows] for some in vars(self).values()))


def close_pairs(
    hashes: U64, order: npt.NDArray[np.float64], bits: int
) -> Iterator[tuple[I64, I64]]:
    """Batches of pairs of ``hashes`` that differ in at most ``bits`` bits; some come repeatedly.

    Of ``bits`` + 3 bands at least three are equal in such a pair (pigeonhole), so the buckets of
    every three bands hold all of them. ``order`` (n,) sorts a bucket, see `WINDOW`.
    """
    bands = [sum(1 << int(bit) for bit in part) for part in np.array_split(np.arange(64), bits + 3)]
    waiting: list[tuple[I64, I64]] = []
    for some in itertools.combinations(bands, 3):
        keys = hashes & np.uint64(sum(some))
        place = np.lexsort((order, keys))
        keys = keys[place]
        here = np.arange(len(keys))
        for step in range(1, min(WINDOW, len(keys) - 1) + 1):
            here = here[here < len(keys) - step]
            here = here[keys[here] == keys[here + step]]
            if not len(here):
                break
            a, b = place[here], place[here + step]
            close = hamming(hashes[a], hashes[b]) <= bits
            waiting.append((a[close], b[close]))
            if sum(len(pair[0]) for pair in waiting) >= _PAIRS_AT_ONCE:
                yield _joined(waiting)
                waiting = []
        if waiting:
            yield _joined(waiting)
            waiting = []


def _joined(pairs: list[tuple[I64, I64]]) -> tuple[I64, I64]:
    return np.concatenate([a for a, _ in pairs]), np.concatenate([b for _, b in pairs])


@dataclass(frozen=True)
class Clusters:
    """Names of clusters of at least two rows, by row id, and synthetic rows that repeat a real
    validation or test tile."""

    exact: dict[str, str]
    near: dict[str, str]
    held_out: frozenset[str]


@dataclass(frozen=True)
class Duplicates(Stage):
    """``duplicate_cluster`` and ``near_duplicate_cluster``: the first id of a cluster, null for a
    row that is alone. Rows that the split set aside are not looked at.

    ``repeats_held_out``, a working column, marks synthetic rows in a cluster with a validation or
    test tile. They take part in no other cluster, so that none spans train and test through them.
    """

    bits: int
    rms: float

    light = True
    needs = ("id",)
    surveys = ("id", "split", *LOOKS)
    adds = ("duplicate_cluster", "near_duplicate_cluster", "repeats_held_out")

    def survey(self, scan: Scan) -> Clusters:
        ids: list[str] = []
        synthetic: list[bool] = []
        splits: list[int] = []
        looks = Looks.none()
        for shard, table in scan(self.surveys):
            table = table.filter(table.column("split").is_valid())
            ids += table.column("id").to_pylist()
            splits += table.column("split").to_pylist()
            synthetic += [shard.startswith(KINDS[1])] * table.num_rows
            looks.see(table)
        exact, near = looks.clusters(self.bits, self.rms)
        drawn, held_out = np.array(synthetic, bool), np.array(splits, int) != TRAIN
        beside = np.zeros(len(ids), dtype=bool)  # by the first member of its cluster
        beside[near[held_out & ~drawn]] = True
        repeats = drawn & beside[near]
        clusters = named(ids, exact), named(ids, near)
        if repeats.any():
            rest = np.flatnonzero(~repeats)
            kept = [ids[i] for i in rest]
            again = looks.take(rest).clusters(self.bits, self.rms)
            for cluster_of, label in zip(clusters, again, strict=True):
                for row in kept:
                    cluster_of.pop(row, None)
                cluster_of.update(named(kept, label))
        return Clusters(*clusters, frozenset(ids[i] for i in np.flatnonzero(repeats)))

    def open(self, store: Store, survey: Any) -> Maker:
        return lambda table: _look_up(table, survey)


def _look_up(table: pa.Table, clusters: Clusters) -> Output:
    ids = table.column("id").to_pylist()
    columns = {
        "duplicate_cluster": pa.array([clusters.exact.get(row) for row in ids], pa.string()),
        "near_duplicate_cluster": pa.array([clusters.near.get(row) for row in ids], pa.string()),
        "repeats_held_out": pa.array([row in clusters.held_out for row in ids], pa.bool_()),
    }
    near = table.num_rows - columns["near_duplicate_cluster"].null_count
    exact = table.num_rows - columns["duplicate_cluster"].null_count
    counts = {
        "exact": exact,
        "near": near,
        "repeats_held_out": sum(columns["repeats_held_out"].to_pylist()),
    }
    return Output(pa.table(columns), counts)
