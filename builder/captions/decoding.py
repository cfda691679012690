"""How a model's next word is chosen, row by row, and where an answer ends."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from builder.captions.settings import Ask
from builder.errors import ArasError
from builder.seeds import generator


@dataclass(frozen=True)
class Decoding:
    """``temperature`` 0 is greedy; ``top_k`` 0 and ``top_p`` 1 keep every word."""

    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0


def decoding_of(ask: Ask, own: Any) -> Decoding:
    """The decoding that a stream asks for; ``own`` is the model's own generation config."""
    if ask.decoding == "sample":
        return Decoding(ask.temperature, ask.top_p, ask.top_k)
    if ask.decoding == "model" and getattr(own, "do_sample", False):
        given = (own.temperature, own.top_p, own.top_k)
        # transformers fills in these where a generation config that samples leaves them out
        temperature, top_p, top_k = (
            default if one is None else one
            for one, default in zip(given, (1.0, 1.0, 50), strict=True)
        )
        return Decoding(float(temperature), float(top_p), int(top_k))
    return Decoding()


class RowSampler:
    """A logits processor that draws each row's next token from that row's own random numbers.

    One uniform number per row and step picks from the filtered distribution, candidates in
    falling order of probability. The chosen token is the only one left with a finite score, so
    greedy search takes it; a row's text then depends on its seed and its logits alone, never on
    its neighbours in the batch.
    """

    def __init__(self, decoding: Decoding, seeds: Sequence[int], steps: int, prompt: int) -> None:
        self.decoding, self.prompt = decoding, prompt
        self.uniform = torch.from_numpy(
            np.stack([generator(seed, "tokens").random(steps, dtype=np.float32) for seed in seeds])
        )

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """``scores`` (rows, vocabulary) → the same shape, −∞ but for the token drawn."""
        step = input_ids.shape[1] - self.prompt
        order, mass = candidates(scores, self.decoding)
        total = mass.cumsum(-1)
        draw = self.uniform[:, step : step + 1].to(scores.device) * total[:, -1:]
        pick = torch.searchsorted(total, draw, right=True)
        # Rounding may push the draw onto the end: take the last candidate with any mass.
        last = (mass > 0).sum(-1, keepdim=True) - 1
        token = order.gather(1, torch.minimum(pick, last))
        return torch.full_like(scores, -torch.inf).scatter_(1, token, 0.0)


class FewLeft:
    """A stopping criterion that ends a batch when at most ``allowed`` rows are still writing.

    Those rows are better written again in a batch of their own than waited for by all others.
    """

    def __init__(self, ends: frozenset[int], prompt: int, allowed: int) -> None:
        self.ends, self.prompt, self.allowed = torch.tensor(sorted(ends)), prompt, allowed

    def __call__(self, input_ids: Tensor, scores: Any, **_: Any) -> Tensor:
        """(rows,) bool: true for all rows once few are left, false for all before."""
        ended = torch.isin(input_ids[:, self.prompt :], self.ends.to(input_ids.device)).any(1)
        stop = bool((~ended).sum() <= self.allowed)
        return torch.full((len(input_ids),), stop, device=input_ids.device)


def candidates(scores: Tensor, decoding: Decoding) -> tuple[Tensor, Tensor]:
    """(ids, probabilities), both (rows, k), falling; filtered by temperature, top-k, top-p.

    Nucleus sampling as in Holtzman et al. 2020 (arXiv 1904.09751): the smallest set of tokens
    whose probability reaches top_p. Probabilities outside it are 0; they are not rescaled.
    """
    wide = torch.softmax(scores.float() / decoding.temperature, dim=-1)
    if decoding.top_k:
        mass, order = wide.topk(min(decoding.top_k, wide.shape[-1]), dim=-1)
        mass = mass / mass.sum(-1, keepdim=True)
    else:
        mass, order = wide.sort(dim=-1, descending=True, stable=True)
    if decoding.top_p < 1:
        before = mass.cumsum(-1) - mass
        mass = mass.masked_fill(before >= decoding.top_p, 0.0)
    return order, mass


def end_tokens(network: Any, tokenizer: Any) -> frozenset[int]:
    """Ids of the tokens that end an answer, by the generation config and the tokenizer.

    Raises ArasError for a model without any: nothing would tell a whole caption from a cut one.
    """
    given = network.generation_config.eos_token_id
    ids = {*(given if isinstance(given, list) else [given]), tokenizer.eos_token_id} - {None}
    if not ids:
        raise ArasError(
            "the model names no end token (eos_token_id), so a whole caption cannot be told from "
            "a cut one; set it in the model's generation_config.json"
        )
    return frozenset(ids)


def answer_tokens(new: Sequence[int], ends: frozenset[int]) -> list[int] | None:
    """The tokens before the first end token; None when there is none: the answer was cut."""
    for i, token in enumerate(new):
        if token in ends:
            return list(new[:i])
    return None


def out_of_memory(error: BaseException) -> bool:
    """True for what torch and Python raise when memory, on a GPU or the CPU, is used up."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    words = str(error)
    return isinstance(error, RuntimeError) and (
        "out of memory" in words or "not enough memory" in words or "can't allocate memory" in words
    )
