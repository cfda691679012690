"""docs/columns.md and the tables of docs/caption-scores.md say what the columns are."""

from builder.land.score_columns import SCORE_COLUMNS
from builder.scores.caption_scores import SCORES
from scripts import write_columns
from scripts.write_columns import COLUMNS_PAGE, SCORES_PAGE


def test_the_pages_are_up_to_date():
    advice = "run python scripts/write_columns.py"
    assert COLUMNS_PAGE.read_text(encoding="utf-8") == write_columns.columns_page(), advice
    page = SCORES_PAGE.read_text(encoding="utf-8")
    assert page == write_columns.scores_page(page), advice


def test_the_page_of_scores_names_every_column():
    page = SCORES_PAGE.read_text(encoding="utf-8")
    named = [line.split("`")[1] for line in page.splitlines() if line.startswith("| `")]
    clip = [name for name, score in SCORE_COLUMNS.items() if score.stage == "clip"]
    assert [name for name in named if name in SCORE_COLUMNS] == [*SCORES.names, *clip]
