"""Grounding: how far a caption's claims agree with the land cover of its tile."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from builder.core.errors import ArasError
from builder.land.classes import CLASSES
from builder.scores.agreement import (
    CLASS_SETS,
    N_TYPES,
    TYPES,
    WHOLE,
    classes_in,
    place_value,
    share_values,
)
from builder.scores.claims import LAYOUT, LOCAL_ABSENCE, Claims, Floats, read_claims
from builder.scores.discrimination import Ranking, rank
from builder.scores.lexicon import Lexicon
from builder.scores.references import Reference, built_in

_PAIRS = np.triu_indices(len(CLASSES), 1)

Bools = npt.NDArray[np.bool_]
FLOAT, COUNT = pa.float32(), pa.int32()

Masks = Sequence[npt.NDArray[np.uint8] | None]
"""(H, W) class ids of each tile, None where there is no mask."""


@dataclass(frozen=True)
class Captions:
    """n captions, what they claim, and the tiles that this is held against.

    ``shares`` is (n, 7), a row of NaN for a tile without composition; a score that depends on it
    is missing there, never zero. Everything is (n,) unless it says otherwise, and computed once.
    Pure and deterministic; what is computed of a caption does not depend on its neighbours.
    """

    texts: Sequence[str | None]
    claims: Claims
    shares: Floats
    masks: Masks | None
    lexicon: Lexicon
    reference: Reference | None = None
    """Tiles that `discrimination` ranks the own tile among; None for the built-in ones."""

    @classmethod
    def read(
        cls,
        texts: Sequence[str | None],
        compositions: npt.ArrayLike | None,
        masks: Masks | None,
        lexicon: Lexicon,
        reference: Reference | None = None,
    ) -> "Captions":
        """Read the claims of ``texts``; ``compositions`` as in `shares_of`."""
        claims = read_claims(texts, lexicon)
        shares = shares_of(compositions, len(texts))
        return cls(texts, claims, shares, masks, lexicon, reference)

    @cached_property
    def known(self) -> Bools:
        """Whether there is a text and a composition."""
        return np.asarray(self.claims.readable & ~np.isnan(self.shares).any(axis=1))

    @cached_property
    def unread(self) -> Bools:
        """Texts that the reader cannot read: of another language, or without a letter."""
        unread = ~self.claims.readable
        silent = np.ones(len(unread), dtype=bool)
        silent[self.claims.row] = False
        for i in np.flatnonzero(silent).tolist():
            text = self.texts[i]
            if text is None or not text.strip():
                unread[i] = False
            elif not any(character.isalpha() for character in text):
                unread[i] = True
        return unread

    @cached_property
    def values(self) -> tuple[Floats, Floats]:
        """How true each of the m claims is, (m,) in [0, 1], NaN where that is not known, and the
        share that it was held against, (m,)."""
        return _values(self.claims, self.shares, self.masks, self.lexicon)

    @cached_property
    def means(self) -> Floats:
        """Mean value of the claims of each type, (n, 4); NaN where there is none."""
        n, value = len(self.texts), self.values[0]
        counted = self.known[self.claims.row] & ~np.isnan(value)
        cell = self.claims.row[counted] * N_TYPES + TYPES[self.claims.kind[counted]]
        totals = np.bincount(cell, weights=value[counted], minlength=N_TYPES * n)
        with np.errstate(invalid="ignore"):
            return np.asarray(
                (totals / np.bincount(cell, minlength=N_TYPES * n)).reshape(n, N_TYPES)
            )

    @cached_property
    def accuracy(self) -> Floats:
        claimed = ~np.isnan(self.means)
        return _ratio(np.where(claimed, self.means, 0).sum(axis=1), claimed.sum(axis=1))

    @cached_property
    def named(self) -> Bools:
        """Classes that the caption names, (n, 7)."""
        return self.claims.order >= 0

    @cached_property
    def present(self) -> Bools:
        """Classes that the tile has, (n, 7)."""
        return np.asarray(self.shares >= self.lexicon.presence / 2)

    @cached_property
    def coverage(self) -> Floats:
        return np.asarray(
            np.where(self.named, np.nan_to_num(self.shares), 0).sum(axis=1).clip(0, 1)
        )

    @cached_property
    def grounding(self) -> Floats:
        accuracy = np.nan_to_num(self.accuracy)
        both = accuracy + self.coverage
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.where(both > 0, 2 * accuracy * self.coverage / both, 0)

    @cached_property
    def ranking(self) -> Ranking:
        """Where the own tile ranks among the reference tiles; see `discrimination.rank`."""
        reference = self.reference or built_in()
        return rank(self.claims, self.values[0], self.known, self.masks, self.lexicon, reference)

    def agreement(self, of: Sequence[Bools]) -> Floats:
        """Classes both named and present, as a share of the (mean of the) sets ``of``."""
        hits = (self.named & self.present).sum(axis=1)
        return _ratio(len(of) * hits, sum(classes.sum(axis=1) for classes in of))

    @cached_property
    def numerals(self) -> tuple[Floats, npt.NDArray[np.int64]]:
        """Share of present classes whose percentage is in the text; percentages of no class."""
        return _numerals(self.claims, self.shares, self.present, self.lexicon)

    def per_caption(self, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """How often each caption is among ``rows``."""
        return np.bincount(rows, minlength=len(self.texts))

    def measured(self, values: npt.NDArray[Any], kind: pa.DataType = FLOAT) -> pa.Array:
        """``values`` as a column, null where they are NaN or where a caption is not `known` or is
        `unread`."""
        missing = ~self.known | self.unread | np.isnan(values)
        return pa.array(values.astype(kind.to_pandas_dtype()), mask=missing)

    def counted(self, values: npt.NDArray[Any], kind: pa.DataType = COUNT) -> pa.Array:
        """``values``, which need no composition, as a column, null where there is no text."""
        return pa.array(values, kind, mask=~self.claims.readable)


def _ratio(part: npt.NDArray[Any], whole: npt.NDArray[Any]) -> Floats:
    """``part / whole``; NaN for 0 / 0."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(part / whole, dtype=np.float64)


