import pytest

from builder.captions.base import flaw, tidy


@pytest.mark.parametrize(
    "text",
    [
        "Cropland covers most of the tile.",
        "Erroneous ploughing marks cross the fields.",
        "Sorry fields of maize lie along the river.",
    ],
)
def test_a_plain_sentence_may_stand_as_a_caption(text: str) -> None:
    assert flaw(text) is None


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("", "empty"),
        (" \n\t ", "empty"),
        ("Fields\x00 and water", "control"),
        ("Fields � and water", "control"),
        ("word " * 10_000, "10,000 words"),
        ("57 % / 21 %", "no word"),
        ("ERROR: Failed to generate caption", "error message"),
        ("Error communicating with the model", "error message"),
        ("Failed to generate caption.", "error message"),
        ("Traceback (most recent call last): …", "error message"),
        ("500 Internal Server Error", "error message"),
        ("I'm sorry, but I can't view images.", "refusal"),
        ("I’m sorry, I can’t help with that.", "refusal"),
        ("I cannot see the image you mention.", "refusal"),
        ("As an AI language model, I have no eyes.", "refusal"),
    ],
)
def test_what_is_no_caption_is_told_apart_with_its_reason(text: str, word: str) -> None:
    assert word in (flaw(text) or "")


def test_tidy_makes_one_line() -> None:
    assert tidy("  Fields.\n\n Water\tbelow ") == "Fields. Water below"
