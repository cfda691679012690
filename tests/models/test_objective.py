"""The loss: its weights are those of the paper, its targets those of the scheduler."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from builder.models.codec import PixelCodec
from builder.models.objective import Batch, Objective, one_hot
from builder.models.processes import LEVELS, Ddpm, min_snr, scheduler

ALPHAS = scheduler("ddpm", "epsilon").alphas_cumprod
TIMES = torch.tensor([0, 400, 990])


@pytest.mark.parametrize("gamma", [1.0, 5.0])
def test_weights_are_those_of_min_snr(gamma: float) -> None:
    """As diffusers' own training script derives them from its own SNR."""
    from diffusers.training_utils import compute_snr

    snr = compute_snr(scheduler("ddpm", "epsilon"), torch.arange(LEVELS))
    least = torch.stack([snr, torch.full_like(snr, gamma)]).min(0).values
    torch.testing.assert_close(min_snr(ALPHAS, "epsilon", gamma), least / snr)
    torch.testing.assert_close(min_snr(ALPHAS, "v_prediction", gamma), least / (snr + 1))


def test_without_gamma_every_level_weighs_the_same() -> None:
    assert torch.equal(min_snr(ALPHAS, "v_prediction", 0), torch.ones(LEVELS))


class Oracle(nn.Module):
    """Answers with what it is given, and remembers the layouts that it was shown."""

    def __init__(self, answer: Tensor) -> None:
        super().__init__()
        self.answer = answer
        self.seen: list[Tensor] = []

    def forward(self, noisy: Tensor, times: Tensor, layout: Tensor) -> Tensor:
        self.seen.append(layout)
        return self.answer


def batch() -> Batch:
    rng = np.random.default_rng(0)
    return Batch(
        rng.integers(0, 256, (3, 8, 8, 3), dtype=np.uint8),
        rng.integers(0, 7, (3, 8, 8), dtype=np.uint8),
        torch.randn((3, 3, 8, 8), generator=torch.Generator().manual_seed(1)),
        TIMES,
        torch.tensor([False, True, False]),
    )


def target(kind: str) -> Tensor:
    """ε, or v = √ᾱ ε − √(1 − ᾱ) x₀ (Salimans & Ho 2022, eq. 11)."""
    if kind == "epsilon":
        return batch().noise
    alpha = ALPHAS[TIMES][:, None, None, None]
    return alpha.sqrt() * batch().noise - (1 - alpha).sqrt() * PixelCodec().encode(batch().images)


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction"])
def test_a_model_that_knows_has_no_loss_and_one_that_errs_pays_by_level(kind: str) -> None:
    objective = Objective(PixelCodec().encode, Ddpm(kind, 5.0), "float32")
    right = objective.each(Oracle(target(kind)), batch())
    torch.testing.assert_close(right, torch.zeros(3))
    wrong = objective.each(Oracle(target(kind) + 2), batch())
    torch.testing.assert_close(wrong, 4 * min_snr(ALPHAS, kind, 5.0)[TIMES])


def test_a_dropped_layout_is_the_null_layout() -> None:
    oracle = Oracle(target("epsilon"))
    Objective(PixelCodec().encode, Ddpm("epsilon"), "float32")(oracle, batch())
    expected = one_hot(batch().masks, torch.device("cpu"))
    assert torch.equal(oracle.seen[0][0], expected[0])
    assert not oracle.seen[0][1].any()
    assert torch.equal(expected.sum(1), torch.ones(3, 8, 8))


def test_parts_are_a_partition_of_the_batch() -> None:
    parts = [batch().part(i, 3) for i in range(3)]
    assert torch.equal(torch.cat([part.noise for part in parts]), batch().noise)
    np.testing.assert_array_equal(np.concatenate([part.masks for part in parts]), batch().masks)
