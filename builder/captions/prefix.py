"""What all chats of a batch begin with (system prompt, template): read by the model once."""

from typing import Any

import torch
from torch import Tensor

LEAST = 8
"""Shared tokens below which reading them once saves nothing."""


def shared(tokens: Tensor, mask: Tensor) -> int:
    """How many tokens all rows begin with, padding aside; each row keeps one of its own.

    ``tokens`` and ``mask`` (rows, width), padded on the left.
    """
    if len(tokens) < 2:
        return 0
    own = [row[seen.bool()] for row, seen in zip(tokens, mask, strict=True)]
    n = min(map(len, own)) - 1
    alike = torch.stack([row[:n] for row in own]).eq(own[0][:n]).all(0)
    return int(alike.cumprod(0).sum())


def read_once(network: Any, batch: dict[str, Tensor]) -> dict[str, Any]:
    """``batch`` with the keys and values of what its rows share: ``generate`` goes on from there.

    The padding then lies between the shared and the own tokens of a row, which changes no
    position and no width. Returned as it is: where little is shared, and for models whose layers
    see a window of tokens (padding would push the shared ones out) or more than text.
    """
    from transformers import DynamicCache
    from transformers.cache_utils import DynamicLayer

    tokens, mask = batch["input_ids"], batch["attention_mask"]
    if network.config.get_text_config() is not network.config:
        return batch
    n = shared(tokens, mask)
    cache = DynamicCache(config=network.config)
    if n < LEAST or any(type(layer) is not DynamicLayer for layer in cache.layers):
        return batch
    first = mask[0].argmax()
    prefix = tokens[0, first : first + n]
    network(input_ids=prefix[None], cache=cache, use_cache=True, logits_to_keep=1)
    cache.batch_repeat_interleave(len(tokens))
    padding = (1 - mask).sum(1, keepdim=True)
    place = torch.arange(tokens.shape[1], device=tokens.device).expand_as(tokens)
    gap = (place >= n) & (place < n + padding)
    moved = tokens.masked_fill(gap, int(prefix[0]))  # any token: nothing attends to a gap
    moved[:, :n] = prefix
    return {
        **batch,
        "input_ids": moved,
        "attention_mask": (~gap).to(mask.dtype),
        "cache": cache,
    }
