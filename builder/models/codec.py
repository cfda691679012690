"""What the diffusion runs on: the pixels of a tile, or the latents of an autoencoder."""

import warnings
from collections.abc import Iterable
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
class Standard:
    """Mean and standard deviation of the pixels of each class, (classes, 3) levels of 0…255. Where
    there is one row, it is that of all pixels."""

    means: tuple[tuple[float, ...], ...]
    deviations: tuple[tuple[float, ...], ...]

    LEAST = 2.0
    """Levels: no deviation is less, so that a class of a few equal pixels can be divided by it."""

    @classmethod
    def of(cls, tiles: Iterable[Pixels], classes: int) -> "Standard":
        """Of tiles (H, W, 4), RGB and class id; a class that none has gets those of all pixels."""
        sums = np.zeros((3, classes, 3))  # of one, of the level and of its square
        for tile in tiles:
            ids, levels = tile[..., 3].ravel() % classes, tile[..., :3].reshape(-1, 3)
            for power in range(3):
                for channel in range(3):
                    weights = levels[:, channel].astype(np.float64) ** power
                    sums[power, :, channel] += np.bincount(ids, weights, classes)
        whole = sums.sum(axis=1, keepdims=True)
        counts, first, second = np.where(sums[:1] > 0, sums, whole)
        means = first / counts
        spreads = np.sqrt(np.maximum(second / counts - means**2, cls.LEAST**2))
        return cls(*(tuple(map(tuple, part.tolist())) for part in (means, spreads)))

    def planes(self, masks: Pixels, device: torch.device) -> tuple[Tensor, Tensor]:
        """Means and deviations of the class of every pixel of masks (n, H, W): (n, 3, H, W)."""
        ids = torch.from_numpy(masks.astype(np.int64) % len(self.means)).to(device)
        means, spreads = (
            torch.tensor(part, device=device)[ids].permute(0, 3, 1, 2)
            for part in (self.means, self.deviations)
        )
        return means, spreads


@dataclass(frozen=True)
class PixelCodec:
    """Pixels themselves, scaled to −1…1, or to no mean and unit deviation by ``standard``."""

    standard: Standard | None = None
    channels: int = 3
    cell: int = 1
    """Pixels per side of a cell of the tensors."""
    networks: tuple[nn.Module, ...] = ()

    def encode(self, images: Pixels, masks: Pixels | None = None) -> Tensor:
        """(n, H, W, 3) uint8, on masks (n, H, W) → (n, 3, H, W) float32."""
        ready = torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2)))
        levels = ready.to(training.device()).float()
        if self.standard is None:
            return levels / 127.5 - 1
        assert masks is not None
        means, deviations = self.standard.planes(masks, levels.device)
        return (levels - means) / deviations

    def decode(self, tensors: Tensor, masks: Pixels | None = None) -> Pixels:
        """The way back; what is beyond 0…255 is cut. Raises ArasError for what is no number."""
        return np.asarray(self.pixels(tensors, masks).cpu().numpy())

    def pixels(self, tensors: Tensor, masks: Pixels | None = None) -> Tensor:
        """`decode`, on the device: (n, H, W, 3) uint8."""
        if not torch.isfinite(tensors).all():
            raise ArasError(
                "the generator draws values that are not finite numbers: its weights are damaged, "
                'or precision is too low for them; set precision = "float32" in [generator], or '
                "remove models/generator and train again"
            )
        if self.standard is None:
            levels = (tensors.clamp(-1, 1) + 1) * 127.5
        else:
            assert masks is not None
            means, deviations = self.standard.planes(masks, tensors.device)
            levels = tensors * deviations + means
        return levels.clamp(0, 255).round().to(torch.uint8).permute(0, 2, 3, 1)


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
    def encode(self, images: Pixels, masks: Pixels | None = None) -> Tensor:
        """(n, H, W, 3) uint8 → (n, channels, H/cell, W/cell) float32: means of the posterior."""
        with training.autocast(self.precision):
            pixels = PixelCodec().encode(images)
            latents: Tensor = self.autoencoder.encode(pixels).latent_dist.mode()
        return (latents.float() - self._shift) * float(self.autoencoder.config.scaling_factor)

    def decode(self, tensors: Tensor, masks: Pixels | None = None) -> Pixels:
        """The way back, through the decoder."""
        return np.asarray(self.pixels(tensors).cpu().numpy())

    @torch.no_grad()
    def pixels(self, tensors: Tensor, masks: Pixels | None = None) -> Tensor:
        """`decode`, on the device: (n, H, W, 3) uint8."""
        latents = tensors / float(self.autoencoder.config.scaling_factor) + self._shift
        with training.autocast(self.precision):
            return PixelCodec().pixels(self.autoencoder.decode(latents).sample.float())


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
