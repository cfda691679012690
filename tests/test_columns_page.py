"""docs/columns.md is what schema.py says."""

from scripts import write_columns


def test_the_page_is_up_to_date():
    assert write_columns.TARGET.read_text(encoding="utf-8") == write_columns.text(), (
        "run python scripts/write_columns.py"
    )
