"""What a model wrote, and the caption in it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builder.land.answers import (
    _LEFT,
    _SIGNS,
    FENCES,
    MARKS,
    THINKING,
    TOKENS,
    TURNS,
    clean,
    unclear,
)
from tests.makers.fuzz import tries

CAPTION = "A dense forest crossed by a river."


@pytest.mark.parametrize(
    ("answer", "cut"),
    [
        (CAPTION, []),
        (f"<think>x</think>{CAPTION}", [THINKING]),
        (f"x</think>\n\n{CAPTION}", [THINKING]),
        (f"<thinking>x</thinking>{CAPTION}", [THINKING]),
        (f"<think>a</think><think>b</think>{CAPTION}", [THINKING]),
        (f"◁think▷x◁/think▷{CAPTION}", [THINKING]),
        (f"[THINK]x[/THINK]{CAPTION}", [THINKING]),
        (f"<seed:think>x</seed:think>{CAPTION}", [THINKING]),
        (f"<|thought|>x<|/thought|>{CAPTION}", [THINKING]),
        (f"<|begin_of_thought|>x<|end_of_thought|>{CAPTION}", [THINKING]),
        (f"<reasoning>x</reasoning>\n<answer>\n{CAPTION}\n</answer>", [THINKING, MARKS]),
        (
            f"<|START_THINKING|>x<|END_THINKING|><|START_RESPONSE|>{CAPTION}<|END_RESPONSE|>",
            [THINKING, MARKS],
        ),
        (
            "<|channel|>analysis<|message|>x<|end|><|start|>assistant<|channel|>final<|message|>"
            f"{CAPTION}<|return|>",
            [THINKING, TURNS],
        ),
        (f"analysisThe user wants a caption.assistantfinal{CAPTION}", [THINKING]),
        (f"<answer>{CAPTION}</answer>", [MARKS]),
        (f"<answer>{CAPTION}", [MARKS]),
        (f"Here it is: <answer>{CAPTION}</answer>", [MARKS]),
        (f"<|begin_of_box|>{CAPTION}<|end_of_box|>", [MARKS]),
        (f"<caption>{CAPTION}</caption>", [MARKS]),
        (rf"\boxed{{{CAPTION}}}", [MARKS]),
        (rf"$\boxed{{\text{{{CAPTION}}}}}$", [MARKS]),
        (f"{CAPTION}<|im_end|>", [TURNS]),
        (f"{CAPTION}<end_of_turn>", [TURNS]),
        (f"{CAPTION}</s>", [TURNS]),
        (f"{CAPTION}<｜end▁of▁sentence｜>", [TURNS]),
        (f"<|im_start|>assistant\n{CAPTION}<|im_end|>\n<|im_start|>user\nNext?", [TURNS]),
        (f"<|start_header_id|>assistant<|end_header_id|>\n\n{CAPTION}<|eot_id|>", [TURNS]),
        (f"<s>[INST] Describe it. [/INST] {CAPTION}</s>", [TURNS]),
        (f"<start_of_turn>model\n{CAPTION}<end_of_turn>", [TURNS]),
        (f"{CAPTION}\nUser: next\nAssistant: more", [TURNS]),
        (f"{CAPTION}\n\nHuman: what else?", [TURNS]),
        (f"{CAPTION}\n### Instruction:\nDescribe", [TURNS]),
        (f"Assistant: {CAPTION}", [TURNS]),
        (f"### Response:\n{CAPTION}", [TURNS]),
        (f"{CAPTION} <|a_token|>", [TOKENS]),
        (f"```\n{CAPTION}\n```", [FENCES]),
        (f"~~~\n{CAPTION}\n~~~", [FENCES]),
        (f'```json\n{{"caption": "{CAPTION}"}}\n```', [FENCES]),
        (f'{{"caption": "{CAPTION}", "confidence": 0.9}}', [FENCES]),
        (f'[{{"description": "{CAPTION}"}}]', [FENCES]),
    ],
)
def test_the_caption_remains_and_what_was_cut_is_named(answer: str, cut: list[str]) -> None:
    cleaned = clean(answer)
    assert (cleaned.text, list(cleaned.cut), cleaned.unclear) == (CAPTION, cut, None)


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (f"<think>{CAPTION}", "its thinking"),
        (f"{CAPTION}<think>so", "its thinking"),
        (f"<|channel|>analysis<|message|>{CAPTION}", "its thinking"),
        (f"```\n{CAPTION}", "its fences"),
        (f"```\n{CAPTION}\n```\n```\nx\n```", "its fences"),
        (f'{{"first": "{CAPTION}", "second": "x"}}', "its fences"),
        (f'["{CAPTION}", "Another one."]', "its fences"),
        ("User: describe the tile", "its further turns"),
        (f"<new_kind>{CAPTION}</new_kind>", "the mark '<new_kind>'"),
        (f"<p>{CAPTION}</p>", "the mark '<p>'"),
        (f"&lt;think&gt;x&lt;/think&gt;{CAPTION}", "the mark '&lt;t'"),
        (f'{{"caption": "{CAPTION}', "the mark"),
    ],
)
def test_what_cannot_be_told_apart_is_said_and_not_guessed(answer: str, why: str) -> None:
    assert why in unclear(clean(answer))


@pytest.mark.parametrize("answer", ["", "<|im_end|>", "<think></think>", "<answer></answer>"])
def test_marks_around_nothing_leave_nothing(answer: str) -> None:
    assert clean(answer).text == ""


@pytest.mark.parametrize(
    "text",
    [
        "The number of houses is < 5 and > 2.",
        "Analysis shows a river. The final answer is a forest.",
        "Fields {green} and [brown] lie ```here",
        'A sign reads "user: keep out".',
        "A model farm, a user's garden and an assistant's house.",
        "  Two  spaces,\ta tab\nand a line of the file's own. ",
        "System: none of it is irrigated.",
        "'There is a forest'",
    ],
)
def test_a_text_without_marks_is_not_changed_by_a_letter(text: str) -> None:
    if "```" in text:
        assert clean(text).unclear
    else:
        assert (clean(text).text, clean(text).cut) == (text, ())


def test_tokens_that_only_a_tokenizer_knows_are_cut() -> None:
    assert clean(f"[SEQ]{CAPTION}[/SEQ]", ["[SEQ]", "[/SEQ]"]).text == CAPTION
    assert clean(CAPTION, ["forest", " ", ""]).text == CAPTION  # plain letters are no marks


FRAGMENTS = [
    *("<think>", "</think>", "<answer>", "</answer>", "<|im_end|>", "</s>", "[/INST]", "```"),
    *("<|channel|>final<|message|>", "\nUser: ", "\\boxed{", "}", "{", '{"caption": "', '"}'),
    *("◁/think▷", "assistantfinal", "analysis", "A forest. ", "Water", "\n", " ", "<", "|>"),
]


@tries(300)
@given(st.lists(st.sampled_from(FRAGMENTS) | st.text(max_size=6), max_size=12))
def test_any_answer_is_cleaned_once_and_for_all(parts: list[str]) -> None:
    text = "".join(parts)
    assert _SIGNS.search(text) or not _LEFT.search(text)
    cleaned = clean(text)
    if cleaned.unclear is None:
        again = clean(cleaned.text)
        assert (again.text, again.unclear) == (cleaned.text, None)
