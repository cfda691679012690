"""Writing one row of scores per caption as CSV, JSONL or Parquet, atomically and in batches."""

import contextlib
import csv
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from builder.errors import ArasError
from builder.files import atomic

SUFFIXES = (".csv", ".jsonl", ".parquet")

Write = Callable[[pa.Table], None]


def check(path: Path) -> None:
    """Raise ArasError unless the suffix is one that can be written."""
    if path.suffix not in SUFFIXES:
        raise ArasError(
            f"{path}: cannot write {path.suffix or 'a file without suffix'}; "
            f"use one of {', '.join(SUFFIXES)}"
        )


@contextlib.contextmanager
def writing(path: Path, schema: pa.Schema) -> Iterator[Write]:
    """Yield ``write(table)``; the file stands under ``path`` only when all went well.

    In text formats numbers have four decimals, missing ones are blank (CSV) or null, and a list
    is joined by "; " (CSV).
    """
    check(path)
    with atomic(path) as temporary:
        if path.suffix == ".parquet":
            with pq.ParquetWriter(temporary, schema, compression="zstd") as parquet:
                yield parquet.write_table
            return
        with temporary.open("w", encoding="utf-8", newline="") as file:
            if path.suffix == ".jsonl":
                yield lambda table: file.writelines(_json_lines(table))
            else:
                rows = csv.writer(file, lineterminator="\n")
                rows.writerow(schema.names)
                yield lambda table: rows.writerows(_csv_rows(table))


def _json_lines(table: pa.Table) -> Iterator[str]:
    for row in table.to_pylist():
        yield json.dumps({k: _round(v) for k, v in row.items()}, ensure_ascii=False) + "\n"


def _csv_rows(table: pa.Table) -> Iterator[list[Any]]:
    for row in table.to_pylist():
        yield ["; ".join(v) if isinstance(v, list) else _round(v) for v in row.values()]


def _round(value: Any) -> Any:
    return round(value, 4) if isinstance(value, float) else value
