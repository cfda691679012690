"""docs/columns.md is what schema.py says, and docs/caption-scores.md what the scorer gives."""

import re
from pathlib import Path

from builder.land.columns import CAPTION_SCORE
from builder.scores.caption_scores import SCORES
from scripts import write_columns

SCORES_PAGE = Path(__file__).parents[2] / "docs" / "caption-scores.md"


def test_the_page_is_up_to_date():
    assert write_columns.TARGET.read_text(encoding="utf-8") == write_columns.text(), (
        "run python scripts/write_columns.py"
    )


def test_the_page_of_scores_names_every_column_and_those_that_a_release_lacks():
    text = SCORES_PAGE.read_text(encoding="utf-8")
    table = text.partition("| column | meaning |")[2].partition("\n\n")[0]
    cells = [line.split("|")[1] for line in table.splitlines() if line.startswith("| `")]
    assert sorted(re.findall(r"`(\w+)`", " ".join(cells))) == sorted(SCORES.names)
    lacks = re.search(r"of a release has them without ([^.]+)\.", text)
    assert lacks
    named = {field.name for field in CAPTION_SCORE}
    assert set(re.findall(r"`(\w+)`", lacks[1])) == set(SCORES.names) - named
