"""Reference tiles, what else a caption could have been about: compositions and coarse layouts."""

import functools
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt

from builder.core.seeds import seed
from builder.land.classes import CLASSES
from builder.scores.agreement import CLASS_SETS

Floats = npt.NDArray[np.float64]
Cells = npt.NDArray[np.uint8]

GRID = 12
"""Cells along a side of a coarse layout: halves, thirds and quarters of a tile are whole cells."""

TILES = 2_048
"""Reference tiles that a caption is ranked among, drawn so that they stand for many more."""

FEWEST = 10
"""Fewer tiles of its own than this, and a file is ranked among the built-in reference tiles."""

BUILT_IN = Path(__file__).with_name("reference_tiles.npz")


@dataclass(frozen=True)
class Reference:
    """``shares`` (N, 7) compositions; ``layouts`` (N, 12, 12, 7), the share of each class in each
    cell in 255ths, or None where layouts are unknown. ``name`` is for summaries."""

    name: str
    shares: Floats
    layouts: Cells | None = None

    def __len__(self) -> int:
        return len(self.shares)

    @cached_property
    def seen(self) -> Floats:
        """Share of every set of classes (a bitmask) in every tile, (128, N)."""
        return np.asarray(CLASS_SETS.astype(float) @ self.shares.T)

    @cached_property
    def larger(self) -> npt.NDArray[np.int64]:
        """How many classes are larger than the largest of every set, in every tile, (128, N)."""
        largest = np.array([self.shares[:, s].max(axis=1, initial=-1) for s in CLASS_SETS])
        return np.asarray((self.shares.T[None] > largest[:, None] + 1e-9).sum(axis=1))


@functools.cache
def built_in() -> Reference:
    """The sample that is shipped with the package: real tiles of 256 pixels, cut from ESA
    WorldCover (CC BY 4.0) by ``scripts/write_reference_tiles.py``; its name ends with its version.
    """
    with np.load(BUILT_IN) as file:
        about = json.loads(str(file["about"]))
        shares = file["pixels"] / file["pixels"].sum(axis=1, keepdims=True)
        return Reference(f"{about['name']}-{about['version']}", shares, file["layouts"])


def coarse(mask: npt.NDArray[np.uint8]) -> Cells:
    """The layout of an (H, W) mask of class ids: (12, 12, 7), shares of each cell in 255ths."""
    down, across = (np.arange(side) * GRID // side for side in mask.shape)
    cell = (down[:, None] * GRID + across) * len(CLASSES) + mask
    counts = np.bincount(cell.ravel(), minlength=GRID * GRID * len(CLASSES))
    counts = counts.reshape(GRID, GRID, len(CLASSES))
    total = np.maximum(counts.sum(axis=-1, keepdims=True), 1)
    return np.asarray(np.rint(255 * counts / total), dtype=np.uint8)


def representatives(ids: Sequence[object], shares: Floats, most: int = TILES) -> list[int]:
    """Positions of at most ``most`` of n tiles that stand for all of them, in ascending order.

    The compositions, ``shares`` (n, 7), are halved along the class that varies most until there
    are ``most`` groups of nearly equal size, and each gives the tile whose id has the smallest
    hash. A mean over them is closer to the mean over all tiles than one over a random draw is:
    what a caption that never changes is ranked by depends on the composition above all.
    """
    keys = np.array([seed("reference", str(id_)) for id_ in ids], dtype=np.float64)
    chosen: list[int] = []
    groups = [(np.argsort(keys, kind="stable"), min(most, len(keys)))]
    while groups:
        members, parts = groups.pop()
        if parts <= 1:
            chosen += members[:1].tolist()
            continue
        spread = shares[members].var(axis=0)
        along = members[np.argsort(shares[members, spread.argmax()], kind="stable")]
        left = parts // 2
        cut = round(len(along) * left / parts)
        for half, share in ((along[:cut], left), (along[cut:], parts - left)):
            groups.append((half[np.argsort(keys[half], kind="stable")], share))
    return sorted(chosen)


@dataclass
class Tiles:
    """Compositions of the tiles of a caption file, gathered row by row and by kind: True for
    synthetic, False for real, None where the file does not say."""

    numbers: dict[bool | None, dict[object, int]] = field(default_factory=dict)
    """Kind → tile → its row in ``shares``."""
    shares: dict[bool | None, list[npt.NDArray[np.float32]]] = field(default_factory=dict)
    """Kind → (n, 7) class fractions, piece by piece."""

    def add(
        self, ids: Sequence[object], kinds: Sequence[bool | None], shares: Floats | None
    ) -> None:
        """Take rows in; of a tile with several rows the first counts."""
        if shares is None:
            return
        fresh: dict[bool | None, list[int]] = {}
        for i in np.flatnonzero(~np.isnan(shares).any(axis=1)).tolist():
            numbers = self.numbers.setdefault(kinds[i], {})
            if ids[i] not in numbers:
                numbers[ids[i]] = len(numbers)
                fresh.setdefault(kinds[i], []).append(i)
        for kind, rows in fresh.items():
            self.shares.setdefault(kind, []).append(shares[rows].astype(np.float32))

    def references(self) -> dict[bool | None, Reference]:
        """Kind → reference tiles of that kind: the file's own, or the built-in ones where it has
        fewer than `FEWEST`."""
        return {kind: self._reference(kind, list(tiles)) for kind, tiles in self.numbers.items()}

    def _reference(self, kind: bool | None, tiles: list[object]) -> Reference:
        if len(tiles) < FEWEST:
            return built_in()
        every = np.concatenate(self.shares[kind]).astype(np.float64)
        at = representatives(tiles, every)
        name = {True: "synthetic tiles", False: "real tiles", None: "tiles"}[kind]
        return Reference(f"{len(at)} {name} of the file", every[at])
