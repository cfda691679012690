"""Write docs/columns.md from builder/land/columns.py; a test fails when it is out of date."""

from pathlib import Path

from builder.land.columns import COLUMNS, OTHERS, Column
from builder.release.card import column_type

HEADER = ("| column | type | unit | made by | meaning |", "|---|---|---|---|---|")
TARGET = Path(__file__).parents[1] / "docs" / "columns.md"


def text() -> str:
    """The page, Markdown."""
    lines = [
        "# Columns of a release",
        "",
        "Written by `python scripts/write_columns.py` from `builder/land/columns.py`.",
        "",
        *HEADER,
    ]
    lines += [row(one) for one in COLUMNS]
    for config, columns in OTHERS.items():
        lines += ["", f"Config `{config}` has rows and columns of its own:", "", *HEADER]
        lines += [row(one) for one in columns]
    return "\n".join(lines) + "\n"


def row(one: Column) -> str:
    """A line of the table."""
    cells = (f"`{one.name}`", column_type(one), one.unit or "–", one.made_by, one.meaning)
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    TARGET.write_text(text(), encoding="utf-8", newline="\n")
