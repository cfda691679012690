"""What the reader took a caption to say, as typed columns that anybody can check."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa

from builder.land.classes import CLASSES
from builder.land.score_columns import SCORE_COLUMNS
from builder.scores.claims import ABSENCE, DOMINANCE, LAYOUT, LOCAL_ABSENCE, QUANTITY
from builder.scores.grounding import Captions, class_names


def absent(captions: Captions) -> pa.Array:
    """The classes that each caption denies."""
    return _lists(
        captions,
        "absent",
        (
            (row, name)
            for row, _, bits, _, _ in _claims(captions, ABSENCE)
            for name in _classes(bits)
        ),
    )


def dominant(captions: Captions) -> pa.Array:
    """The class that each caption says is the largest on its own, the first where it contradicts
    itself; null without one."""
    names: list[str | None] = [None] * len(captions.texts)
    for row, _, bits, together, _ in _claims(captions, DOMINANCE):
        if together == 1 and names[row] is None and not bits & (bits - 1):
            names[row] = class_names(bits)
    return pa.array(names, pa.string())


def quantities(captions: Captions) -> pa.Array:
    """The intervals of shares that each caption gives."""
    return _lists(
        captions,
        "quantities",
        (
            (row, {"class": class_names(bits), "low": low, "high": high})
            for row, _, bits, low, high in _claims(captions, QUANTITY)
        ),
    )


def places(captions: Captions) -> pa.Array:
    """The regions in which each caption says that a class lies, or that it does not."""
    regions = [name for name, _ in captions.lexicon.regions]
    return _lists(
        captions,
        "places",
        (
            (row, {"class": name, "region": regions[int(region)], "absent": kind == LOCAL_ABSENCE})
            for row, kind, bits, region, _ in _claims(captions, LAYOUT, LOCAL_ABSENCE)
            for name in _classes(bits)
        ),
    )


def _claims(captions: Captions, *kinds: int) -> Iterator[tuple[int, int, int, float, float]]:
    """(row, kind, bits, low, high) of the claims of some kinds, in the order of the text."""
    claims = captions.claims
    at = np.flatnonzero(np.isin(claims.kind, kinds))
    columns = (claims.row, claims.kind, claims.bits, claims.low, claims.high)
    return zip(*(column[at].tolist() for column in columns), strict=True)


def _classes(bits: int) -> list[str]:
    return [name for k, name in enumerate(CLASSES) if bits >> k & 1]


def _lists(captions: Captions, name: str, items: Iterator[tuple[int, Any]]) -> pa.Array:
    """(row, item) as a list per caption without repeats, null where there is no text."""
    lists: list[list[Any] | None] = [[] if ok else None for ok in captions.claims.readable]
    for row, item in items:
        members = lists[row]
        if members is not None and item not in members:
            members.append(item)
    return pa.array(lists, SCORE_COLUMNS[name].type)
