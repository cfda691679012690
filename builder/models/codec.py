"""What the diffusion runs on: the pixels of a tile, or the latents of an autoencoder."""

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from builder.core.errors import ArasError
from builder.models import training, weights

Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class PixelCodec:
    """Pixels themselves, scaled to −1…1."""

    channels: int = 3
    cell: int = 1
    """Pixels per side of a cell of the tensors."""
    networks: tuple[nn.Module, ...] = ()

    def encode(self, images: Pixels) -> Tensor:
        """(n, H, W, 3) uint8 → (n, 3, H, W) float32."""
        ready = torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2)))
        return ready.to(training.device()).float() / 127.5 - 1

    def decode(self, tensors: Tensor) -> Pixels:
        """The way back; what is beyond −1…1 is cut. Raises ArasError for what is no number."""
        if not torch.isfinite(tensors).all():
            raise ArasError(
                "the generator draws values that are not finite numbers: its weights are damaged, "
                'or precision is too low for them; set precision = "float32" in [generator], or '
                "remove models/generator and train again"
            )
        pixels = ((tensors.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
        return np.asarray(pixels.permute(0, 2, 3, 1).cpu().numpy())


@dataclass(frozen=True)
class LatentCodec:
    """Latents of a diffusers AutoencoderKL, shifted and scaled to about unit variance.

    It runs in ``precision``; see `training.autocast`.
    """

    autoencoder: Any
    precision: str = "auto"

    @property
    def networks(self) -> tuple[nn.Module, ...]:
        """What may be compiled: nearly all of its work is in these two."""
        return self.autoencoder.encoder, self.autoencoder.decoder

    @property
    def channels(self) -> int:
        return int(self.autoencoder.config.latent_channels)

    @property
    def cell(self) -> int:
        return int(2 ** (len(self.autoencoder.config.block_out_channels) - 1))

    @property
    def _shift(self) -> float:
        return float(self.autoencoder.config.shift_factor or 0)

    @torch.no_grad()
    def encode(self, images: Pixels) -> Tensor:
        """(n, H, W, 3) uint8 → (n, channels, H/cell, W/cell) float32: means of the posterior."""
        with training.autocast(self.precision):
            pixels = PixelCodec().encode(images)
            latents: Tensor = self.autoencoder.encode(pixels).latent_dist.mode()
        return (latents.float() - self._shift) * float(self.autoencoder.config.scaling_factor)

    @torch.no_grad()
    def decode(self, tensors: Tensor) -> Pixels:
        """The way back, through the decoder."""
        latents = tensors / float(self.autoencoder.config.scaling_factor) + self._shift
        with training.autocast(self.precision):
            return PixelCodec().decode(self.autoencoder.decode(latents).sample.float())


Codec = PixelCodec | LatentCodec


def load_autoencoder(source: str | Path) -> Any:
    """An AutoencoderKL over RGB from a folder or by name on the Hub, frozen; of a whole pipeline
    its part ``vae``. Raises ArasError for anything else."""
    from diffusers import AutoencoderKL

    with warnings.catch_warnings():  # of how diffusers asks the Hub, not of what we ask
        warnings.filterwarnings("ignore", message=".*local_dir_use_symlinks")
        try:
            [autoencoder] = weights.load(source, AutoencoderKL)
        except ArasError:
            [autoencoder] = weights.load(source, AutoencoderKL, subfolder="vae")
    channels = autoencoder.config.in_channels, autoencoder.config.out_channels
    if channels != (3, 3):
        raise ArasError(f"{source}: expected an autoencoder of RGB, not of {channels[0]} channels")
    return autoencoder.to(training.device()).eval().requires_grad_(False)
