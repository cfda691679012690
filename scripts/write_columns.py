"""Write docs/columns.md and the tables of docs/caption-scores.md from builder/land.

A test fails when they are out of date.
"""

import re
from pathlib import Path

import pyarrow as pa

from builder.land.columns import COLUMNS, OTHERS, Column
from builder.land.score_columns import ScoreColumn, scores_of
from builder.release.card import NAMES, column_type

DOCS = Path(__file__).parents[1] / "docs"
COLUMNS_PAGE, SCORES_PAGE = DOCS / "columns.md", DOCS / "caption-scores.md"

HEADER = ("| column | type | unit | made by | meaning |", "|---|---|---|---|---|")


def columns_page() -> str:
    """docs/columns.md."""
    lines = [
        "# Columns of a release",
        "",
        "Written by `python scripts/write_columns.py` from `builder/land/columns.py` and",
        "`builder/land/score_columns.py`.",
        "",
        *HEADER,
    ]
    lines += [row(column) for column in COLUMNS]
    lines += ["", "Members of `caption_scores`, beside `stream`:", "", *HEADER]
    lines += [
        score_row(name, score)
        for stage in ("score", "repeat", "clip")
        for name, score in scores_of(stage, "release").items()
    ]
    lines += [
        "",
        "Columns that only the file of `aras score captions --out` has, beside those of the",
    ]
    lines += ["stage score above:", "", *HEADER]
    lines += [
        score_row(name, score)
        for name, score in scores_of("score").items()
        if "release" not in score.shown
    ]
    for config, columns in OTHERS.items():
        lines += ["", f"Config `{config}` has rows and columns of its own:", "", *HEADER]
        lines += [row(column) for column in columns]
    return "\n".join(lines) + "\n"


def row(column: Column) -> str:
    """A line of the table of columns."""
    unit = column.unit or "–"
    cells = (f"`{column.name}`", column_type(column), unit, column.made_by, column.meaning)
    return f"| {' | '.join(cells)} |"


def score_row(name: str, score: ScoreColumn) -> str:
    """A line of the table of scores."""
    cells = (f"`{name}`", type_name(score.type), score.unit or "–", score.stage, score.meaning)
    return f"| {' | '.join(cells)} |"


def type_name(kind: pa.DataType) -> str:
    if pa.types.is_list(kind):
        return f"list of {type_name(kind.value_type)}"
    if pa.types.is_struct(kind):
        return f"({', '.join(field.name for field in kind)})"
    return NAMES.get(str(kind), str(kind))


def scores_page(page: str) -> str:
    """docs/caption-scores.md, ``page``, with what stands between its marks written anew."""
    for stage in ("score", "clip"):
        table = ["| column | meaning | in a release |", "|---|---|---|"]
        for name, score in scores_of(stage).items():
            there = "yes" if "release" in score.shown else "no"
            table.append(f"| `{name}` | {score.meaning} | {there} |")
        begin, end = f"<!-- scores of {stage} -->", f"<!-- end of {stage} -->"
        text = "\n".join((begin, *table, end))
        page = re.sub(f"{begin}.*{end}", lambda _, text=text: text, page, flags=re.DOTALL)
    return page


if __name__ == "__main__":
    COLUMNS_PAGE.write_text(columns_page(), encoding="utf-8", newline="\n")
    page = scores_page(SCORES_PAGE.read_text(encoding="utf-8"))
    SCORES_PAGE.write_text(page, encoding="utf-8", newline="\n")
