"""Thresholds of [quality]: numbers of the recipe, and those that the real tiles set."""

from collections.abc import Collection, Iterator

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from builder.core.manifest import Limit
from builder.core.progress import counted
from builder.core.store import Store
from builder.land.columns import KINDS, SPLITS
from builder.quality.pixels import NO_LIMIT, QualitySection
from builder.steps.stage import shards

SHARE = 0.005
"""Share of real tiles that lie beyond a threshold that they set."""
LEAST = 100
"""Real tiles below which they set none, so that one in a hundred tiles like them is beyond it."""
MOST = 0.1
"""Share of the synthetic tiles beyond a threshold above which it is not used: then the generator
is at fault and not a tile, which the verdict says."""
LEARNT = ("mask_agreement",)
"""Measures by a model that learnt from the train tiles, which say nothing about others."""

REAL, SYNTHETIC = KINDS
TRAIN = SPLITS.index("train")
Floats = npt.NDArray[np.float32]


def declared(section: QualitySection) -> list[Limit]:
    """The thresholds that the recipe gives as numbers, those that flag nothing left out."""
    kinds = tuple(section.kinds)
    return [
        _limit(measure, bound, value, "the recipe", kinds)
        for bound, measure, value in _thresholds(section)
        if value is not None and value != NO_LIMIT[bound]
    ]


def limits(store: Store, section: QualitySection, columns: Collection[str]) -> list[Limit]:
    """Every threshold: those of the recipe, and of measures for which it names none, those of the
    real tiles for synthetic tiles.

    A threshold of the real tiles is the value that `SHARE` of them are beyond (of validation and
    test tiles, where a model learnt from the others). Real rows are never flagged by it: a real
    tile at the edge is real. ``columns`` are those that synthetic rows have. Reads only measures.
    """
    known = {limit.measure: limit for limit in declared(section)}
    open_ = [
        (bound, measure)
        for bound, measure, value in _thresholds(section)
        if value is None and measure in columns
    ]
    drawn = store.scan(shards(store, (SYNTHETIC,)), ("id",)) if open_ else ()
    if SYNTHETIC in section.kinds and any(table.num_rows for _, table in drawn):
        real = _values(store, REAL, [measure for _, measure in open_])
        synthetic = _values(store, SYNTHETIC, [measure for _, measure in open_])
        known |= {m: _of_real(m, bound, real[m], synthetic[m]) for bound, m in open_}
    order = [measure for _, measure, _ in _thresholds(section)]
    return sorted(known.values(), key=lambda limit: order.index(limit.measure))


def beyond(limit: Limit, values: pa.ChunkedArray) -> pa.ChunkedArray:
    """Which values are beyond a threshold; null for a missing value."""
    if limit.value is None:
        return pa.chunked_array([pa.nulls(len(values), pa.bool_())])
    compare = pc.less if limit.bound == "min" else pc.greater
    return compare(values, pa.scalar(limit.value, pa.float32()))


def _thresholds(section: QualitySection) -> Iterator[tuple[str, str, float | None]]:
    """(min or max, measure, value) of each threshold of the section."""
    for key, value in section:
        bound, _, measure = key.partition("_")
        if bound in NO_LIMIT:
            yield bound, measure, value


def _values(store: Store, kind: str, measures: list[str]) -> dict[str, Floats]:
    """The known values of measures of all rows of a kind that have a split, 4 bytes each."""
    values: dict[str, list[Floats]] = {name: [np.zeros(0, np.float32)] for name in measures}
    for _, table in store.scan(shards(store, (kind,)), ("split", *measures)):
        splits = np.array([-1 if s is None else s for s in table.column("split").to_pylist()])
        for name in measures:
            column = table.column(name).to_numpy()
            kept = np.isfinite(column) & (splits >= 0)
            if kind == REAL and name in LEARNT:
                kept &= splits != TRAIN
            values[name].append(column[kept])
    return {name: np.concatenate(parts) for name, parts in values.items()}


def _of_real(measure: str, bound: str, real: Floats, synthetic: Floats) -> Limit:
    tiles = counted(len(real), "held-out real tile" if measure in LEARNT else "real tile")
    if len(real) < LEAST:
        value, origin = None, f"{tiles}, too few to set a threshold (at least {LEAST})"
    else:
        low = bound == "min"
        share, method = (SHARE, "lower") if low else (1 - SHARE, "higher")
        value = float(np.quantile(real, share, method=method))  # type: ignore[call-overload]
        origin = f"the {'lowest' if low else 'highest'} {SHARE:.1%} of {tiles}"
        far = int((synthetic < value).sum() if low else (synthetic > value).sum())
        if far > MOST * len(synthetic):
            origin = (
                f"{far:,} of {counted(len(synthetic), 'synthetic tile')} are beyond {value:.4g} "
                f"({origin}), so the generator is judged and no tile left out; {bound}_{measure} = "
                f"{value:.4g} in [quality] leaves them out"
            )
            value = None
    return _limit(measure, bound, value, origin, (SYNTHETIC,))


def _limit(
    measure: str, bound: str, value: float | None, origin: str, kinds: tuple[str, ...]
) -> Limit:
    values = {"measure": measure, "bound": bound, "value": value, "origin": origin, "kinds": kinds}
    return Limit.model_validate(values)