def shares_of(compositions: npt.ArrayLike | None, n: int) -> Floats:
    """``compositions`` as (n, 7) float64, NaN where there is none; each sums to 1.

    Raises ArasError naming the row whose shares are not a composition.
    """
    if compositions is None:
        return np.full((n, len(CLASSES)), np.nan)
    shares = np.asarray(compositions, dtype=np.float64)
    if shares.shape != (n, len(CLASSES)):
        raise ArasError(
            f"compositions have shape {shares.shape}; {n} captions need ({n}, {len(CLASSES)})"
        )
    total = shares.sum(axis=1)
    wrong = (np.abs(total - 1) > 0.02) | (shares < 0).any(axis=1)
    for i in np.flatnonzero(wrong):
        raise ArasError(
            f"row {i}: the class shares sum to {total[i]:.4g}, not 1; give fractions of the tile, "
            "or NaN where they are unknown"
        )
    return shares


def _values(
    claims: Claims,
    shares: Floats,
    masks: Masks | None,
    lexicon: Lexicon,
) -> tuple[Floats, Floats]:
    """How true each claim is, (m,) in [0, 1], and the share it was held against, (m,)."""
    own = shares[claims.row]
    inside = CLASS_SETS[claims.bits]
    seen = np.where(inside, own, 0).sum(axis=1)
    largest = np.where(inside, own, -1).max(axis=1, initial=-1)
    larger = (own > largest[:, None] + 1e-9).sum(axis=1)
    kind = claims.kind
    value = share_values(kind, seen, larger, claims.low, claims.high, lexicon)
    for i in np.flatnonzero((kind == LAYOUT) | (kind == LOCAL_ABSENCE)):
        mask = masks[claims.row[i]] if masks is not None else None
        if mask is not None:
            classes = classes_in(claims.bits[i])
            is_class = mask == classes[0] if len(classes) == 1 else np.isin(mask, classes)
            value[i], seen[i] = place_value(
                is_class,
                lexicon.regions[int(claims.low[i])][1],
                denied=kind[i] == LOCAL_ABSENCE,
                presence=lexicon.presence,
            )
    return value, seen


