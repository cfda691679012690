"""Thresholds of [quality] come from the real tiles, for synthetic tiles, unless the recipe says."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from builder.core.manifest import Limit
from builder.core.store import Store
from builder.quality.limits import LEAST, limits
from builder.quality.pixels import QualitySection

COLUMNS = frozenset({"sharpness", "cloudiness", "mask_agreement"})


def write(store: Store, kind: str, splits: list[int], **measures: Any) -> None:
    names = ("sharpness", "contrast", "cloudiness", "blankness", "mask_agreement", "realism")
    values = {
        name: pa.array(measures.get(name, [0.5] * len(splits)), pa.float32()) for name in names
    }
    ids = [f"{kind}/{i}" for i in range(len(splits))]
    table = pa.table({"id": ids, "split": pa.array(splits, pa.int64()), **values})
    store.write("tiles" if kind == "real" else "layouts", f"{kind}-a-0", table, key="k")


def of(store: Store, **section: Any) -> dict[str, Limit]:
    known = limits(store, QualitySection(**section), COLUMNS)
    return {limit.measure: limit for limit in known}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """400 real tiles of sharpness 1 … 400, and ten sharp synthetic tiles."""
    store = Store(tmp_path)
    cloudy = np.linspace(0, 0.4, 400)
    agreement = [0.99] * 300 + list(np.linspace(0.5, 0.9, 100))
    write(
        store,
        "real",
        [0] * 300 + [1, 2] * 50,
        sharpness=np.arange(1, 401),
        cloudiness=cloudy,
        mask_agreement=agreement,
    )
    write(
        store,
        "synthetic",
        [0] * 10,
        sharpness=[1.0, *[50.0] * 9],
        cloudiness=[0.1] * 10,
        mask_agreement=[0.7] * 10,
    )
    return store


def test_what_two_in_400_real_tiles_are_beyond_is_the_threshold(store: Store) -> None:
    known = of(store)
    assert known.keys() == COLUMNS
    sharpness = known["sharpness"]
    assert (sharpness.value, sharpness.bound, sharpness.kinds) == (2.0, "min", ("synthetic",))
    assert sharpness.origin == "the lowest 0.5% of 400 real tiles"
    assert known["cloudiness"].value == pytest.approx(0.4 * 398 / 399)


def test_tiles_that_a_model_learnt_from_set_no_threshold_for_what_it_sees(store: Store) -> None:
    agreement = of(store)["mask_agreement"]
    assert agreement.value == pytest.approx(0.5)
    assert "100 held-out real tiles" in agreement.origin


def test_a_number_overrides_and_false_switches_off(store: Store) -> None:
    known = of(store, min_sharpness=7.0, max_cloudiness=False)
    assert known.keys() == {"sharpness", "mask_agreement"}
    assert (known["sharpness"].value, known["sharpness"].origin) == (7.0, "the recipe")
    assert known["sharpness"].kinds == ("real", "synthetic")


def test_too_few_real_tiles_set_none_and_that_is_said(tmp_path: Path) -> None:
    store = Store(tmp_path)
    write(store, "real", [0] * (LEAST - 1))
    write(store, "synthetic", [0])
    sharpness = of(store)["sharpness"]
    assert sharpness.value is None
    assert sharpness.origin == "99 real tiles, too few to set a threshold (at least 100)"


def test_where_most_synthetic_tiles_are_beyond_it_none_is_left_out(store: Store) -> None:
    write(store, "synthetic", [0] * 10, sharpness=[1.0] * 6 + [50.0] * 4)
    sharpness = of(store)["sharpness"]
    assert sharpness.value is None
    assert sharpness.origin.startswith("6 of 10 synthetic tiles are beyond 2 (the lowest 0.5%")
    assert sharpness.origin.endswith("min_sharpness = 2 in [quality] leaves them out")


def test_without_synthetic_tiles_there_is_nothing_to_limit(tmp_path: Path) -> None:
    store = Store(tmp_path)
    write(store, "real", [0] * 100)
    assert of(store) == {}
    assert of(store, min_sharpness=1.0).keys() == {"sharpness"}
