"""Grounding: how far a caption's claims agree with the land cover of its tile."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from builder.core.errors import ArasError
from builder.land.classes import CLASSES
from builder.scores import lexicon as lexicons
from builder.scores.claims import (
    ABSENCE,
    DOMINANCE,
    LAYOUT,
    LOCAL_ABSENCE,
    PRESENCE,
    QUANTITY,
    Claims,
    Floats,
    read_claims,
)
from builder.scores.lexicon import Lexicon

_BITS = (np.arange(1 << len(CLASSES))[:, None] >> np.arange(len(CLASSES)) & 1).astype(bool)
_TYPES = np.array([0, 0, 1, 2, 3, 0])  # presence and absence, anywhere, are one type of claim
_PAIRS = np.triu_indices(len(CLASSES), 1)

Box = tuple[float, float, float, float]
WHOLE: Box = (0.0, 0.0, 1.0, 1.0)
HALVES: tuple[Box, ...] = ((0, 0, 0.5, 1), (0.5, 0, 1, 1), (0, 0, 1, 0.5), (0, 0.5, 1, 1))

SCORES = pa.schema(
    [
        pa.field("grounding", pa.float32()),
        pa.field("accuracy", pa.float32()),
        pa.field("coverage", pa.float32()),
        pa.field("chair_i", pa.float32()),
        pa.field("precision", pa.float32()),
        pa.field("recall", pa.float32()),
        pa.field("f1", pa.float32()),
        pa.field("tau_b", pa.float32()),
        pa.field("layout", pa.float32()),
        pa.field("leak", pa.float32()),
        pa.field("percentages", pa.int32()),
        pa.field("fabricated", pa.int32()),
        pa.field("fraction_words", pa.int32()),
        pa.field("digits", pa.bool_()),
        pa.field("n_words", pa.int32()),
        pa.field("mentioned", pa.list_(pa.string())),
        pa.field("contradictions", pa.list_(pa.string())),
    ]
)
"""Columns of `score_captions`; docs/caption-scores.md says what each means."""


def score_captions(
    texts: Sequence[str | None],
    compositions: npt.ArrayLike | None,
    masks: Sequence[npt.NDArray[np.uint8] | None] | None = None,
    *,
    lexicon: Lexicon | None = None,
) -> pa.Table:
    """Score n captions against the compositions of their tiles; columns as in `SCORES`.

    ``compositions`` is (n, 7) shares in class order that sum to 1; a row of NaN, or None for all,
    is a tile without composition, and what depends on it is null, never zero. ``masks`` are
    (H, W) uint8 class ids, or None, for the layout claims, which count only where there is a
    mask. Pure and deterministic; one caption's scores do not depend on its neighbours.

    Raises ArasError naming the row whose shares are no composition.
    """
    lexicon = lexicon or lexicons.load()
    claims = read_claims(texts, lexicon)
    shares = shares_of(compositions, len(texts))
    return score_claims(claims, shares, masks, lexicon)


def score_claims(
    claims: Claims,
    shares: Floats,
    masks: Sequence[npt.NDArray[np.uint8] | None] | None,
    lexicon: Lexicon,
) -> pa.Table:
    """`score_captions` for claims that are read already; ``shares`` (n, 7), NaN where missing."""
    n = len(claims.readable)
    known = claims.readable & ~np.isnan(shares).any(axis=1)
    value, seen = _values(claims, shares, masks, lexicon)
    counted = known[claims.row] & ~np.isnan(value)
    cell = claims.row[counted] * 4 + _TYPES[claims.kind[counted]]
    totals = np.bincount(cell, weights=value[counted], minlength=4 * n).reshape(n, 4)
    sizes = np.bincount(cell, minlength=4 * n).reshape(n, 4)
    with np.errstate(invalid="ignore", divide="ignore"):
        means = totals / sizes
        accuracy = np.where(sizes > 0, means, 0).sum(axis=1) / (sizes > 0).sum(axis=1)
        named = claims.order >= 0
        present = shares >= lexicon.presence / 2
        hits = (named & present).sum(axis=1)
        precision, recall = hits / named.sum(axis=1), hits / present.sum(axis=1)
        f1 = 2 * hits / (named.sum(axis=1) + present.sum(axis=1))
        coverage = np.where(named, np.nan_to_num(shares), 0).sum(axis=1).clip(0, 1)
        both = np.nan_to_num(accuracy) + coverage
        grounding = np.where(both > 0, 2 * np.nan_to_num(accuracy) * coverage / both, 0)
    leak, fabricated = _numerals(claims, shares, present, lexicon)
    per_row = np.bincount(claims.percent_row, minlength=n)
    digits = np.bincount(claims.number_row, minlength=n) > 0
    text_only, scored = ~claims.readable, ~known
    columns = [
        _floats(grounding, scored),
        _floats(accuracy, scored),
        _floats(coverage, scored),
        _floats(1 - precision, scored),
        _floats(precision, scored),
        _floats(recall, scored),
        _floats(f1, scored),
        _floats(_tau_b(claims.order, shares), scored),
        _floats(means[:, 3], scored),
        _floats(leak, scored),
        pa.array(per_row, pa.int32(), mask=text_only),
        pa.array(fabricated, pa.int32(), mask=scored),
        pa.array(claims.fractions, pa.int32(), mask=text_only),
        pa.array(digits, mask=text_only),
        pa.array(claims.length, pa.int32(), mask=text_only),
        _mentioned(claims),
        _contradictions(claims, value, seen, known, lexicon),
    ]
    return pa.Table.from_arrays(columns, schema=SCORES)


def shares_of(compositions: npt.ArrayLike | None, n: int) -> Floats:
    """``compositions`` as (n, 7) float64, NaN where there is none; see `score_captions`."""
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
    masks: Sequence[npt.NDArray[np.uint8] | None] | None,
    lexicon: Lexicon,
) -> tuple[Floats, Floats]:
    """How true each claim is, (m,) in [0, 1], and the share it was held against, (m,)."""
    own = shares[claims.row]
    inside = _BITS[claims.bits]
    seen = np.where(inside, own, 0).sum(axis=1)
    largest = np.where(inside, own, -1).max(axis=1, initial=-1)
    larger = (own > largest[:, None] + 1e-9).sum(axis=1)
    kind = claims.kind
    distance = np.maximum(0, np.maximum(claims.low - seen, seen - claims.high))
    value = np.full(len(kind), np.nan)
    for one, score in (
        (PRESENCE, np.minimum(1, seen / lexicon.presence)),
        (ABSENCE, np.maximum(0, 1 - seen / (5 * lexicon.presence))),
        (QUANTITY, np.maximum(0, 1 - distance / lexicon.slack)),
        (DOMINANCE, (larger < claims.low).astype(float)),
    ):
        value[kind == one] = score[kind == one]
    for i in np.flatnonzero((kind == LAYOUT) | (kind == LOCAL_ABSENCE)):
        mask = masks[claims.row[i]] if masks is not None else None
        if mask is not None:
            classes = np.flatnonzero(inside[i])
            is_class = mask == classes[0] if len(classes) == 1 else np.isin(mask, classes)
            _, box = lexicon.regions[int(claims.low[i])]
            if kind[i] == LOCAL_ABSENCE:
                seen[i] = _inside(is_class, box).mean()
                value[i] = max(0.0, 1 - seen[i] / (5 * lexicon.presence))
            else:
                value[i], seen[i] = _layout(is_class, box)
    return value, seen


def _layout(is_class: npt.NDArray[np.bool_], box: Box) -> tuple[float, float]:
    """How true it is that a class lies in ``box``, and the share of it that does.

    "Spread over the whole tile" is true when every half holds a quarter of it at least, and the
    less true the less the emptiest half holds.
    """
    total = max(1, is_class.sum())
    if box == WHOLE:
        most = max(_inside(is_class, half).sum() / total for half in HALVES)
        return min(1.0, 4 * (1 - most)), float(most)
    part = _inside(is_class, box)
    share = part.sum() / total
    return min(1.0, share * is_class.size / (2 * part.size)), share


def _inside(pixels: npt.NDArray[np.bool_], box: Box) -> npt.NDArray[np.bool_]:
    """The part of (H, W) ``pixels`` in the box of a region, one row and column at least."""
    height, width = pixels.shape
    top, left, bottom, right = box
    rows = slice(round(top * height), max(round(bottom * height), round(top * height) + 1))
    columns = slice(round(left * width), max(round(right * width), round(left * width) + 1))
    return pixels[rows, columns]


def _numerals(
    claims: Claims, shares: Floats, present: npt.NDArray[np.bool_], lexicon: Lexicon
) -> tuple[Floats, npt.NDArray[np.int64]]:
    """Share of present classes whose percentage stands in the text; percentages of no class."""
    percent = np.rint(np.nan_to_num(shares) * 100)
    told = np.zeros(shares.shape, dtype=bool)
    same = percent[claims.number_row] == np.rint(claims.number)[:, None]
    np.logical_or.at(told, claims.number_row, same)
    with np.errstate(invalid="ignore", divide="ignore"):
        leak = (told & present).sum(axis=1) / present.sum(axis=1)
    groups = [shares[:, _BITS[bits]].sum(axis=1, keepdims=True) for bits in lexicon.groups]
    said = np.where(_BITS[claims.percent_bits], shares[claims.percent_row], 0).sum(axis=1)
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
    told = np.sign(second - first)
    gap = shares[:, _PAIRS[0]] - shares[:, _PAIRS[1]]
    real = np.where(np.abs(gap) > 1e-9, np.sign(gap), 0)
    pairs, untied = both.sum(axis=1), (both & (real != 0)).sum(axis=1)
    agree = np.where(both, told * real, 0).sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(agree / np.sqrt(pairs * untied), dtype=np.float64)


def _floats(values: Floats, missing: npt.NDArray[np.bool_]) -> pa.Array:
    return pa.array(values.astype(np.float32), mask=missing | np.isnan(values))


def _mentioned(claims: Claims) -> pa.Array:
    ranked = np.argsort(claims.order, axis=1, kind="stable")
    counts = (claims.order >= 0).sum(axis=1)
    names = [
        [CLASSES[k] for k in row[len(CLASSES) - count :]] if ok else None
        for row, count, ok in zip(ranked.tolist(), counts.tolist(), claims.readable, strict=True)
    ]
    return pa.array(names, pa.list_(pa.string()))


def _contradictions(
    claims: Claims, value: Floats, seen: Floats, known: npt.NDArray[np.bool_], lexicon: Lexicon
) -> pa.Array:
    """For each row the claims that score under one half, in words."""
    found: list[list[str] | None] = [[] if ok else None for ok in known]
    for i in np.flatnonzero((value < 0.5) & known[claims.row]):
        bits = int(claims.bits[i])
        name = lexicon.groups.get(bits) or "+".join(
            c for k, c in enumerate(CLASSES) if bits >> k & 1
        )
        place = " there" if claims.kind[i] == LOCAL_ABSENCE else ""
        if claims.kind[i] == LAYOUT:
            whole = lexicon.regions[int(claims.low[i])][1] == WHOLE
            place = " of it in one half" if whole else " of it there"
        row, said = (
            found[claims.row[i]],
            f"{name} {100 * seen[i]:.3g} %{place}, but “{claims.words[i]}”",
        )
        if row is not None and said not in row:  # "dominated by" claims a quantity too
            row.append(said)
    return pa.array(found, pa.list_(pa.string()))
