"""Questions: one condition over config metadata, asked by DuckDB, which touches nothing else."""

from pathlib import Path

import pyarrow as pa
import pytest

from builder.core.errors import ArasError
from builder.land.columns import METADATA_NAMES, arrow_schema
from builder.parts.question import Question

SCHEMA = arrow_schema(METADATA_NAMES)


def table() -> pa.Table:
    """Four rows: dominant Tree, Water, Water, Crop; grounding of two captions each."""
    scores = [[0.5, 0.7], [0.9, None], [None, None], [1.0, 0.0]]
    given = {
        "id": ["a", "b", "c", "d"],
        "kind": [0, 0, 1, 1],
        "dominant": [0, 6, 6, 3],
        "longitude": [26.5, 27.5, None, None],
        "percent": [{"Tree": 60, "Built-up": 40}, {"Water": 90}, {"Water": 51}, {"Crop": 100}],
        "captions": [[{"stream": "x", "text": f"A lake near {word}."}] for word in "abcd"],
        "caption_scores": [
            [{"stream": s, "grounding": g} for s, g in zip("xy", row, strict=True)]
            for row in scores
        ],
    }
    rows = [{name: values[i] for name, values in given.items()} for i in range(4)]
    return pa.Table.from_pylist(rows, SCHEMA)


ANSWERS = [
    ("", [0, 1, 2, 3], ()),
    ("dominant = 'Water'", [1, 2], ("dominant",)),
    ("DOMINANT = 'Water' AND Kind = 'real'", [1], ("kind", "dominant")),
    ("grounding > 0.55", [0, 1], ("caption_scores.list.element.grounding",)),
    ("grounding IS NULL", [2], ("caption_scores.list.element.grounding",)),
    ("percent.Water > 50 OR percent['Built-up'] = 40", [0, 1, 2], ("percent",)),
    ("metadata.longitude BETWEEN 27 AND 28 -- said", [1], ("longitude",)),
    ("len([c FOR c IN captions IF c.text LIKE '%near d%']) > 0", [3], ("captions",)),
    ("list_max([s.grounding FOR s IN caption_scores]) = 1", [3], ("caption_scores",)),
    ("true", [0, 1, 2, 3], ()),
]


@pytest.mark.parametrize(("where", "rows", "leaves"), ANSWERS, ids=[a[0] or "all" for a in ANSWERS])
def test_a_condition_chooses_rows_and_needs_few_columns(
    where: str, rows: list[int], leaves: tuple[str, ...]
) -> None:
    question = Question(where, SCHEMA)
    assert question.leaves == leaves
    assert question.rows(table()).tolist() == rows


BAD = [
    ("dominat = 'Water'", r'column "dominat" not found(.|\n)*Candidate bindings: "dominant"'),
    ("dominant =", "syntax error"),
    ("dominant = 'Water') UNION (SELECT 1", "one condition"),
    ("true) LIMIT (1", "one condition"),
    ("true) GROUP BY (id", "one condition"),
    ("true; DROP TABLE metadata", "syntax error"),
    ("id IN (SELECT id FROM metadata)", "no SELECT in it"),
    ("EXISTS (SELECT 1 FROM read_csv('/etc/passwd'))", "no SELECT in it"),
    ("sum(longitude) > 1", "aggregates"),
    ("read_text('/etc/passwd') = ''", "table function"),
    ("longitude > 'east'", "east"),
]


@pytest.mark.parametrize(("where", "words"), BAD, ids=[bad[0] for bad in BAD])
def test_a_bad_condition_gets_duckdb_s_words_and_the_columns_there_are(
    where: str, words: str
) -> None:
    with pytest.raises(ArasError, match=words) as raised:
        Question(where, SCHEMA).rows(table())
    assert "columns: id, kind, split" in str(raised.value)
    assert "means over the captions of a row: grounding, accuracy" in str(raised.value)


def test_duckdb_opens_no_file_and_takes_no_setting(tmp_path: Path) -> None:
    database = Question("true", SCHEMA).database
    (tmp_path / "x.csv").write_text("a\n1\n")
    for command in (
        f"SELECT * FROM '{tmp_path}/x.csv'",
        f"COPY (SELECT 1) TO '{tmp_path}/y.csv'",
        "INSTALL httpfs",
        "SET enable_external_access = true",
        "SELECT * FROM tmp_path",
    ):
        with pytest.raises(Exception, match=r"disabled|locked|does not exist"):
            database.execute(command).fetchall()
    assert not (tmp_path / "y.csv").exists()
