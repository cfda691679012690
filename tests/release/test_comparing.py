"""The tiles that a comparison is made of: a sample that does not grow, whatever the order."""

import tracemalloc

import numpy as np
import pyarrow as pa
import pytest

from builder.quality.comparison import area_interval, told_apart
from builder.quality.statistics import FEATURES
from builder.release import comparing
from builder.release.comparing import TileSample

ROWS, SAMPLE = 100, 200


def shard(number: int, shift: float = 0.0) -> tuple[pa.Table, pa.Table]:
    """Synthetic rows of a shard, and their working columns."""
    rng = np.random.default_rng(number)
    ids = [f"synthetic/a/{number * ROWS + i:07d}" for i in range(ROWS)]
    deviations = (rng.standard_normal((ROWS, len(FEATURES))) + shift).astype(np.float32)
    rows = {"id": ids, "split": pa.array([0] * ROWS, pa.int64())}
    rows |= {name: pa.array([0.5] * ROWS, pa.float32()) for name in ("realism", "mask_agreement")}
    columns = {"id": ids, "deviations": pa.array(list(deviations), pa.list_(pa.float32()))}
    return pa.table(rows), pa.table(columns)


def test_memory_does_not_grow_with_the_rows_nor_the_sample_depend_on_their_order(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(comparing, "SAMPLE", SAMPLE)

    def peak(numbers: range) -> tuple[int, set[str]]:
        tracemalloc.start()
        sample = TileSample()
        for number in numbers:
            sample.see("synthetic", *shard(number))
        held = tracemalloc.get_traced_memory()[0]
        tracemalloc.stop()
        rows = sorted(sample.rows["synthetic"])[:SAMPLE]
        return held, {row for _, row, _ in rows}

    (few, _), (many, chosen), (_, again) = (
        peak(range(5)), peak(range(15)), peak(range(14, -1, -1))
    )  # fmt: skip
    assert many < 1.5 * few
    assert chosen == again
    assert len(chosen) == SAMPLE


def test_a_row_that_the_funnel_left_out_is_not_compared() -> None:
    rows, working = shard(0)
    sample = TileSample()
    sample.see("synthetic", rows.slice(0, 7), working)
    assert len(sample.rows["synthetic"]) == 7
    assert sample.compared(0, ROWS) is None  # there is no real tile beside them


def test_the_area_is_half_for_equals_and_its_interval_is_not_empty_at_one() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((2, 200, len(FEATURES)))
    equal = told_apart(a, b)
    assert equal.low < 0.5 < equal.high
    assert told_apart(a, b + 3).value == 1.0
    low, high = area_interval(1.0, 20, 20)
    assert (round(low, 2), high) == (0.9, 1.0)


def test_the_interval_of_an_area_covers_it() -> None:
    """Newcombe's interval holds the true area of two normal samples in about 95 of 100 draws."""
    rng = np.random.default_rng(1)
    true, hits = 0.8413447, 0  # Φ(√2 / √2)
    for _ in range(300):
        x, y = rng.standard_normal(25), rng.standard_normal(25) + np.sqrt(2)
        low, high = area_interval(float((y[None] > x[:, None]).mean()), 25, 25)
        hits += low <= true <= high
    assert 0.92 <= hits / 300 <= 0.99
