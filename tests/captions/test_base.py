import pytest

from builder.captions.base import answer_of, flaw


@pytest.mark.parametrize(
    "text",
    [
        "Cropland covers most of the tile.",
        "Erroneous ploughing marks cross the fields.",
        "Sorry fields of maize lie along the river.",
        "Error-prone terrain with forest.",
        "Sorry, no water is seen.",
        "Exceptional forest covers the hills.",
        "None of the tile is water; it is all cropland.",
        "404 houses stand by the river.",
        "500 service buildings stand among the fields.",
        "The image is dominated by forest.",
        "The image is missing water, but fields are everywhere.",
        "The picture shows an unavailable road and a forest.",
        "No water, only grassland.",
        "No image detail is lost over the fields.",
        "It appears that the forest is dense.",
        "Unable to grow here, trees leave room for shrubs.",
        "Crops unable to access water give way to bare ground.",
        "The connection of two lakes is a narrow river.",
        "Unknown crops cover the tile.",
        "False-colour fields and a village.",
        "I see a forest and a lake.",
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
        ("Unable to generate a caption", "error message"),
        ("The model was unable to describe the image.", "error message"),
        ("Could not load image.", "error message"),
        ("null", "error message"),
        ("None.", "error message"),
        ("undefined", "error message"),
        ("Request timed out", "error message"),
        ("The request has timed out.", "error message"),
        ("Timeout", "error message"),
        ("404 not found", "error message"),
        ("Error 429: slow down", "error message"),
        ("HTTP 503", "error message"),
        ("Service temporarily unavailable", "error message"),
        ("Rate limit exceeded.", "error message"),
        ("The image is unavailable.", "error message"),
        ("Image could not be loaded", "error message"),
        ("No image provided.", "error message"),
        ("An unexpected error occurred.", "error message"),
        ("ValueError: too many values", "error message"),
        ('{"error": {"message": "overloaded"}}', "error message"),
        ('{"detail": "Not Found"}', "error message"),
        ("<html><body>Bad Gateway</body></html>", "error message"),
        ("<think>let me see</think>A forest here.", "marks of a model's answer"),
        ("<think>let me see", "marks of a model's answer"),
        ("A forest \ud800 here", "control"),
        ("I'm sorry, but I can't view images.", "refusal"),
        ("Sorry, but I cannot do that.", "refusal"),
        ("I apologize, there is nothing to see.", "refusal"),
        ("I don't have access to the image.", "refusal"),
        ("Please provide an image.", "refusal"),
        ("It seems like you forgot to attach the image.", "refusal"),
        ("I’m sorry, I can’t help with that.", "refusal"),
        ("I cannot see the image you mention.", "refusal"),
        ("As an AI language model, I have no eyes.", "refusal"),
    ],
)
def test_what_is_no_caption_is_told_apart_with_its_reason(text: str, word: str) -> None:
    assert word in (flaw(text) or "")


def test_a_caption_is_one_line() -> None:
    assert answer_of("  Fields.\n\n Water\tbelow ", {}).text == "Fields. Water below"


def test_what_is_cut_from_an_answer_is_counted_with_its_tokens() -> None:
    answer = answer_of("<think>The tile</think>A forest here.<|im_end|>", {"new_tokens": 9})
    assert answer.text == "A forest here."
    assert answer.counts == {"new_tokens": 9, "thinking_cut": 1, "further_turns_cut": 1}


def test_thinking_that_never_ends_is_a_flawed_text() -> None:
    answer = answer_of("<think> A forest here.", {})
    assert answer.text is None
    assert answer.flawed
    assert "cannot be told from its thinking" in (answer.error or "")
