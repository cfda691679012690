"""The denoising network, which sees the land-cover layout at full resolution, and its codecs: what
it denoises are the pixels of a tile, or the latents of an autoencoder."""

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from diffusers import ConfigMixin, ModelMixin, UNet2DModel
from diffusers.configuration_utils import register_to_config
from torch import Tensor, nn

from builder.core.errors import ArasError
from builder.land.classes import CLASSES
from builder.models import training, weights

PLANES = 16
"""Planes of an encoded layout per side of a latent cell: 16, 32 and 64 at 2, 4 and 8 pixels."""


class LayoutUNet(ModelMixin, ConfigMixin):  # type: ignore[misc]
    """Noisy tiles (n, channels, h, w), noise levels (n,), layouts → predictions like the tiles.

    A layout is one-hot (n, 7, h·cell, w·cell), all zero where a tile has none (the null layout
    of classifier-free guidance). With ``cell`` = 1 it is a part of the input's channels; with
    more a small convolutional encoder, trained along, brings it from full resolution to the
    latent grid. ``classes`` empty makes a UNet that takes no layout.

    Convolutions only, but for one attention at the coarsest level, so that it runs at other
    sizes than it was trained at.
    """

    _supports_gradient_checkpointing = True

    @register_to_config  # type: ignore[untyped-decorator]
    def __init__(
        self,
        channels: int = 3,
        widths: tuple[int, ...] = (16, 32, 64, 64),
        layers: int = 1,
        cell: int = 1,
        classes: tuple[str, ...] = CLASSES,
        prediction_type: str = "v_prediction",
    ) -> None:
        super().__init__()
        planes = len(classes)
        self.layout: nn.Module = nn.Identity()
        if classes and cell > 1:
            planes = PLANES * cell // 2
            self.layout = _layout_encoder(len(classes), planes, cell)
        self.unet = UNet2DModel(
            in_channels=channels + planes,
            out_channels=channels,
            block_out_channels=tuple(widths),
            layers_per_block=layers,
            down_block_types=("DownBlock2D",) * len(widths),
            up_block_types=("UpBlock2D",) * len(widths),
            norm_num_groups=min(16, widths[0] // 2),
            attention_head_dim=min(32, widths[-1]),
        )

    @property
    def multiple(self) -> int:
        """What height and width of a tile in pixels must be multiples of."""
        return int(self.config.cell * 2 ** (len(self.config.widths) - 1))

    def forward(self, noisy: Tensor, times: Tensor, layout: Tensor | None) -> Tensor:
        if self.config.classes:
            noisy = torch.cat([noisy, self.layout(layout).to(noisy.dtype)], dim=1)
        predicted: Tensor = self.unet(noisy, times).sample
        return predicted


def _layout_encoder(classes: int, planes: int, cell: int) -> nn.Module:
    """(n, classes, H, W) → (n, planes, H/cell, W/cell): a convolution per halving."""
    steps: list[Any] = [nn.Conv2d(classes, PLANES, 3, padding=1)]
    width = PLANES
    while cell > 1:
        steps += [nn.SiLU(), nn.Conv2d(width, min(planes, 2 * width), 3, stride=2, padding=1)]
        width, cell = min(planes, 2 * width), cell // 2
    return nn.Sequential(*steps)


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
        """The way back; what is beyond −1…1 is cut."""
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
