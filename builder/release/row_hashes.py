"""One 64-bit hash per value of an Arrow column: two releases are compared by hash, not by value."""

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

Hashes = npt.NDArray[np.uint64]

_NULL = np.uint64(0x9E3779B97F4A7C15)


def row_hashes(column: pa.Array | pa.ChunkedArray) -> Hashes:
    """(n,) hashes of a column's n values: equal values, equal hashes, within one process.

    Strings are hashed by Python's own keyed hash (SipHash), so the hashes mean nothing elsewhere.
    Two different values share a hash once in 2⁶⁴ pairs. NaN equals NaN, −0 differs from 0, null
    differs from every value, lists count with their order, structs with the order of members.
    """
    array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    if isinstance(array, pa.ChunkedArray):  # a column without chunks
        return np.zeros(0, dtype=np.uint64)
    kind = array.type
    if pa.types.is_struct(kind):
        out = np.zeros(len(array), dtype=np.uint64)
        for child in array.flatten():
            out = _mix(out + row_hashes(child))
    elif _is_list(kind):
        out = _lists(array)
    elif pa.types.is_null(kind):
        return np.full(len(array), _NULL)
    elif _is_text(kind):
        found = np.fromiter(map(hash, array.to_pylist()), np.int64, len(array))
        out = found.view(np.uint64)
    else:
        out = _mix(_bits(array))
    if array.null_count:
        out = np.where(pc.is_null(array).to_numpy(zero_copy_only=False), _NULL, out)
    return out


def _lists(array: pa.Array) -> Hashes:
    """Hash of each list: of its length and of its items, each with its place."""
    if pa.types.is_fixed_size_list(array.type):
        lengths = np.where(_valid(array), array.type.list_size, 0)
    else:
        lengths = pc.fill_null(pc.list_value_length(array), 0).to_numpy().astype(np.int64)
    ends = np.cumsum(lengths)
    starts = ends - lengths
    place = np.arange(ends[-1] if len(ends) else 0) - np.repeat(starts, lengths)
    items = _mix(row_hashes(array.flatten()) + _mix(place.astype(np.uint64)))
    sums = np.concatenate([np.zeros(1, dtype=np.uint64), np.cumsum(items, dtype=np.uint64)])
    return _mix(sums[ends] - sums[starts] + lengths.astype(np.uint64))


def _bits(array: pa.Array) -> Hashes:
    """Numbers of any width as 64 bits."""
    if pa.types.is_boolean(array.type):
        array = array.cast(pa.uint8())
    values = pc.fill_null(array, 0).to_numpy()
    if values.dtype.kind == "f":
        values = values.astype(np.float64).view(np.uint64)
    return np.asarray(values, dtype=np.uint64)


def _mix(values: Hashes) -> Hashes:
    """SplitMix64's finaliser (Steele, Lea and Flood 2014), after its increment."""
    out = values + _NULL
    out = (out ^ (out >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    out = (out ^ (out >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(out ^ (out >> np.uint64(31)))


def _valid(array: pa.Array) -> npt.NDArray[np.bool_]:
    return np.asarray(pc.is_valid(array).to_numpy(zero_copy_only=False))


def _is_list(kind: pa.DataType) -> bool:
    return bool(
        pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    )


def _is_text(kind: pa.DataType) -> bool:
    tests = (pa.types.is_string, pa.types.is_large_string, pa.types.is_binary)
    return any(test(kind) for test in (*tests, pa.types.is_large_binary))
