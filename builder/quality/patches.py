"""Copies in parts: where the detail of a tile is that of a piece of another, moved, turned or
enlarged.

Tiles are compared in frames of 64 pixels of what their land cover does not explain: luminance less
the mean of its class. Extrema of a band of it are *patches*, which every copy of at least a quarter
of a tile has several of; signs of the low frequencies around an extremum are a code of 63 bits that
changes little by brightness, noise and compression. Codes with a part in common propose a tile and
a place in it (`propose`), by the votes of patches that agree on them; `copies` decides whether it
is a copy.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image

from builder.land.classes import CLASSES
from builder.models.neighbours import hamming

F32 = npt.NDArray[np.float32]
I64 = npt.NDArray[np.int64]
U64 = npt.NDArray[np.uint64]

SIDE = 64
"""Pixels per side of a frame; a quarter of any tile is then 32 pixels wide."""
CENTRE = (SIDE - 1) / 2
SCALES = (1.0, 1.12, 1.25)
"""How much larger a copy may be than its original; a code holds for some 6 % around each."""
MOST = (160, 50, 50)
"""Patches of a tile at each scale, the strongest: an enlarged copy fills its tile, and has many."""
EXTREMUM = 5
"""Pixels around a patch's centre in which it is the extremum."""
HALF = 8
"""A patch reaches this many pixels from its centre."""
WAVES = 8
"""Frequencies of a patch per axis; all but the mean are a bit of its code."""
AMBIGUOUS = 0.25
"""A patch is turned so that it darkens to the right and downwards, more so to the right; one of a
query that by this share nearly darkens otherwise is tried in that turn too."""
BANDS, BAND_BITS = 3, 14
"""Parts of a code, of its most stable bits, of which one must be equal, but for one of `WEAK`."""
WEAK = 2
MOST_BITS = 18
"""Bits in which two codes may differ to count as a match; a match votes by how few they are."""
CELL = 4
"""Pixels by which places may differ that patches agree on."""
PROPOSED = 16
"""Places that are compared pixel by pixel, those with most votes."""
PAIRS_AT_ONCE = 1 << 21


def frame_of(image: npt.NDArray[np.uint8], mask: npt.NDArray[np.uint8]) -> F32:
    """(64, 64) luminance, levels, of a square tile (s, s, 3) less the mean of each pixel's class
    in ``mask`` (s, s)."""
    grey = image.astype(np.float32) @ np.array((0.299, 0.587, 0.114), np.float32)
    ids = mask.ravel()
    pixels = np.bincount(ids, minlength=len(CLASSES))
    sums = np.bincount(ids, weights=grey.ravel(), minlength=len(CLASSES))
    rest = grey - (sums / np.maximum(pixels, 1)).astype(np.float32)[mask]
    if len(rest) == SIDE:
        return rest
    how = Image.Resampling.BOX if len(rest) > SIDE else Image.Resampling.BILINEAR
    return np.asarray(Image.fromarray(rest).resize((SIDE, SIDE), how), np.float32)


class Patches(NamedTuple):
    """n patches of a frame: ``codes`` (n,) 63 bits, ``places`` (n, 2) of their centres, row and
    column from the frame's centre, ``turns`` (n,) under which they are coded (see `turn_matrices`),
    ``scales`` (n,) positions in `SCALES`, ``waves`` (n, 63) what the bits are the signs of."""

    codes: U64
    places: F32
    turns: I64
    scales: I64
    waves: F32


def patches_of(frame: F32, *, query: bool = False) -> Patches:
    """The patches of a frame at its own scale, each in one turn; of a ``query`` at every scale and,
    where two turns are nearly as good, in both."""
    views = range(len(SCALES)) if query else [0]
    return joined([_patches(shrunk(frame, SCALES[k]), k, query) for k in views])


def _patches(view: F32, scale: int, query: bool) -> Patches:
    rows, columns = _extrema(view, MOST[scale])
    detail = blurred(view, 0.7) - blurred(view, 4.0)
    width = 2 * HALF + 1
    cut = np.lib.stride_tricks.sliding_window_view(detail, (width, width))
    pieces = cut[rows - HALF, columns - HALF] * _window()
    pieces = pieces - pieces.mean(axis=(1, 2), keepdims=True)
    waves = _turned(_cosines() @ pieces @ _cosines().T)
    down, right = waves[:, :, 1, 0], waves[:, :, 0, 1]
    slack = (AMBIGUOUS if query else 0) * np.hypot(down, right)
    patch, turn = np.nonzero((right > -slack) & (down > -slack) & (right - down > -slack))
    rows_of_bits, columns_of_bits = _stable()
    values = waves[patch, turn][:, rows_of_bits, columns_of_bits]
    places = np.stack([rows, columns], axis=1)[patch] - (len(view) - 1) / 2
    return Patches(
        _packed(values > 0),
        places.astype(np.float32),
        turn.astype(np.int64),
        np.full(len(patch), scale),
        values.astype(np.float32),
    )


