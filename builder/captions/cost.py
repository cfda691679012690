"""What captioning by a server will take: requests, tokens, and their price by the recipe."""

from collections.abc import Sequence
from typing import Any

from builder.captions import prompts
from builder.captions.base import Request
from builder.captions.settings import Ask, Running

CHARACTERS_PER_TOKEN = 4.0
"""Of English prose, roughly, in the vocabularies of current models."""

OVERHEAD = 12
"""Tokens of a chat template around one question, roughly."""


def estimate(
    ask: Ask, running: Running, requests: int, sample: Sequence[Request]
) -> dict[str, Any]:
    """Tokens and cost of so many requests, by the prompts of a sample of them.

    Prompt tokens are an estimate (characters / 4, and the recipe's image_tokens); new tokens are
    at most max_new_tokens each. With several attempts both are those of one attempt for every
    row, and ``attempts`` says how many there may be. ``cost`` is None without a price.
    """
    texts = [prompts.render(ask.prompt, ask.sees, one) for one in sample]
    characters = sum(map(len, texts)) / max(1, len(texts)) + len(ask.system)
    each = characters / CHARACTERS_PER_TOKEN + OVERHEAD + running.image_tokens
    prompt_tokens, new_tokens = round(requests * each), requests * ask.max_new_tokens
    cost = None
    if running.price:
        cost = (prompt_tokens * running.price[0] + new_tokens * running.price[1]) / 1e6
    return {
        "requests": requests,
        "prompt_tokens": prompt_tokens,
        "new_tokens_at_most": new_tokens,
        "attempts": ask.attempts,
        "cost_at_most": cost,
    }


def describe(told: dict[str, Any]) -> str:
    """An estimate as the line that a person reads."""
    text = (
        f"about {told['requests']:,} requests, {told['prompt_tokens']:,} prompt tokens, at most "
        f"{told['new_tokens_at_most']:,} new tokens"
    )
    if told["attempts"] > 1:
        text += f" (up to {told['attempts']} times that, for rows written again)"
    if told["cost_at_most"] is None:
        return f"{text}; with price = {{ input = …, output = … }} in the recipe also the cost"
    return f"{text}; cost at most {told['cost_at_most']:.3g} by the recipe's price"
