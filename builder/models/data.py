"""Training data: decoded tiles of a split in a memory-mapped file, decoded once, flat in memory."""

import contextlib
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from builder.core.errors import ArasError
from builder.core.files import atomic, digest_of, sweep
from builder.core.progress import bar
from builder.core.store import Store
from builder.land.columns import SPLITS
from builder.land.pictures import decode_mask, decode_png, image_bytes
from builder.steps.stage import shards

Item = TypeVar("Item")
Picture = tuple[int, str, bytes, bytes]
"""A tile to decode: its place among the others, its id, its image and its mask as PNG."""

NEEDS = ("id", "image", "mask", "split")


@dataclass(frozen=True)
class Tiles:
    """Decoded tiles: ``pixels`` (n, H, W, 4) uint8, RGB and class id, mapped from disk.

    Crops come from the tiles ``pool`` (all unless given); a tile that it holds twice is drawn
    twice as often.
    """

    pixels: npt.NDArray[np.uint8]
    digest: str
    pool: npt.NDArray[np.int64] | None = None

    def __len__(self) -> int:
        return len(self.pixels)

    def crops(
        self, rng: np.random.Generator, batch: int, size: int
    ) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
        """Random crops, turned and flipped: images (batch, size, size, 3) and masks (batch, size,
        size), uint8. Raises ArasError when tiles are smaller than ``size``."""
        height, width = self.pixels.shape[1:3]
        if size > min(height, width):
            raise ArasError(
                f"crop = {size} is larger than the tiles of {width}×{height} pixels: set a smaller "
                "crop in [segmenter] and [generator]"
            )
        out = np.empty((batch, size, size, 4), dtype=np.uint8)
        for i in range(batch):
            tile = rng.integers(len(self)) if self.pool is None else rng.choice(self.pool)
            y, x = rng.integers(height - size + 1), rng.integers(width - size + 1)
            patch = self.pixels[tile, y : y + size, x : x + size]
            patch = np.rot90(patch, int(rng.integers(4)))
            out[i] = patch[:, ::-1] if rng.integers(2) else patch
        return out[..., :3], out[..., 3]


def digest(store: Store, split: str) -> str:
    """Digest of all real tiles and their splits: what a training on ``split`` depends on."""
    columns = {shard: store.find(shard, NEEDS) for shard in shards(store, ("real",))}
    return digest_of([split, {s: [d for _, d in where.values()] for s, where in columns.items()}])


def load(store: Store, split: str) -> Tiles:
    """Decode the real tiles of ``split`` into work/.cache (once per content) and map them.

    Memory stays at one shard. Raises ArasError when the split is empty or tiles differ in size.
    """
    wanted = SPLITS.index(split)
    names = shards(store, ("real",))
    if not names:
        raise ArasError("there are no real tiles yet: run `aras tiles` (or `aras import`) first")
    key = digest(store, split)
    path = store.root / ".cache" / f"{split}-{key[:16]}.npy"
    if not path.exists():
        rows = sum(
            t.column("split").to_pylist().count(wanted)
            for _, t in store.scan(names, NEEDS, sound=True)
        )
        if not rows:
            raise ArasError(
                f"split {split} has no tiles: change shares, block or buffer_km in [split]"
            )
        sweep(path.parent)
        for old in path.parent.glob(f"{split}-*.npy"):
            old.unlink(missing_ok=True)
        with atomic(path) as temporary:
            decode(_pictures(store, names, wanted), rows, temporary)
    return Tiles(np.load(path, mmap_mode="r"), key)


def _pictures(store: Store, names: list[str], wanted: int) -> Iterator[Picture]:
    place = 0
    for _, table in store.scan(names, NEEDS, sound=True):
        ids, splits = (table.column(name).to_pylist() for name in ("id", "split"))
        images, masks = image_bytes(table.column("image")), image_bytes(table.column("mask"))
        for i in (i for i, split in enumerate(splits) if split == wanted):
            yield place, ids[i], images[i], masks[i]
            place += 1


def decode(pictures: Iterable[Picture], rows: int, path: Path) -> None:
    """Write tiles to ``path`` as `Tiles.pixels` of ``rows`` tiles, one at a time.

    Raises ArasError when they differ in size.
    """
    out = None
    with bar("decode tiles", rows, "tiles") as advance:
        for place, id_, image_png, mask_png in pictures:
            image, mask = decode_png(image_png, id_), decode_mask(mask_png, id_)
            if out is None:
                shape = (rows, *mask.shape, 4)
                out = np.lib.format.open_memmap(  # type: ignore[no-untyped-call]
                    path, mode="w+", dtype=np.uint8, shape=shape
                )
            if (*image.shape[:2], 4) != out.shape[1:] or image.shape[:2] != mask.shape:
                raise ArasError(f"{id_}: is {image.shape}, the others are {out.shape[1:]}")
            out[place, ..., :3], out[place, ..., 3] = image, mask
            advance(1)


@contextlib.contextmanager
def ahead(make: Callable[[int], Item]) -> Iterator[Callable[[int], Item]]:
    """Yield ``make``, with the result for step + 1 computed in a thread while step is worked on."""
    with ThreadPoolExecutor(1) as pool:
        waiting: dict[int, Future[Item]] = {}

        def take(step: int) -> Item:
            item = (waiting.pop(step, None) or pool.submit(make, step)).result()
            waiting[step + 1] = pool.submit(make, step + 1)
            return item

        yield take