def _extrema(view: F32, most: int) -> tuple[I64, I64]:
    """Rows and columns of the strongest extrema of a band, those whose patch is inside."""
    from scipy import ndimage

    band = blurred(view, 1.2) - blurred(view, 2.4)
    peak = band == ndimage.maximum_filter(band, EXTREMUM)
    peak |= band == ndimage.minimum_filter(band, EXTREMUM)
    peak &= band != 0
    inside = np.zeros_like(peak)
    inside[HALF:-HALF, HALF:-HALF] = True
    rows, columns = np.nonzero(peak & inside)
    order = np.argsort(-np.abs(band[rows, columns]), kind="stable")[:most]
    return rows[order], columns[order]


@dataclass(frozen=True)
class Index:
    """Patches of many tiles, found by parts of their codes. ``tiles`` (n,) are their numbers."""

    patches: Patches
    tiles: I64
    tables: tuple[tuple[I64, I64], ...]

    @classmethod
    def of(cls, patches: Patches, tiles: I64) -> "Index":
        tables = []
        for bits in _bands():
            keys = _keys(patches.codes, bits)
            starts = np.zeros((1 << BAND_BITS) + 1, np.int64)
            starts[1:] = np.bincount(keys, minlength=1 << BAND_BITS).cumsum()
            tables.append((np.argsort(keys, kind="stable"), starts))
        return cls(patches, tiles, tuple(tables))


class Proposal(NamedTuple):
    """A place to compare: the point p of the query's frame, turned and shrunk by ``scale``, lies
    at p + (``row``, ``column``) in the frame of ``tile``, both from their centres."""

    votes: float
    tile: int
    turn: int
    scale: int
    row: float
    column: float


def propose(index: Index, queries: Sequence[Patches]) -> list[list[Proposal]]:
    """For each query the tiles of ``index`` and places in them that most of its patches agree on,
    at most `PROPOSED`, those with most votes first."""
    proposals: list[list[Proposal]] = [[] for _ in queries]
    if not len(index.tiles):
        return proposals
    # Pairs of a query patch grow with the index: so many queries at once that memory stays flat.
    each = max(1.0, len(index.tiles) * BANDS * (1 + WEAK) / (1 << BAND_BITS))
    start = 0
    while start < len(queries):
        stop, pairs = start, 0.0
        while stop < len(queries) and (pairs < PAIRS_AT_ONCE or stop == start):
            pairs += len(queries[stop].codes) * each
            stop += 1
        for number, proposal in _agreed(index, queries[start:stop]):
            proposals[start + number].append(proposal)
        start = stop
    return proposals


