"""What a diffusion model is trained on: noise levels, targets, weights and the losses' batches."""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from builder.land.classes import CLASSES
from builder.models import training

LEVELS = 1000
"""Noise levels of the training schedule."""

Pixels = npt.NDArray[np.uint8]


@functools.lru_cache
def _training_schedule(prediction_type: str) -> Any:
    return scheduler("ddpm", prediction_type)


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


def weights(alphas: Tensor, prediction_type: str, gamma: float) -> Tensor:
    """Loss weight of each noise level: min-SNR-γ (Hang et al. 2023); 1 everywhere for γ = 0.

    ``alphas`` (T,) is the schedule's cumulative ᾱ, SNR = ᾱ/(1 − ᾱ). The weight of a predicted x0
    is min(SNR, γ); that is min(SNR, γ)/SNR of a predicted noise and min(SNR, γ)/(SNR + 1) of a
    predicted velocity.
    """
    if not gamma:
        return torch.ones_like(alphas)
    snr = alphas / (1 - alphas)
    return snr.clamp(max=gamma) / (snr + (1 if prediction_type == "v_prediction" else 0))


def one_hot(masks: Pixels, device: torch.device, classes: int = len(CLASSES)) -> Tensor:
    """(n, H, W) ids → (n, classes, H, W) float32."""
    ids = torch.from_numpy(masks.astype(np.int64)).to(device)
    return nn.functional.one_hot(ids, classes).permute(0, 3, 1, 2).float()


@dataclass(frozen=True)
class Batch:
    """Crops (n, H, W, 3) and their masks, noise like the clean tensors, levels (n,), and which
    layouts (n,) bool are dropped."""

    images: Pixels
    masks: Pixels
    noise: Tensor
    times: Tensor
    dropped: Tensor

    def part(self, i: int, of: int) -> "Batch":
        """The i-th of ``of`` equal parts."""
        size = len(self.images) // of
        s = slice(i * size, (i + 1) * size)
        return Batch(self.images[s], self.masks[s], self.noise[s], self.times[s], self.dropped[s])


@dataclass(frozen=True)
class Objective:
    """Mean squared error of the prediction, weighted by noise level.

    ``encode`` makes of crops (n, H, W, 3) uint8 the clean tensors that noise is added to. With
    no ``classes`` the model is shown no layout.
    """

    encode: Callable[[Pixels], Tensor]
    prediction_type: str
    gamma: float
    precision: str
    classes: int = len(CLASSES)

    def __call__(self, model: nn.Module, batch: Batch) -> Tensor:
        """Mean loss of a batch, a scalar."""
        return self.each(model, batch).mean()

    def each(self, model: nn.Module, batch: Batch) -> Tensor:
        """The loss of each crop: (n,) float32."""
        schedule = _training_schedule(self.prediction_type)
        where = batch.noise.device
        with torch.no_grad():
            clean = self.encode(batch.images)
        noisy = schedule.add_noise(clean, batch.noise, batch.times)
        target = batch.noise
        if self.prediction_type == "v_prediction":
            target = schedule.get_velocity(clean, batch.noise, batch.times)
        layout = None
        if self.classes:
            layout = one_hot(batch.masks, where, self.classes)
            layout = layout * ~batch.dropped[:, None, None, None]
        with training.autocast(self.precision):
            out = model(noisy, batch.times, layout)
        weight = weights(schedule.alphas_cumprod, self.prediction_type, self.gamma).to(where)
        error = (out.float() - target).square().mean(dim=(1, 2, 3))
        return error * weight[batch.times]  # type: ignore[no-any-return]
