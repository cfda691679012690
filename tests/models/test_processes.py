"""EDM's preconditioning is the paper's, flows are straight, and both lead back to the tile."""

import math

import pytest
import torch
from torch import Tensor

from builder.models.processes import LEVELS, Edm, Flow

TIMES = torch.tensor([0, 500, LEVELS - 1])


def tiles(seed: int = 0) -> Tensor:
    return torch.randn((3, 3, 8, 8), generator=torch.Generator().manual_seed(seed))


def test_the_preconditioning_is_that_of_the_paper() -> None:
    """As diffusers has it for σ_data = 1: what is shown, and the tile that an answer stands for."""
    from diffusers import EDMEulerScheduler

    process, plan = Edm(40.0), EDMEulerScheduler(sigma_data=1.0)
    clean, noise = tiles(), tiles(1)
    corrupted = process.corrupt(clean, noise, TIMES)
    sigma = process.sigmas[TIMES][:, None, None, None]
    noisy = clean + sigma * noise
    torch.testing.assert_close(corrupted.inputs, plan.precondition_inputs(noisy, sigma))
    answered = plan.precondition_outputs(noisy, corrupted.target, sigma)
    torch.testing.assert_close(answered, clean, atol=2e-4, rtol=1e-4)
    torch.testing.assert_close(corrupted.levels, process.sigmas[TIMES].log() * 250)


def test_inputs_and_targets_have_unit_variance_at_every_level() -> None:
    clean = torch.randn((4, 3, 64, 64), generator=torch.Generator().manual_seed(2))
    noise = torch.randn((4, 3, 64, 64), generator=torch.Generator().manual_seed(3))
    for highest in (0.6, 40.0):
        for time in TIMES:
            shown = Edm(highest).corrupt(clean, noise, time.repeat(4))
            assert float(shown.inputs.std()) == pytest.approx(1, abs=0.02)
            assert float(shown.target.std()) == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize("highest", [0.6, 40.0])
def test_levels_of_a_training_rise_to_the_highest(highest: float) -> None:
    sigmas = Edm(highest).sigmas
    assert (sigmas.diff() > 0).all()
    assert 0.8 * highest < float(sigmas[-1]) <= highest or highest == 40.0
    assert float(sigmas[-1]) <= highest


@pytest.mark.parametrize("sampler", ["dpm-solver", "ddim"])
@pytest.mark.parametrize("start", [None, tiles(5)])
def test_a_network_that_knows_the_tile_draws_it(sampler: str, start: Tensor | None) -> None:
    """Its answer is what the preconditioning asks for, whatever the tile begins with."""
    clean, process = tiles(), Edm(2.0)

    def predict(shown: Tensor, level: Tensor) -> Tensor:
        sigma = math.exp(float(level) / 250)
        spread = math.sqrt(sigma**2 + 1)
        return (clean - shown / spread) * spread / sigma

    drawn = process.draw(predict, tiles(1), start, sampler, 5)
    torch.testing.assert_close(drawn, clean, atol=1e-4, rtol=1e-4)


def test_the_second_order_is_nearer_to_the_exact_path() -> None:
    """Of tiles of unit variance the best answer is known, and so is the path: σ from `highest` to
    0 multiplies what one starts from by 1/√(σ² + 1)."""
    noise = tiles(1)
    exact = noise * 10 / math.sqrt(101)

    def error(sampler: str, steps: int) -> float:
        best = Edm(10.0).draw(lambda shown, level: 0 * shown, noise, None, sampler, steps)
        return float((best - exact).abs().max())

    assert error("dpm-solver", 8) < 0.5 * error("ddim", 8)
    assert error("ddim", 64) < 0.25 * error("ddim", 8)


def test_a_flow_is_a_straight_line_from_what_it_begins_with_to_the_tile() -> None:
    clean, start = tiles(), tiles(1)
    shown = Flow().corrupt(clean, start, TIMES)
    share = ((TIMES + 0.5) / LEVELS)[:, None, None, None]
    torch.testing.assert_close(shown.inputs, clean + share * (start - clean))
    torch.testing.assert_close(shown.target, start - clean)
    torch.testing.assert_close(shown.levels, TIMES + 0.5)
    seen = []

    def predict(inputs: Tensor, level: Tensor) -> Tensor:
        seen.append(float(level))
        return start - clean

    for begun in ((start, None), (tiles(2), start)):  # noise alone, or a texture in its place
        torch.testing.assert_close(Flow().draw(predict, *begun, "dpm-solver", 4), clean)
    assert seen == [1000, 750, 500, 250] * 2


def test_steps_end_at_the_least_noise() -> None:
    plan = Edm(0.6).plan(4)
    assert len(plan) == 4
    assert plan[0] == pytest.approx(0.6)
    assert plan[-1] == pytest.approx(Edm.LOWEST)
    assert Edm(0.6).plan(1) == [pytest.approx(0.6)]