def _agreed(index: Index, queries: Sequence[Patches]) -> list[tuple[int, Proposal]]:
    asked = joined(queries)
    rows = np.repeat(np.arange(len(queries)), [len(query.codes) for query in queries])
    a, b, weights = _matches(index, asked)
    theirs = index.patches
    turn = _compositions()[asked.turns[a], theirs.turns[b]]
    moved = np.einsum("nij,nj->ni", turn_matrices()[turn], asked.places[a])
    offsets = theirs.places[b] - moved
    group = ((rows[a] * (index.tiles.max() + 1) + index.tiles[b]) * 8 + turn) * len(SCALES)
    group += asked.scales[a]
    # Four grids of cells, half a cell apart: near places share a cell of at least one.
    span = 2 * SIDE // CELL + 2
    keys = []
    for grid, shift in enumerate(np.ndindex(2, 2)):
        place = np.floor(offsets / CELL + SIDE // CELL + np.array(shift) / 2).astype(np.int64)
        keys.append(((group * 4 + grid) * span + place[:, 0]) * span + place[:, 1])
    cells, cell = np.unique(np.concatenate(keys), return_inverse=True)
    every = np.tile(weights, 4)
    votes = np.bincount(cell, weights=every)
    places = [np.bincount(cell, weights=every * np.tile(o, 4)) / votes for o in offsets.T]
    groups = cells // (4 * span * span)
    best = np.lexsort((groups, -votes))
    same = groups[best] // len(SCALES)  # one place per turn of a tile
    best = best[np.sort(np.unique(same, return_index=True)[1])]
    tile_of, row_of = groups // (8 * len(SCALES)), index.tiles.max() + 1
    best = best[np.argsort(tile_of[best] // row_of, kind="stable")]
    owner = tile_of[best] // row_of
    first = np.searchsorted(owner, owner)
    best = best[np.arange(len(best)) - first < PROPOSED]
    return [
        (
            int(tile_of[k] // row_of),
            Proposal(
                float(votes[k]),
                int(tile_of[k] % row_of),
                int(groups[k] // len(SCALES) % 8),
                int(groups[k] % len(SCALES)),
                float(places[0][k]),
                float(places[1][k]),
            ),
        )
        for k in best
    ]


def _matches(index: Index, asked: Patches) -> tuple[I64, I64, npt.NDArray[np.float64]]:
    """Pairs of patches, (m,) positions on either side, whose codes match, and their weights."""
    size = len(index.tiles)
    pairs = [np.empty(0, np.int64)]
    for bits, (order, starts) in zip(_bands(), index.tables, strict=True):
        keys = _keys(asked.codes, bits)
        weak = np.argsort(np.abs(asked.waves[:, bits]), axis=1)[:, :WEAK]
        tried = np.concatenate([keys[:, None], keys[:, None] ^ (1 << weak)], axis=1).ravel()
        first = starts[tried]
        counts = starts[tried + 1] - first
        a = np.repeat(np.arange(len(keys)).repeat(1 + WEAK), counts)
        before = np.repeat(first - counts.cumsum() + counts, counts)
        b = order[before + np.arange(len(a))]
        close = hamming(asked.codes[a], index.patches.codes[b]) <= MOST_BITS
        pairs.append(a[close] * size + b[close])
    a, b = np.divmod(np.unique(np.concatenate(pairs)), size)
    apart = hamming(asked.codes[a], index.patches.codes[b])
    return a, b, np.asarray(MOST_BITS + 1.0 - apart, np.float64)


def shrunk(frame: F32, scale: float) -> F32:
    if scale == 1:
        return frame
    side = round(SIDE / scale)
    return np.asarray(Image.fromarray(frame).resize((side, side), Image.Resampling.BILINEAR))


def blurred(frame: F32, sigma: float) -> F32:
    from scipy import ndimage

    return np.asarray(ndimage.gaussian_filter(frame, sigma, mode="nearest", truncate=3), np.float32)


@cache
def turn_matrices() -> I64:
    """(8, 2, 2) what the turns of a square do to (row, column) from its centre: turn 4 f + q is a
    flip from left to right where f is 1, then q quarter turns counter-clockwise."""
    quarter, flip = np.array([[0, -1], [1, 0]]), np.diag([1, -1])
    return np.stack(
        [
            np.linalg.matrix_power(quarter, q) @ (flip if f else np.eye(2, dtype=int))
            for f in range(2)
            for q in range(4)
        ]
    ).astype(np.int64)


@cache
def _compositions() -> I64:
    """(8, 8) the turn that brings a patch coded under turn a onto an equal one coded under b."""
    matrices = turn_matrices()

    def number(matrix: I64) -> int:
        return next(k for k in range(8) if (matrices[k] == matrix).all())

    return np.array([[number(b.T @ a) for b in matrices] for a in matrices])


def _turned(waves: F32) -> F32:
    """(n, 8, w, w) the waves of n turned patches, by those of the patches (n, w, w): a flip changes
    the sign of odd waves, a quarter turn swaps the axes."""
    signs = (-1.0) ** np.arange(WAVES)
    turns = []
    for turned in (waves, waves * signs):
        for _ in range(4):
            turns.append(turned)
            turned = turned.transpose(0, 2, 1) * signs[:, None]
    return np.stack(turns, axis=1)


@cache
def _cosines() -> F32:
    width = 2 * HALF + 1
    place = (np.arange(width) + 0.5) / width
    return np.cos(np.pi * np.arange(WAVES)[:, None] * place).astype(np.float32)


@cache
def _window() -> F32:
    side = np.sqrt(np.hanning(2 * HALF + 3)[1:-1])
    return np.outer(side, side).astype(np.float32)


@cache
def _stable() -> tuple[I64, I64]:
    """The frequencies of the bits, the lowest, which change least, first."""
    pairs = [(u, v) for u in range(WAVES) for v in range(WAVES) if u + v]
    u, v = np.array(sorted(pairs, key=lambda pair: (sum(pair), pair))).T
    return u, v


@cache
def _bands() -> tuple[I64, ...]:
    return tuple(np.arange(BANDS * BAND_BITS)[band::BANDS] for band in range(BANDS))


def _packed(bits: npt.NDArray[np.bool_]) -> U64:
    places = np.uint64(1) << np.arange(bits.shape[1], dtype=np.uint64)
    return np.asarray((bits * places).sum(axis=1, dtype=np.uint64))


def _keys(codes: U64, bits: I64) -> I64:
    parts = (codes[:, None] >> bits.astype(np.uint64)) & np.uint64(1)
    return np.asarray((parts.astype(np.int64) << np.arange(len(bits))).sum(axis=1))


def joined(every: Sequence[Patches]) -> Patches:
    return Patches(*(np.concatenate(parts) for parts in zip(*every, strict=True)))
