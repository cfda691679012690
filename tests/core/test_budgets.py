"""Files of other people are measured by their headers before they cost memory."""

import re
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import builder
from builder.core import budgets
from builder.core.arrow import options
from builder.core.errors import ArasError
from builder.core.foreign import ForeignParquet


def written(path: Path, table: pa.Table, **how: object) -> Path:
    pq.write_table(table, path, **how)
    return path


def test_a_text_repeated_by_dictionary_counts_as_often_as_it_stands(tmp_path: Path) -> None:
    text = pa.DictionaryArray.from_arrays(
        pa.array([0] * 100, pa.int32()), pa.array(["x" * (4 << 20)])
    )
    captions = pa.ListArray.from_arrays(
        pa.array(range(101), pa.int32()), pa.StructArray.from_arrays([text], names=["text"])
    )
    table = pa.table({"captions": captions})
    path = written(tmp_path / "a.parquet", table, store_schema=False, compression="zstd")
    assert path.stat().st_size < 20_000
    before = pa.total_allocated_bytes()
    with pytest.raises(
        ArasError, match=r"row group 0 unpacks to 4\d\d,\d+,\d+ bytes and more, column captions"
    ):
        ForeignParquet(path).read()
    assert pa.total_allocated_bytes() - before < 32 << 20
    with pytest.raises(ArasError, match=r"row group 0 unpacks to"):
        next(ForeignParquet(path).iter_batches(columns=["captions"]))


def test_a_row_group_of_many_rows_is_refused_by_its_footer(tmp_path: Path) -> None:
    rows = budgets.PARQUET_GROUP_ROWS + 1
    table = pa.table({"n": pa.nulls(rows, pa.int8())})
    path = written(tmp_path / "a.parquet", table, row_group_size=rows)
    with pytest.raises(ArasError, match=r"row group 0 has 1,048,577 rows"):
        ForeignParquet(path).read()


def test_values_built_from_the_one_before_are_refused(tmp_path: Path) -> None:
    table = pa.table({"text": ["x" * 1000] * 1000})
    how = {"use_dictionary": False, "column_encoding": {"text": "DELTA_BYTE_ARRAY"}}
    path = written(tmp_path / "a.parquet", table, **how)
    with pytest.raises(ArasError, match="text is encoded as DELTA_BYTE_ARRAY"):
        ForeignParquet(path).read()


def test_what_we_write_is_never_refused(tmp_path: Path) -> None:
    rows = 4096
    table = pa.table(
        {
            "id": [f"real/{i}" for i in range(rows)],
            "text": [f"a text of its own, {i} " * 20 for i in range(rows)],
            "same": ["the same text in every row " * 20] * rows,
            "vector": pa.array([[0.5] * 64] * rows, pa.list_(pa.float32())),
            "none": pa.nulls(rows, pa.string()),
        }
    )
    path = written(tmp_path / "a.parquet", table, **options(table.schema))
    assert ForeignParquet(path).read().num_rows == rows


def test_files_of_a_release_are_opened_where_they_are_measured() -> None:
    """The only readers of Parquet beside `ForeignParquet`: our own store, and files of vectors."""
    others = {"core/foreign.py", "core/store.py", "retrieval/vector_files.py"}
    root = Path(builder.__file__).parent
    opens = re.compile(r"pq\.(ParquetFile|read_table)\(|parquet\.(ParquetFile|read_table)\(")
    readers = {
        path.relative_to(root).as_posix()
        for path in root.rglob("*.py")
        if opens.search(path.read_text(encoding="utf-8"))
    }
    assert readers == others
