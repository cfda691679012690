"""Hashes of column values: equal for equal values, different for all that a user tells apart."""

import numpy as np
import pyarrow as pa
import pytest

from builder.release.diff import row_hashes

PAIR = pa.struct([("a", pa.int64()), ("b", pa.string())])
VALUES = {
    "string": (pa.string(), ["", "a", "b", "ab", None]),
    "binary": (pa.binary(), [b"", b"\0", b"\0\0", None]),
    "bool": (pa.bool_(), [True, False, None]),
    "int": (pa.int64(), [0, 1, -1, 2**62, None]),
    "float": (pa.float64(), [0.0, -0.0, 1.0, float("nan"), None]),
    "list": (pa.list_(pa.int64()), [[], [0], [0, 0], [0, 1], [1, 0], [None], None]),
    "fixed": (pa.list_(pa.int64(), 2), [[0, 1], [1, 0], [0, None], None]),
    "struct": (PAIR, [{"a": 1, "b": "x"}, {"a": 1, "b": None}, {"a": None, "b": "x"}, None]),
    "lists of structs": (pa.list_(PAIR), [[], [{"a": 1, "b": "x"}], [{"a": 2, "b": "x"}], None]),
}


@pytest.mark.parametrize("name", VALUES)
def test_a_hash_depends_on_the_value_alone(name: str) -> None:
    kind, values = VALUES[name]
    hashes = row_hashes(pa.array(values, kind))
    assert hashes.dtype == np.uint64
    assert len(set(hashes.tolist())) == len(values)  # all differ
    turned = pa.chunked_array([pa.array(values[i:] + values[:i], kind) for i in (1, 2)])
    again = row_hashes(turned)
    n = len(values)
    assert again.tolist() == np.concatenate([np.roll(hashes, -1), np.roll(hashes, -2)]).tolist()
    assert row_hashes(pa.array(values, kind).slice(1, n - 2)).tolist() == hashes[1 : n - 1].tolist()


def test_columns_without_rows_or_values() -> None:
    assert len(row_hashes(pa.chunked_array([], pa.string()))) == 0
    assert len(set(row_hashes(pa.nulls(3)).tolist())) == 1