def _numerals(
    claims: Claims, shares: Floats, present: npt.NDArray[np.bool_], lexicon: Lexicon
) -> tuple[Floats, npt.NDArray[np.int64]]:
    """Share of present classes whose percentage is in the text; percentages of no class."""
    percent = np.rint(np.nan_to_num(shares) * 100)
    stated = np.zeros(shares.shape, dtype=bool)
    same = percent[claims.number_row] == np.rint(claims.number)[:, None]
    np.logical_or.at(stated, claims.number_row, same)
    with np.errstate(invalid="ignore", divide="ignore"):
        leak = (stated & present).sum(axis=1) / present.sum(axis=1)
    groups = [shares[:, CLASS_SETS[bits]].sum(axis=1, keepdims=True) for bits in lexicon.groups]
    said = np.where(CLASS_SETS[claims.percent_bits], shares[claims.percent_row], 0).sum(axis=1)
    known = np.hstack([np.hstack([shares, *groups])[claims.percent_row], said[:, None]])
    known = np.nan_to_num(known)
    low, high = claims.percent[:, :1] - 0.005, claims.percent[:, 1:] + 0.005
    fits = ((known > low) & (known < high)).any(axis=1)
    fabricated = np.bincount(claims.percent_row[~fits], minlength=len(shares))
    return leak, fabricated


def _tau_b(order: npt.NDArray[np.int8], shares: Floats) -> Floats:
    """Kendall's τ_b between the order of mention and descending shares of the classes named."""
    first, second = order[:, _PAIRS[0]].astype(int), order[:, _PAIRS[1]].astype(int)
    both = (first >= 0) & (second >= 0)
    said = np.sign(second - first)
    gap = shares[:, _PAIRS[0]] - shares[:, _PAIRS[1]]
    real = np.where(np.abs(gap) > 1e-9, np.sign(gap), 0)
    pairs, untied = both.sum(axis=1), (both & (real != 0)).sum(axis=1)
    agree = np.where(both, said * real, 0).sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(agree / np.sqrt(pairs * untied), dtype=np.float64)


def mentioned(captions: Captions) -> pa.Array:
    """The classes of each caption in order of mention."""
    claims = captions.claims
    ranked = np.argsort(claims.order, axis=1, kind="stable")
    counts = (claims.order >= 0).sum(axis=1)
    names = [
        [CLASSES[k] for k in row[len(CLASSES) - count :]] if ok else None
        for row, count, ok in zip(ranked.tolist(), counts.tolist(), claims.readable, strict=True)
    ]
    return pa.array(names, pa.list_(pa.string()))


def class_names(bits: int) -> str:
    """Names of the classes in ``bits``, joined by "+"."""
    return "+".join(name for k, name in enumerate(CLASSES) if bits >> k & 1)


def contradictions(captions: Captions) -> pa.Array:
    """For each caption the claims that score under a half, in words."""
    claims, lexicon = captions.claims, captions.lexicon
    value, seen = captions.values
    lines: list[list[str] | None] = [[] if known else None for known in captions.known]
    for i in np.flatnonzero((value < 0.5) & captions.known[claims.row]):
        bits = int(claims.bits[i])
        name = lexicon.groups.get(bits) or class_names(bits)
        place = " there" if claims.kind[i] == LOCAL_ABSENCE else ""
        if claims.kind[i] == LAYOUT:
            whole = lexicon.regions[int(claims.low[i])][1] == WHOLE
            place = " of it in one half" if whole else " of it there"
        row = lines[claims.row[i]]
        line = f"{name} {100 * seen[i]:.3g} %{place}, but “{claims.words[i]}”"
        if row is not None and line not in row:  # "dominated by" claims a quantity too
            row.append(line)
    return pa.array(lines, pa.list_(pa.string()))


def unread(captions: Captions) -> pa.Array:
    """Which captions cannot be read; null where there is no text."""
    blank = [not (text and text.strip()) for text in captions.texts]
    return pa.array(captions.unread, mask=np.array(blank, dtype=bool))


def tau_b(captions: Captions) -> pa.Array:
    """Kendall's τ_b between the order of mention and descending shares of the classes named."""
    return captions.measured(_tau_b(captions.claims.order, captions.shares))
