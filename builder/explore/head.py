"""What the page reads first: ``explore.json`` as types."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

FORMAT = 1
BINS = 40
"""Bars of a histogram."""


@dataclass(frozen=True)
class Number:
    """A column of numbers that rows are filtered and sorted by: floats of 4 ``bytes`` with NaN for
    null, or whole numbers of 1.

    ``sql`` is the same value in a question of `aras get`. ``bins`` counts rows between ``low`` and
    ``high`` in equal steps. ``stream`` is set for the score of one caption stream.
    """

    name: str
    title: str
    group: str
    meaning: str
    unit: str
    sql: str
    file: str
    low: float
    high: float
    bins: tuple[int, ...]
    nulls: int
    bytes: int = 4
    stream: str = ""


@dataclass(frozen=True)
class Code:
    """A column of small whole numbers: each a label, or with ``is_set`` a bit of each label."""

    name: str
    title: str
    labels: tuple[str, ...]
    counts: tuple[int, ...]
    file: str
    bytes: int
    is_set: bool = False


@dataclass(frozen=True)
class Head:
    """The release, its columns and where its pictures are; a field of the page each."""

    title: str
    name: str
    version: str
    license: str
    doi: str | None
    content_sha256: str
    address: str
    """What `aras get` takes the rows from."""
    base: str
    """Address that a shard's path follows, relative to the page or whole."""
    base_old: str = ""
    rows: int = 0
    segment: int = 0
    block: int = 0
    classes: tuple[str, ...] = ()
    palette: tuple[str, ...] = ()
    colours: dict[str, str] = field(default_factory=dict)
    streams: tuple[str, ...] = ()
    shards: tuple[str, ...] = ()
    sizes: tuple[int, ...] = ()
    numbers: tuple[Number, ...] = ()
    codes: tuple[Code, ...] = ()
    vectors: tuple[Any, ...] = ()
    on_map: int = 0
    """Rows whose place is known."""
    changes: dict[str, Any] | None = None
    older: str = ""
    """Why no picture can be shown; empty where they can."""
    format: int = FORMAT


def number(
    name: str,
    values: npt.NDArray[np.float32] | npt.NDArray[np.uint8],
    *,
    title: str,
    group: str,
    meaning: str,
    unit: str = "",
    sql: str = "",
    stream: str = "",
) -> Number | None:
    """The description of a column, with its histogram; None where every value is null."""
    known = values[np.isfinite(values)].astype(np.float64)
    if not len(known):
        return None
    low, high = float(known.min()), float(known.max())
    counts, _ = np.histogram(known, BINS, (low, high if high > low else low + 1))
    return Number(
        name=name,
        title=title,
        group=group,
        meaning=meaning,
        unit=unit,
        sql=sql or name,
        file=f"number-{name.replace('/', '-').replace(' ', '-')}.bin",
        low=low,
        high=high,
        bins=tuple(counts.tolist()),
        nulls=len(values) - len(known),
        bytes=values.itemsize,
        stream=stream,
    )
