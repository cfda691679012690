"""Which rows have control captions, and what the table holds."""

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from builder.land.columns import CAPTIONS, CONTROLS, arrow_schema, names_of
from builder.land.pictures import composition_columns
from builder.release.configs import Controls


def rows(start: int, n: int, text: str | None = "Mostly {k} at {i} %.") -> pa.Table:
    numbers = range(start, start + n)
    counts = np.zeros((n, 7), np.int64)
    counts[np.arange(n), [i % 3 for i in numbers]] = 100
    words = ("trees", "shrubs", "grass")
    captions = [
        [{"stream": "s", "text": text and text.format(k=words[i % 3], i=i), "error": None}]
        for i in numbers
    ]
    ids = pa.array([f"real/{i:03d}" for i in numbers])
    return pa.table(
        {"id": ids, **composition_columns(counts), "captions": pa.array(captions, CAPTIONS)}
    )


def controls_of(
    most: int, *parts: pa.Table, kind: str = "real", split: str = "test"
) -> pa.Table | None:
    controls = Controls(most, seed=7)
    for part in parts:
        controls.see(kind, split, part)
    return controls.table()


def by_control(table: pa.Table) -> dict[str, list[dict[str, Any]]]:
    return {name: [row for row in table.to_pylist() if row["control"] == name] for name in CONTROLS}


def test_every_control_is_made_of_every_chosen_row() -> None:
    table = controls_of(10, rows(0, 30))
    assert table.schema.equals(arrow_schema(names_of("controls")))
    by_name = by_control(table)
    assert [len(some) for some in by_name.values()] == [10] * 5
    ids = [row["id"] for row in by_name["empty"]]
    assert ids == sorted(set(ids))
    own = {f"real/{i:03d}": i for i in range(30)}
    for row in by_name["wrong_class"]:
        assert row["text"].split()[1] != ("trees", "shrubs", "grass")[own[row["id"]] % 3]
    assert {row["text"] for row in by_name["empty"]} == {""}
    assert all("#" in row["text"] for row in by_name["digits_masked"])
    assert all("land" in row["text"] for row in by_name["classes_masked"])


def test_the_choice_depends_on_the_rows_and_the_seed_alone() -> None:
    whole = rows(0, 40)
    parts = [whole.slice(30), whole.slice(0, 5), whole.slice(5, 25)]
    assert controls_of(6, whole).equals(controls_of(6, *parts))
    fewer, more = (set(controls_of(n, whole).column("id").to_pylist()) for n in (4, 9))
    assert fewer < more
    other = Controls(6, seed=8)
    other.see("real", "test", whole)
    assert not other.table().equals(controls_of(6, whole))


@pytest.mark.parametrize(("kind", "split"), [("real", "train"), ("synthetic", "test")])
def test_other_parts_have_none(kind: str, split: str) -> None:
    assert controls_of(5, rows(0, 9), kind=kind, split=split) is None


def test_none_are_made_where_none_are_wanted_or_there_is_nothing_to_make_them_of() -> None:
    assert controls_of(0, rows(0, 9)) is None
    assert controls_of(5) is None


def test_rows_without_a_caption_have_only_the_empty_one() -> None:
    table = controls_of(5, rows(0, 5, text=None))
    assert [len(some) for some in by_control(table).values()] == [0, 0, 0, 0, 5]
