"""A column's digest is that of its values: whatever wrote them, however they lie in memory."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from builder.core.arrow import column_digest, combine, options, table_digests, type_name
from builder.land.classes import CLASSES
from builder.land.columns import CAPTION, CAPTIONS, IMAGE, PER_CLASS_COUNT

ENTRY = {"text": "a", "model": "m", "revision": "1", "prompt_sha256": "0", "seed": "7"}
ENTRY |= {"error": None}
COUNTS = dict.fromkeys(CLASSES, 1)

# Type, four values, and other values of which each must change the digest.
COLUMNS: list[tuple[pa.DataType, list[Any], list[Any]]] = [
    (pa.string(), ["a", None, "", "ü"], ["b", ""]),
    (pa.binary(), [b"a", None, b"", b"\x00"], [b"b", b"a\x00"]),
    (pa.int64(), [1, None, -1, 0], [2, -(2**62)]),
    (pa.float64(), [0.5, None, -1.0, float("nan")], [0.25, 1e300]),
    (pa.float32(), [0.5, None, -1.0, 0.0], [0.25]),
    (pa.bool_(), [True, None, False, True], [False]),
    (pa.list_(pa.float64(), 2), [[1.0, 2.0], None, [3.0, 4.0], [5.0, 6.0]], [[2.0, 1.0]]),
    (pa.list_(pa.string()), [["a", "b"], None, [], ["c"]], [["ab"], ["a"], ["a", "b", ""], []]),
    (PER_CLASS_COUNT, [COUNTS, None, COUNTS, COUNTS], [{**COUNTS, "Water": 2}]),
    (IMAGE, [{"bytes": b"x", "path": "p"}, None, {"bytes": b"", "path": None}, None],
     [{"bytes": b"x", "path": "q"}, {"bytes": b"xp", "path": ""}, {"bytes": None, "path": "p"}]),
    (CAPTION, [ENTRY, None, {**ENTRY, "text": None, "error": "e"}, ENTRY],
     [{**ENTRY, "error": "a", "text": None}, {**ENTRY, "seed": "8"}]),
    (CAPTIONS, [[{"stream": "s", **ENTRY}], [], None, [{"stream": "t", **ENTRY}] * 2],
     [[{"stream": "t", **ENTRY}], [{"stream": "s", **ENTRY}] * 2]),
]  # fmt: skip
every_type = pytest.mark.parametrize(
    ("kind", "values", "others"), COLUMNS, ids=[str(kind)[:24] for kind, _, _ in COLUMNS]
)


@every_type
def test_chunks_and_slices_do_not_count(kind: Any, values: list[Any], others: list[Any]) -> None:
    whole = column_digest(pa.array(values, kind))
    chunks = pa.chunked_array([pa.array(values[:1], kind), pa.array(values[1:], kind)])
    padded = pa.array([*values[::-1], *values, *values], kind).slice(len(values), len(values))
    assert column_digest(chunks) == whole
    assert column_digest(padded) == whole
    assert column_digest(pa.chunked_array([padded.slice(0, 2), padded.slice(2)])) == whole


@every_type
def test_every_value_null_place_and_length_counts(
    kind: Any, values: list[Any], others: list[Any]
) -> None:
    changed = [
        *([other, *values[1:]] for other in others),
        [None, *values[1:]],
        [values[0], *values],
        values[:-1],
        [],
        [None] * len(values),
    ]
    digests = {column_digest(pa.array(column, kind)) for column in [values, *changed]}
    assert len(digests) == 1 + len(changed)


@pytest.mark.parametrize(
    ("kind", "values", "store_schema"),
    [
        (kind, values, store_schema)
        for kind, values, _ in COLUMNS
        for store_schema in (True, False)
        # Parquet itself knows no lists of a fixed size: they come back as another type.
        if store_schema or not pa.types.is_fixed_size_list(kind)
    ],
)
def test_a_rewrite_as_parquet_keeps_the_digest(
    tmp_path: Path, kind: Any, values: list[Any], store_schema: bool
) -> None:
    table = pa.table({"x": pa.array(values, kind)})
    pq.write_table(table, tmp_path / "x.parquet", store_schema=store_schema, row_group_size=1)
    again = pq.read_table(tmp_path / "x.parquet")
    assert table_digests(again) == table_digests(table)


def test_bytes_under_nulls_do_not_count() -> None:
    valid = pa.array([True, False, True]).buffers()[1]
    first, two = (pa.array([1, rubbish, 3], pa.int64()).buffers()[1] for rubbish in (2, 99))
    arrays = [pa.Array.from_buffers(pa.int64(), 3, [valid, data]) for data in (first, two)]
    assert column_digest(arrays[0]) == column_digest(arrays[1])
    assert column_digest(arrays[0]) == column_digest(pa.array([1, None, 3], pa.int64()))


def test_equal_bytes_of_another_type_are_another_column() -> None:
    digests = {
        column_digest(pa.array(values, kind))
        for values, kind in [
            ([0, 0], pa.int64()),
            ([0, 0], pa.uint64()),
            ([0.0, 0.0], pa.float64()),
            ([0, 0, 0, 0], pa.int32()),
            (["", ""], pa.string()),
            ([b"", b""], pa.binary()),
        ]
    }
    assert len(digests) == 6


@pytest.mark.parametrize("kind", [pa.large_string(), pa.dictionary(pa.int8(), pa.string())])
def test_a_type_that_no_column_of_ours_has_is_refused_rather_than_hashed_wrong(kind: Any) -> None:
    with pytest.raises((pa.ArrowInvalid, pa.ArrowNotImplementedError)):
        column_digest(pa.array(["a", "b"], kind))


def test_combining_digests_ignores_their_order_but_not_their_names() -> None:
    assert combine({"a": "1", "b": "2"}) == combine({"b": "2", "a": "1"})
    assert (
        len({combine(d) for d in ({"a": "1", "b": "2"}, {"a": "2", "b": "1"}, {"a": "1"}, {})}) == 4
    )


@pytest.mark.parametrize("kind", [kind for kind, _, _ in COLUMNS], ids=str)
def test_a_type_has_one_name_before_and_after_parquet(kind: pa.DataType, tmp_path: Path) -> None:
    empty = pa.table({"x": pa.array([], kind)})
    pq.write_table(empty, tmp_path / "x", **options(empty.schema))
    assert type_name(pq.read_table(tmp_path / "x").schema.field("x").type) == type_name(kind)


def test_a_member_more_makes_another_type() -> None:
    names = [type_name(pa.list_(pa.struct(list(PER_CLASS_COUNT)[:n]))) for n in range(1, 8)]
    assert len(set(names)) == 7
