"""Writing scores, a row per caption, as CSV, JSON Lines or Parquet."""

import contextlib
import csv
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from builder.core.errors import ArasError
from builder.core.escape import csv_cell
from builder.core.files import atomic

SUFFIXES = (".csv", ".jsonl", ".parquet")

Write = Callable[[pa.Table], None]


def check(path: Path) -> None:
    """Raise ArasError unless the suffix can be written."""
    if path.suffix not in SUFFIXES:
        raise ArasError(
            f"{path}: cannot write {path.suffix or 'a file without suffix'}; "
            f"use one of {', '.join(SUFFIXES)}"
        )


@contextlib.contextmanager
def writing(path: Path, schema: pa.Schema) -> Iterator[Write]:
    """Yield ``write(table)``; the file appears under ``path`` only when all went well.

    In text formats numbers have four decimals, missing scores are blank (CSV) or null, and a list
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
                rows.writerow(map(csv_cell, schema.names))
                yield lambda table: rows.writerows(_csv_rows(table))


def _json_lines(table: pa.Table) -> Iterator[str]:
    for row in table.to_pylist():
        yield json.dumps(_round(row), ensure_ascii=False) + "\n"


def _csv_rows(table: pa.Table) -> Iterator[list[Any]]:
    for row in table.to_pylist():
        cells = ("; ".join(map(_words, v)) if isinstance(v, list) else v for v in row.values())
        yield [csv_cell(_round(cell)) for cell in cells]


def _words(item: Any) -> str:
    """An item of a list in a cell: a name, or the members of a struct joined by spaces, such as
    ``Crop 0.5 1.0`` and ``Water upper left absent``; what is false is left out."""
    if not isinstance(item, dict):
        return str(item)
    parts = (name if v is True else str(_round(v)) for name, v in item.items() if v is not False)
    return " ".join(parts)


def _round(value: Any) -> Any:
    """``value`` with every number in it to four decimals."""
    if isinstance(value, dict):
        return {name: _round(member) for name, member in value.items()}
    if isinstance(value, list):
        return [_round(member) for member in value]
    return round(value, 4) if isinstance(value, float) else value
