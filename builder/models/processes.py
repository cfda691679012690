"""Ways from tiles to what drawing begins with, and back: DDPM, EDM, and flow matching."""

import functools
import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any, Protocol

import torch
from torch import Tensor

LEVELS = 1000
"""Noise levels that a training draws from, numbered from the least noise."""

Predict = Callable[[Tensor, Tensor], Tensor]
"""The network on its layouts: inputs (n, c, h, w) and their level () → output, float32."""


@dataclass(frozen=True)
class Corrupted:
    """What the network is shown, at which level (n,), what it should answer, and how much the
    squared error of each tile weighs (n,)."""

    inputs: Tensor
    levels: Tensor
    target: Tensor
    weight: Tensor


class Process(Protocol):
    """A way from tiles to noise and back."""

    def corrupt(self, clean: Tensor, noise: Tensor, times: Tensor) -> Corrupted:
        """``clean`` tiles (n, c, h, w) on their way to ``noise``, or to what else drawing begins
        with, at levels ``times`` (n,), in 0…999."""

    def draw(
        self, predict: Predict, noise: Tensor, start: Tensor | None, sampler: str, steps: int
    ) -> Tensor:
        """Clean tiles from ``noise`` (n, c, h, w) of unit variance, and from what is there to
        ``start`` with, in so many ``steps``."""


def scheduler(sampler: str, prediction_type: str, *, clip: bool = True) -> Any:
    """A diffusers scheduler on our noise schedule, the cosine of Nichol & Dhariwal (2021).

    ``clip`` keeps ddim's estimates of the clean tile within −1…1: right for pixels only.
    """
    from diffusers import DDIMScheduler, DDPMScheduler, DPMSolverMultistepScheduler

    common = {
        "num_train_timesteps": LEVELS,
        "beta_schedule": "squaredcos_cap_v2",
        "prediction_type": prediction_type,
    }
    if sampler == "ddim":
        return DDIMScheduler(**common, clip_sample=clip)
    if sampler == "dpm-solver":
        return DPMSolverMultistepScheduler(**common)
    return DDPMScheduler(**common)


@functools.lru_cache
def _training_schedule(prediction_type: str) -> Any:
    return scheduler("ddpm", prediction_type)


def min_snr(alphas: Tensor, prediction_type: str, gamma: float) -> Tensor:
    """Loss weight of each noise level: min-SNR-γ (Hang et al. 2023); 1 everywhere for γ = 0.

    ``alphas`` (T,) is the schedule's cumulative ᾱ, SNR = ᾱ/(1 − ᾱ). The weight of a predicted x0
    is min(SNR, γ); that is min(SNR, γ)/SNR of a predicted noise and min(SNR, γ)/(SNR + 1) of a
    predicted velocity.
    """
    if not gamma:
        return torch.ones_like(alphas)
    snr = alphas / (1 - alphas)
    return snr.clamp(max=gamma) / (snr + (1 if prediction_type == "v_prediction" else 0))


@dataclass(frozen=True)
class Ddpm:
    """Noise in place of the tile (Ho et al. 2020); ``prediction_type`` is diffusers' word for what
    the network predicts, ``gamma`` that of `min_snr`, ``clip`` for tensors of pixels."""

    prediction_type: str = "v_prediction"
    gamma: float = 0.0
    clip: bool = True

    def corrupt(self, clean: Tensor, noise: Tensor, times: Tensor) -> Corrupted:
        schedule = _training_schedule(self.prediction_type)
        noisy = schedule.add_noise(clean, noise, times)
        target = noise
        if self.prediction_type == "v_prediction":
            target = schedule.get_velocity(clean, noise, times)
        weight = min_snr(schedule.alphas_cumprod, self.prediction_type, self.gamma)
        return Corrupted(noisy, times, target, weight.to(noise.device)[times])

    def draw(
        self, predict: Predict, noise: Tensor, start: Tensor | None, sampler: str, steps: int
    ) -> Tensor:
        plan = scheduler(sampler, self.prediction_type, clip=self.clip)
        plan.set_timesteps(steps, device=noise.device)
        tiles = noise
        for time in plan.timesteps:
            out = predict(plan.scale_model_input(tiles, time), time)
            tiles = plan.step(out, time, tiles).prev_sample
        return tiles


