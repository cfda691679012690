"""Boundary statistics of class masks: what tells land from patchwork without looking.

Boundaries are the edges between 4-neighbours of different classes; the tile's own frame is none.
Plain arrays in, plain figures out: real masks and layouts are measured by the same functions.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from builder.land.classes import CLASSES

Mask = npt.NDArray[np.uint8]
Flags = npt.NDArray[np.bool_]

STRAIGHT = 8
"""Edges in a row, in pixels, from which on a run of boundary counts as straight."""
SPECK = 8
"""Pixels of a patch up to which it is a speck."""


@dataclass(frozen=True)
class Boundaries:
    """Boundary statistics of a set of masks, pooled over all of them."""

    masks: int
    density: float
    """Boundary edges per pixel."""
    patches: float
    """4-connected regions of a class per mask, the mean."""
    median_patch: float
    """Pixels of the median patch."""
    specks: float
    """Share of the patches that have at most `SPECK` pixels."""
    straight: float
    """Share of the edges that lie in an axis-parallel run of at least `STRAIGHT` edges."""
    adjacency: npt.NDArray[np.float64]
    """(7, 7), symmetric, sum 1 (0 without boundaries): shares of the edges by the two classes."""


def boundaries(masks: Iterable[Mask]) -> Boundaries:
    """The statistics of (h, w) masks of class ids; every mask weighs by its pixels and edges.

    A run is of one pair of classes with the same class on the same side, so that the noise of many
    small patches is no straight line. Raises ValueError when there is no mask.
    """
    n = pixels = edges = straight = 0
    sizes: list[npt.NDArray[np.int64]] = []
    adjacency = np.zeros((len(CLASSES), len(CLASSES)))
    for mask in masks:
        n, pixels = n + 1, pixels + mask.size
        sizes.append(patch_sizes(mask))
        for turned in (mask, mask.T):
            pairs, differ = _edges(turned)
            lengths = _run_lengths(pairs)
            edges += int(differ.sum())
            straight += int(lengths[lengths >= STRAIGHT].sum())
            counts = np.bincount(pairs[differ], minlength=len(CLASSES) ** 2)
            adjacency += counts.reshape(adjacency.shape)
    if not n:
        raise ValueError("boundary statistics need at least one mask")
    every = np.concatenate(sizes)
    return Boundaries(
        masks=n,
        density=edges / pixels,
        patches=len(every) / n,
        median_patch=float(np.median(every)),
        specks=float(np.mean(every <= SPECK)),
        straight=straight / max(1, edges),
        adjacency=(adjacency + adjacency.T) / max(1, 2 * edges),
    )


def patch_sizes(mask: Mask) -> npt.NDArray[np.int64]:
    """(n,) pixels of the 4-connected regions of one class in a (h, w) mask."""
    from scipy import ndimage

    sizes = []
    for k in np.unique(mask):
        labels, _ = ndimage.label(mask == k)
        sizes.append(np.bincount(labels.ravel())[1:])
    return np.concatenate(sizes)


def adjacency_distance(a: Boundaries, b: Boundaries) -> float:
    """Total variation, 0…1, between the class pairs along the boundaries of two sets."""
    return float(np.abs(a.adjacency - b.adjacency).sum() / 2)


def _edges(mask: Mask) -> tuple[npt.NDArray[np.int64], Flags]:
    """(h, w - 1) code of the classes left and right of every vertical edge, -1 where they are the
    same, and whether they differ."""
    left, right = mask[:, :-1].astype(np.int64), mask[:, 1:]
    differ = left != right
    return np.where(differ, left * len(CLASSES) + right, -1), differ


def _run_lengths(pairs: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Lengths of the vertical runs of equal pairs that are boundaries."""
    # A row of -1 below ends each column's last run; columns are then read one after another.
    columns = np.vstack([pairs, np.full((1, pairs.shape[1]), -1)]).T.ravel()
    starts = np.flatnonzero(np.diff(columns, prepend=-1))
    lengths = np.diff(starts, append=len(columns))
    return lengths[columns[starts] >= 0]
