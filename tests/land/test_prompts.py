import dataclasses
import re

import numpy as np
import pytest

from builder.core.errors import ArasError
from builder.land import prompts
from builder.land.prompts import Request
from tests.makers.caption_requests import request

MIXED = np.array([0, 0, 700, 5_700, 2_100, 1_495, 5])  # 7 57 21 14.95 0.05 %


def test_percentages_are_whole_and_sorted_and_leave_out_what_rounds_to_nothing() -> None:
    said = prompts.percentages(MIXED)
    assert said == "57% cropland, 21% built-up land, 15% bare ground, 7% grassland"
    assert sum(map(int, re.findall(r"\d+", said))) == 100


def test_a_composition_in_words_holds_no_number_and_names_the_same_classes() -> None:
    said = prompts.composition(MIXED)
    assert said == (
        "about half cropland, a fair share of built-up land, a fair share of bare ground, "
        "a little grassland"
    )
    assert not re.search(r"\d", said)


def test_a_tile_of_one_class_is_almost_only_that() -> None:
    assert prompts.composition(np.array([0, 0, 0, 0, 0, 0, 9])) == "almost only water"


def test_layout_says_where_each_class_lies() -> None:
    mask = np.full((60, 60), 3, dtype=np.uint8)
    mask[:15] = 0
    assert prompts.layout(mask) == (
        "cropland is spread over the tile; tree cover lies mostly in the north"
    )


@pytest.mark.parametrize("name", prompts.PRESETS)
def test_every_preset_fits_what_its_stream_sees(name: str) -> None:
    preset = prompts.PRESETS[name]
    prompts.check(preset["prompt"], preset["sees"])
    said = prompts.render(preset["prompt"], preset["sees"], request(seed=3))
    assert "{" not in said
    assert ("%" in said) == ("composition" in preset["sees"] and name != "grounded")


def test_the_grounded_preset_tells_the_model_no_number() -> None:
    preset = prompts.PRESETS["grounded"]
    assert not re.search(r"\d", prompts.render(preset["prompt"], preset["sees"], request()))


def test_a_prompt_is_a_template_with_conditions() -> None:
    prompt = "{% if 'water' in composition %}wet{% else %}dry{% endif %}"
    wet = Request("a", 0, pixels=np.array([0, 0, 5, 0, 0, 0, 5]))
    dry = Request("b", 0, pixels=np.array([0, 0, 9, 0, 0, 0, 0]))
    assert [prompts.render(prompt, ["composition"], request) for request in (wet, dry)] == [
        "wet",
        "dry",
    ]


@pytest.mark.parametrize(
    ("prompt", "sees", "word"),
    [
        ("Look: {{ percentages }}", ["image"], "uses {{ percentages }}"),
        ("Look: {{ shares }}", ["composition"], "uses {{ shares }}"),
        ("Describe it.", ["image", "composition"], "sees composition, but"),
        ("{{ composition }}", ["composition", "layout"], "uses no {{ layout }}"),
        ("Look {{ percentages", ["composition"], "is not Jinja"),
        ("  \n", ["image"], "is empty"),
    ],
)
def test_a_prompt_that_does_not_fit_is_refused(prompt: str, sees: list[str], word: str) -> None:
    with pytest.raises(ArasError, match=re.escape(word)):
        prompts.check(prompt, sees)


@pytest.mark.parametrize(("what", "field"), [("composition", "pixels"), ("layout", "mask")])
def test_a_row_without_what_the_stream_sees_is_named(what: str, field: str) -> None:
    row = dataclasses.replace(request("real/bare"), **{field: None})
    with pytest.raises(ArasError, match=r"real/bare: has no"):
        prompts.render(f"{{{{ {what} }}}}", [what], row)


def test_a_prompt_cannot_reach_into_python() -> None:
    with pytest.raises(Exception, match="unsafe"):
        prompts.render("{{ composition.__class__.__mro__ }}", ["composition"], request())