@dataclass(frozen=True)
class Edm:
    """Noise beside the tile, up to ``highest`` times its spread (Karras et al. 2022, σ_data = 1).

    Tiles must be standardised. The network sees and predicts tensors of unit variance at every
    level, so that errors weigh alike (their Eq. 7 and 8).
    """

    highest: float

    MEAN = -0.5
    SPREAD = 1.6
    """Of ln σ in training, normal but for what is beyond ``highest``: their −1.2 and 1.2 for a
    spread of ½, wider."""
    LOWEST = 0.02
    """σ of the last step of drawing before 0: a third of a level of pixels whose spread is 18."""
    BEND = 7.0
    """Their ρ: how much finer steps are where there is little noise."""

    @functools.cached_property
    def sigmas(self) -> Tensor:
        """σ of the levels of a training, (LEVELS,), by quantiles of their distribution."""
        normal = NormalDist(self.MEAN, self.SPREAD)
        reached = normal.cdf(math.log(self.highest))
        shares = ((i + 0.5) / LEVELS * reached for i in range(LEVELS))
        return torch.tensor([math.exp(normal.inv_cdf(share)) for share in shares])

    def corrupt(self, clean: Tensor, noise: Tensor, times: Tensor) -> Corrupted:
        sigma = self.sigmas.to(noise.device)[times]
        level = sigma[:, None, None, None]
        spread = (level.square() + 1).sqrt()
        noisy = clean + level * noise
        target = (clean - noisy / spread.square()) * spread / level
        return Corrupted(noisy / spread, _level(sigma), target, torch.ones_like(sigma))

    def draw(
        self, predict: Predict, noise: Tensor, start: Tensor | None, sampler: str, steps: int
    ) -> Tensor:
        """By DPM-Solver++(2M) (Lu et al. 2022), or its first order alone, which is DDIM."""
        sigmas = [*self.plan(steps), 0.0]
        tiles = noise * sigmas[0] if start is None else start + noise * sigmas[0]
        before: tuple[Tensor, float] | None = None
        for sigma, following in itertools.pairwise(sigmas):
            spread = math.sqrt(sigma**2 + 1)
            level = _level(torch.tensor(sigma)).to(noise.device)
            clean = tiles / spread**2 + predict(tiles / spread, level) * (sigma / spread)
            aim = clean
            if before is not None and following and sampler == "dpm-solver":
                ratio = math.log(sigma / following) / math.log(before[1] / sigma) / 2
                aim = (1 + ratio) * clean - ratio * before[0]
            tiles = aim + (tiles - aim) * (following / sigma)
            before = clean, sigma
        return tiles

    def plan(self, steps: int) -> list[float]:
        """σ at the start of each step, falling."""
        ends = self.highest ** (1 / self.BEND), self.LOWEST ** (1 / self.BEND)
        shares = [i / max(1, steps - 1) for i in range(steps)]
        return [(ends[0] + share * (ends[1] - ends[0])) ** self.BEND for share in shares]


@dataclass(frozen=True)
class Flow:
    """Straight lines between tiles and what drawing begins with, noise or textures: flow matching
    (Lipman et al. 2023; Liu et al. 2023). The network predicts the direction."""

    def corrupt(self, clean: Tensor, noise: Tensor, times: Tensor) -> Corrupted:
        share = (times.float() + 0.5) / LEVELS
        mixed = torch.lerp(clean, noise, share[:, None, None, None])
        return Corrupted(mixed, share * LEVELS, noise - clean, torch.ones_like(share))

    def draw(
        self, predict: Predict, noise: Tensor, start: Tensor | None, sampler: str, steps: int
    ) -> Tensor:
        """By Euler's steps, whatever the ``sampler``."""
        tiles = noise if start is None else start
        for step in range(steps):
            level = torch.tensor(LEVELS * (1 - step / steps), device=noise.device)
            tiles = tiles - predict(tiles, level) / steps
        return tiles


def _level(sigma: Tensor) -> Tensor:
    """What the network is told of σ: a quarter of its logarithm in thousandths, as levels are."""
    return sigma.log() * (LEVELS / 4)
