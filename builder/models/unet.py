"""The denoising network: a diffusers UNet that sees the land-cover layout at full resolution."""

from typing import Any

import torch
from diffusers import ConfigMixin, ModelMixin, UNet2DModel
from diffusers.configuration_utils import register_to_config
from torch import Tensor, nn

from builder.land.classes import CLASSES

PLANES = 16
"""Planes of an encoded layout per side of a latent cell: 16, 32 and 64 at 2, 4 and 8 pixels."""

Rows = tuple[tuple[float, ...], ...]


class LayoutUNet(ModelMixin, ConfigMixin):  # type: ignore[misc]
    """Noisy tiles (n, channels, h, w), noise levels (n,), layouts → predictions like the tiles.

    A layout is one-hot (n, 7, h·cell, w·cell), all zero where a tile has none (the null layout
    of classifier-free guidance). With ``cell`` = 1 it is a part of the input's channels; with
    more a small convolutional encoder, trained along, brings it from full resolution to the
    latent grid. ``classes`` empty makes a UNet that takes no layout.

    ``prediction_type`` is edm or flow (`builder.models.processes`), or diffusers' word.
    ``means`` and ``deviations`` are those of the pixels that it was trained on (`codec.Standard`).

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
        means: Rows = (),
        deviations: Rows = (),
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
