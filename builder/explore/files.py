"""Files of the page's index: columns as compressed arrays, rows in segments."""

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

SEGMENT = 16_384
"""Rows of a file of ids, places or details."""
BLOCK = 32
"""Rows of a piece of a file of details, which is read by a range."""

Array = npt.NDArray[Any]


def packed(data: bytes) -> bytes:
    """Compressed; equal bytes for equal data."""
    return gzip.compress(data, 6, mtime=0)


def write_array(path: Path, values: Array) -> None:
    """An array, little-endian, compressed."""
    path.write_bytes(packed(np.ascontiguousarray(values, values.dtype.newbyteorder("<")).tobytes()))


def write_packed_json(path: Path, value: Any) -> None:
    """JSON, compressed."""
    path.write_bytes(packed(compact(value)))


def compact(value: Any) -> bytes:
    """JSON without spaces, in UTF-8. NaN is refused, which no browser would read."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
