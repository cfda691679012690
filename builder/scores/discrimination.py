"""Discrimination: how well a caption tells its own tile from other tiles.

A caption's claims are held against its tile and against reference tiles, by the same formulas.
Its discrimination is the percentile of its own tile among them, ties shared: 1 for a caption that
fits its tile better than any other, .5 for one that fits all alike. A caption that is the same on
every tile has .5 on average, whatever it says, where the reference tiles are distributed as the
tiles are.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from builder.scores.agreement import N_TYPES, TYPES, classes_in, place_value, share_values
from builder.scores.claims import LAYOUT, LOCAL_ABSENCE, Claims
from builder.scores.lexicon import Lexicon
from builder.scores.references import Floats, Reference, coarse

Bools = npt.NDArray[np.bool_]
Masks = Sequence[npt.NDArray[np.uint8] | None]

_STEPS = 60_013
"""Fits are compared in whole parts of so many, a prime, so that equal fits never round apart."""

_KEPT, _PIECE = 4_096, 128
"""Different claims whose values on all reference tiles are kept (32 MB), and computed at a time
(in the processor's cache)."""

_BLOCK = 256
"""Captions ranked at a time: bounds the memory of their fits."""


@dataclass(frozen=True)
class Ranking:
    """Of n captions, (n,) each: ``percentile`` of the own tile, in [0, 1], and the ``bits``
    that the caption gives about it; NaN where there is no text or no composition."""

    percentile: Floats
    bits: Floats


def rank(
    claims: Claims,
    values: Floats,
    known: Bools,
    masks: Masks | None,
    lexicon: Lexicon,
    reference: Reference,
) -> Ranking:
    """Rank the tile of each of n captions among the reference tiles by how well the claims fit.

    ``values`` (m,) are those of the claims on the own tile, ``known`` (n,) whether there is a text
    and a composition. The fit is the caption's accuracy: the mean, over the types of claims, of the
    mean value in each. Places are judged on coarse layouts, of the own tile too, and count where
    both sides have one. Bits are log2(N / tiles that the claims fit at least as well as the own
    tile), less the mean of the same over the reference tiles: 0 on average for a caption that never
    changes, 0 for one that fits all tiles alike, below 0 for one that fits others better.
    """
    n = len(known)
    own = _own_values(claims, values, masks, lexicon, reference)
    counted = known[claims.row] & ~np.isnan(own)
    weight = _weights(claims, counted, n)
    true = np.where(counted, weight * np.nan_to_num(own), 0)
    own_fit = np.bincount(claims.row, true, n).astype(np.float64)
    percentile, bits = np.full(n, np.nan), np.full(n, np.nan)
    fits_of = _Fits(claims, np.flatnonzero(counted), weight, lexicon, reference)
    for start in range(0, n, _BLOCK):
        end = min(start + _BLOCK, n)
        fits = fits_of.rows(start, end)
        percentile[start:end], bits[start:end] = _ranked(own_fit[start:end], fits)
    percentile[~known] = bits[~known] = np.nan
    return Ranking(percentile, bits)


def _own_values(
    claims: Claims, values: Floats, masks: Masks | None, lexicon: Lexicon, reference: Reference
) -> Floats:
    """``values`` with those of places taken from the own tile's coarse layout, as those of the
    reference tiles are; NaN where there is no mask, or no layout to compare with."""
    own = values.copy()
    cells: dict[int, Floats] = {}
    for i in np.flatnonzero((claims.kind == LAYOUT) | (claims.kind == LOCAL_ABSENCE)).tolist():
        row = int(claims.row[i])
        mask = None if masks is None or reference.layouts is None else masks[row]
        if mask is None:
            own[i] = np.nan
            continue
        if row not in cells:
            cells[row] = coarse(mask) / 255
        own[i] = place_value(
            cells[row][..., classes_in(claims.bits[i])].sum(axis=-1),
            lexicon.regions[int(claims.low[i])][1],
            denied=claims.kind[i] == LOCAL_ABSENCE,
            presence=lexicon.presence,
        )[0]
    return own


def _weights(claims: Claims, counted: Bools, n: int) -> Floats:
    """Weight of each claim in its caption's accuracy, (m,): 1 / claims of its type / types."""
    cell = claims.row * N_TYPES + TYPES[claims.kind]
    per_type = np.bincount(cell[counted], minlength=n * N_TYPES)
    types = (per_type.reshape(-1, N_TYPES) > 0).sum(axis=1)
    return np.asarray(1 / np.maximum(per_type[cell] * types[claims.row], 1))


class _Fits:
    """Accuracy of captions on every reference tile, by those of their claims that count (``some``).

    Each different claim is held against the tiles once; where there are very many, once a block.
    """

    def __init__(
        self,
        claims: Claims,
        some: npt.NDArray[np.int64],
        weight: Floats,
        lexicon: Lexicon,
        reference: Reference,
    ) -> None:
        self.lexicon, self.reference = lexicon, reference
        self.row, self.weight = claims.row[some], weight[some].astype(np.float32)
        table = [claims.kind[some], claims.bits[some], claims.low[some], claims.high[some]]
        self.different, which = np.unique(np.stack(table).T, axis=0, return_inverse=True)
        self.which = which.ravel()
        few = len(self.different) <= _KEPT
        self.values = _reference_values(self.different, lexicon, reference) if few else None

    def rows(self, start: int, end: int) -> npt.NDArray[np.float32]:
        """(end − start, N) of the captions from ``start`` to ``end``."""
        from scipy.sparse import csr_matrix

        first, last = np.searchsorted(self.row, (start, end))
        which, values = self.which[first:last], self.values
        if values is None:
            used, which = np.unique(which, return_inverse=True)
            values = _reference_values(self.different[used], self.lexicon, self.reference)
        mixing = csr_matrix(
            (self.weight[first:last], (self.row[first:last] - start, which)),
            shape=(end - start, len(values)),
        )
        return np.asarray(mixing @ values)


def _reference_values(
    different: Floats, lexicon: Lexicon, reference: Reference
) -> npt.NDArray[np.float32]:
    """How true each of u claims (kind, bits, low, high) is of every reference tile, (u, N)."""
    values = np.empty((len(different), len(reference)), dtype=np.float32)
    for start in range(0, len(different), _PIECE):
        piece = different[start : start + _PIECE]
        values[start : start + _PIECE] = _piece_values(piece, lexicon, reference)
    return values


def _piece_values(different: Floats, lexicon: Lexicon, reference: Reference) -> Floats:
    """`_reference_values` of few claims, in float64."""
    kind, bits = different[:, 0].astype(int), different[:, 1].astype(int)
    low, high = different[:, 2], different[:, 3]
    values = share_values(
        kind, reference.seen[bits], reference.larger[bits], low[:, None], high[:, None], lexicon
    )
    for i in np.flatnonzero((kind == LAYOUT) | (kind == LOCAL_ABSENCE)):
        assert reference.layouts is not None  # such claims are not counted without
        values[i] = place_value(
            reference.layouts[..., classes_in(bits[i])].sum(axis=-1) / 255,
            lexicon.regions[int(low[i])][1],
            denied=kind[i] == LOCAL_ABSENCE,
            presence=lexicon.presence,
        )[0]
    return values


def _ranked(own: Floats, fits: npt.NDArray[np.float32]) -> tuple[Floats, Floats]:
    """Percentile and bits of n own fits among (n, N) fits of reference tiles."""
    own_step = np.rint(own * _STEPS).astype(np.uint16)[:, None]
    steps = np.rint(fits * _STEPS).astype(np.uint16)
    n = steps.shape[1]
    less, at_most = (steps < own_step).sum(axis=1), (steps <= own_step).sum(axis=1)
    ordered = np.sort(steps, axis=1)
    first = np.zeros(ordered.shape, dtype=np.int32)  # of the tiles that fit equally well
    new = ordered[:, 1:] != ordered[:, :-1]
    first[:, 1:] = np.where(new, np.arange(1, n, dtype=np.int32), 0)
    np.maximum.accumulate(first, axis=1, out=first)
    surprise = np.log2(n / (n - np.arange(n)))
    bits = surprise[np.minimum(less, n - 1)] - surprise[first].mean(axis=1)
    return (less + at_most) / (2 * n), bits
