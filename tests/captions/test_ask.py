import dataclasses

import pytest

from builder.captions.ask import Ask, estimate
from builder.captions.base import Running
from builder.land import prompts
from tests.makers.caption_requests import requests

ASK = Ask("tiny", "Land cover: {{ percentages }}.", ("image", "composition"), max_new_tokens=50)


def test_prompts_and_images_of_all_requests_are_counted() -> None:
    sample = requests(4)
    texts = [prompts.render(ASK.prompt, ASK.sees, request) for request in sample]
    words_only = estimate(ASK, Running(image_tokens=0), 1000, sample)
    assert words_only.prompt_tokens == pytest.approx(
        1000 * (sum(map(len, texts)) / 4 / 4 + 12), rel=0.01
    )
    with_images = estimate(ASK, Running(image_tokens=258), 1000, sample)
    assert with_images.prompt_tokens - words_only.prompt_tokens == 258_000
    assert with_images.new_tokens_at_most == 50_000


def test_the_price_is_of_a_million_tokens() -> None:
    priced = estimate(ASK, Running(price=(2.0, 8.0)), 1000, requests(2))
    assert priced.cost_at_most == pytest.approx(priced.prompt_tokens * 2e-6 + 0.4)
    assert "cost at most" in str(priced)
    without = estimate(ASK, Running(), 1000, requests(2))
    assert without.cost_at_most is None
    assert "set price = " in str(without)


def test_an_estimate_names_the_attempts() -> None:
    ask = dataclasses.replace(ASK, attempts=3)
    assert "up to 3 times that" in str(estimate(ask, Running(), 10, requests(1)))


def test_nothing_to_ask_costs_nothing() -> None:
    nothing = estimate(ASK, Running(price=(2.0, 8.0)), 0, [])
    assert (nothing.requests, nothing.cost_at_most) == (0, 0)
