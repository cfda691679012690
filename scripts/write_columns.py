"""Write docs/columns.md from builder/schema.py; a test fails when it is out of date."""

from pathlib import Path

from builder.release.card import column_type
from builder.schema import COLUMNS

TARGET = Path(__file__).parents[1] / "docs" / "columns.md"


def text() -> str:
    """The page, Markdown."""
    lines = [
        "# Columns of a release",
        "",
        "Written by `python scripts/write_columns.py` from `builder/schema.py`.",
        "",
        "| column | type | unit | made by | meaning |",
        "|---|---|---|---|---|",
    ]
    for one in COLUMNS:
        cells = (f"`{one.name}`", column_type(one), one.unit or "–", one.made_by, one.meaning)
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    TARGET.write_text(text(), encoding="utf-8", newline="\n")
