"""What the imbalance experiment is made on: train rows, real test tiles and their pictures."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from builder.bench import arms, contrasts, gallery
from builder.bench.arms import Rows
from builder.bench.ranks import Floats, Ints
from builder.errors import ArasError
from builder.models.compact_clip import shrink
from builder.pictures import Pixels, decode_png


@dataclass(frozen=True)
class Test:
    """N real test tiles: ids, one caption each, class shares (N, K), blocks where known."""

    ids: list[str]
    captions: list[str]
    shares: Floats
    blocks: list[str] | None


@dataclass(frozen=True)
class Material:
    """Train rows, test tiles, and the pictures of both at a side given in pixels.

    ``facts`` is what a report tells of the release or set; its ``content_sha256`` stands for all
    pictures in the keys of runs. ``pictures(size)`` gives (train, test), (n, size, size, 3) uint8,
    ``tiles()`` the test tiles at their full size: batches of (places in ``test``, (H, W, 3) each).
    """

    facts: dict[str, Any]
    rows: Rows
    test: Test
    pictures: Callable[[int], tuple[Pixels, Pixels]]
    tiles: Callable[[], Iterable[tuple[Ints, list[Pixels]]]]
    judged: str = "S"
    """Protocol that conclusions are drawn under: S, or C where captions name a class alone."""
    depth: int = contrasts.DEPTH
    """K of the R@K by class."""


class Source(Protocol):
    """Where material comes from; picklable, so that an engine's workers load it themselves."""

    def load(self) -> Material: ...


@dataclass(frozen=True)
class ReleaseSource:
    """The train rows and the real test tiles of a release that have a caption in ``stream``."""

    release: Path
    stream: str
    min_km: float = gallery.MIN_KM
    near: str = "refuse"

    def load(self) -> Material:
        """Raises ArasError when either source is missing and for test tiles near train tiles."""
        rows = arms.load(self.release, self.stream)
        test = gallery.load(self.release, min_km=self.min_km, near=self.near)
        having = np.array([text is not None for text in test.streams[self.stream]])
        test = test.take(np.flatnonzero(having))
        if len(test) < 2:
            raise ArasError(f"{self.release}: fewer than 2 test tiles have a {self.stream} caption")
        captions = [str(text) for text in test.streams[self.stream]]
        return Material(
            test.facts,
            rows,
            Test(test.ids, captions, test.shares, test.blocks),
            lambda size: (
                self._pixels(rows.ids, "train", size),
                self._pixels(test.ids, test.split, size),
            ),
            lambda: self._whole(test.ids, test.split),
        )

    def _whole(self, ids: list[str], split: str) -> Iterator[tuple[Ints, list[Pixels]]]:
        for where, data in gallery.pictures(self.release, ids, split):
            yield where, [decode_png(one, ids[i]) for one, i in zip(data, where, strict=True)]

    def _pixels(self, ids: list[str], split: str, size: int) -> npt.NDArray[np.uint8]:
        out = np.empty((len(ids), size, size, 3), np.uint8)
        for where, tiles in self._whole(ids, split):
            for i, tile in zip(where, tiles, strict=True):
                out[i] = shrink(tile, size)
        return out
