"""Score files: three formats, whole or not at all."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from builder.core.errors import ArasError
from builder.scores.file_scores import writing

TABLE = pa.table(
    {"id": ["a", "b"], "score": pa.array([1 / 3, None], pa.float32()), "words": [["x", "y"], None]}
)


def test_text_formats_round_and_keep_missing_values_apart_from_zero(tmp_path):
    for suffix in (".csv", ".jsonl"):
        with writing(tmp_path / f"s{suffix}", TABLE.schema) as write:
            write(TABLE)
            write(TABLE.slice(1))
    assert (tmp_path / "s.csv").read_text() == "id,score,words\na,0.3333,x; y\nb,,\nb,,\n"
    rows = [json.loads(line) for line in (tmp_path / "s.jsonl").read_text().splitlines()]
    assert rows[0] == {"id": "a", "score": 0.3333, "words": ["x", "y"]}
    assert rows[2] == {"id": "b", "score": None, "words": None}


def test_parquet_keeps_the_schema(tmp_path):
    with writing(tmp_path / "s.parquet", TABLE.schema) as write:
        write(TABLE)
    assert pq.read_table(tmp_path / "s.parquet").equals(TABLE)


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_a_failure_leaves_no_file(tmp_path, suffix):
    def half(path):
        with writing(path, TABLE.schema) as write:
            write(TABLE)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        half(tmp_path / f"s{suffix}")
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_suffix_is_an_error(tmp_path):
    with (
        pytest.raises(ArasError, match=r"cannot write \.xlsx; use one of \.csv"),
        writing(tmp_path / "s.xlsx", TABLE.schema),
    ):
        pass
