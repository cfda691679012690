import numpy as np
import pytest
import torch

from builder.captions.ask import Ask
from builder.captions.local_model import (
    Decoding,
    FewLeft,
    RowSampler,
    answer_tokens,
    candidates,
    decoding_of,
)
from builder.models.weights import out_of_memory


def draw(decoding: Decoding, scores: torch.Tensor, seeds: list[int], step: int = 0) -> list[int]:
    sampler = RowSampler(decoding, seeds, steps=8, prompt=5)
    out = sampler(torch.zeros((len(seeds), 5 + step), dtype=torch.long), scores)
    assert torch.isfinite(out).sum(1).tolist() == [1] * len(seeds)
    return out.argmax(1).tolist()


def test_tokens_are_drawn_as_often_as_their_probability_says() -> None:
    shares = torch.tensor([0.5, 0.3, 0.15, 0.05])
    seeds = list(range(4000))
    drawn = draw(Decoding(1.0), shares.log().repeat(len(seeds), 1), seeds)
    seen = np.bincount(drawn, minlength=4) / len(seeds)
    # Four standard deviations of a share from 4,000 draws are at most 0.032.
    np.testing.assert_allclose(seen, shares, atol=0.032)


def test_a_row_draws_the_same_whoever_its_neighbours_are() -> None:
    scores = torch.randn((6, 50), generator=torch.Generator().manual_seed(1))
    together = draw(Decoding(1.5), scores, [11, 12, 13, 14, 15, 16], step=3)
    alone = [draw(Decoding(1.5), scores[i : i + 1], [11 + i], step=3)[0] for i in range(6)]
    assert together == alone
    assert together != draw(Decoding(1.5), scores, [21, 22, 23, 24, 25, 26], step=3)


def test_steps_have_numbers_of_their_own() -> None:
    scores = torch.zeros((1, 1000))
    assert len({draw(Decoding(1.0), scores, [5], step)[0] for step in range(8)}) > 4


def test_top_p_keeps_the_smallest_set_that_reaches_it() -> None:
    scores = torch.tensor([[0.15, 0.5, 0.05, 0.3]]).log()
    order, mass = candidates(scores, Decoding(1.0, top_p=0.8))
    kept = {int(i): round(float(m), 2) for i, m in zip(order[0], mass[0], strict=True) if m > 0}
    assert kept == {1: 0.5, 3: 0.3}
    drawn = draw(Decoding(1.0, top_p=0.8), scores.repeat(500, 1), list(range(500)))
    assert set(drawn) == {1, 3}


def test_top_k_keeps_k_and_a_low_temperature_the_best() -> None:
    scores = torch.tensor([[0.15, 0.5, 0.05, 0.3]]).log().repeat(300, 1)
    assert set(draw(Decoding(1.0, top_k=3), scores, list(range(300)))) == {0, 1, 3}
    assert set(draw(Decoding(0.01), scores, list(range(300)))) == {1}


def test_decoding_by_the_models_own_config() -> None:
    from transformers import GenerationConfig

    own = GenerationConfig(do_sample=True, temperature=0.6, top_p=0.9, top_k=20)
    asked = Ask("m", "p", ("image",), decoding="model")
    assert decoding_of(asked, own) == Decoding(0.6, 0.9, 20)
    assert decoding_of(asked, GenerationConfig()) == Decoding()
    assert decoding_of(Ask("m", "p", ("image",)), own) == Decoding()


def test_a_batch_stops_when_few_rows_still_write() -> None:
    tokens = torch.tensor([[9, 9, 5, 2, 0], [9, 9, 5, 5, 5], [2, 9, 5, 5, 7], [9, 9, 7, 0, 0]])
    ends = frozenset({2, 7})
    assert FewLeft(ends, 2, allowed=1)(tokens, None).tolist() == [True] * 4
    assert FewLeft(ends, 2, allowed=0)(tokens, None).tolist() == [False] * 4
    assert FewLeft(ends, 2, allowed=1)(tokens[:, :4], None).tolist() == [False] * 4


def test_an_answer_ends_at_its_first_end_token_and_is_cut_without_one() -> None:
    assert answer_tokens([5, 6, 2, 7, 0], frozenset({2, 7})) == [5, 6]
    assert answer_tokens([5, 6, 8], frozenset({2, 7})) is None


@pytest.mark.parametrize(
    ("error", "is_memory"),
    [
        (torch.OutOfMemoryError("CUDA out of memory"), True),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried …"), True),
        (MemoryError(), True),
        (RuntimeError("shapes do not match"), False),
    ],
)
def test_running_out_of_memory_is_recognised(error: Exception, is_memory: bool) -> None:
    assert out_of_memory(error) is is_memory
