"""Image towers of small retrievers that see texture: convolutions, and frozen random features."""

from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from builder.core.seeds import generator as rng_of
from builder.core.seeds import seed
from builder.models import clip, training
from builder.models.clip import Dual
from builder.models.settings import RetrieverSettings

Tower = Literal["convolutions", "random"]
Pixels = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]

LAYERS = ((3, 16, 4, 4), (16, 32, 3, 2), (32, 64, 3, 2))
"""Channels in and out, side and stride of each convolution."""
MEAN, DEVIATION = 0.4, 0.2
"""Of pixels from 0 to 1, as `clip.processor_of` has them."""
GRID = 2
"""Cells per side whose features are read one by one, so that a place can be told."""
FILTERS, FILTER, STRIDE = 128, 6, 2
"""Random filters, their side, and pixels between two places where they are applied."""


class Convolutions(nn.Module):
    """(n, 3, H, W) → (n, width): patches of 4 pixels, two convolutions of stride 2, means of GRID²
    cells. It is what a CLIP calls its vision model."""

    def __init__(self, width: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for width_in, width_out, side, stride in LAYERS:
            padding = 1 if side == 3 else 0
            layers += [
                nn.Conv2d(width_in, width_out, side, stride, padding),
                nn.BatchNorm2d(width_out),
                nn.GELU(),
            ]
        self.layers = nn.Sequential(*layers)
        last = LAYERS[-1][1]
        self.norm = nn.LayerNorm(last)
        self.out = nn.Linear(GRID**2 * last, width)

    def features(self, pixels: Tensor) -> Tensor:
        """(n, 3, H, W) → (n, GRID², channels)."""
        cells: Tensor = nn.functional.adaptive_avg_pool2d(self.layers(pixels), GRID)
        return cells.flatten(2).transpose(1, 2)

    def forward(self, pixel_values: Tensor, **_: Any) -> SimpleNamespace:
        cells = self.norm(self.features(pixel_values))
        return SimpleNamespace(pooler_output=self.out(cells.flatten(1)))


class Readout(nn.Module):
    """Features of cells (n, cells, d), computed before, → (n, width)."""

    def __init__(self, cells: int, depth: int, width: int) -> None:
        super().__init__()
        self.each = nn.Sequential(nn.Linear(depth, width), nn.GELU(), nn.LayerNorm(width))
        self.out = nn.Linear(cells * width, width)

    def forward(self, pixel_values: Tensor, **_: Any) -> SimpleNamespace:
        return SimpleNamespace(pooler_output=self.out(self.each(pixel_values).flatten(1)))


def pixels_of(images: Pixels) -> Tensor:
    """(n, h, w, 3) uint8 → (n, 3, h, w) float32 around 0, with the channels last in memory."""
    tiles = torch.from_numpy(np.ascontiguousarray(images)).to(training.device())
    ready = tiles.permute(0, 3, 1, 2).float()
    return ready.sub_(255 * MEAN).div_(255 * DEVIATION)


@dataclass(frozen=True)
class PixelDual(Dual):
    """A dual encoder that reads pixels with the channels last, as they come."""

    def pixels(self, images: Pixels) -> Tensor:
        return pixels_of(images)


@dataclass(frozen=True)
class FrozenDual(Dual):
    """A dual encoder whose images are features (n, cells, d) float32 that are not trained."""

    def pixels(self, images: Any) -> Tensor:
        ready = torch.from_numpy(np.ascontiguousarray(images, dtype=np.float32))
        return ready.to(training.device())


def start(
    tower: Tower, settings: RetrieverSettings, texts: list[str], shape: tuple[int, int]
) -> Dual:
    """A dual encoder before its first step, all weights from the seed: the text tower of a CLIP,
    and ``tower`` in the place of its vision model; ``shape`` is (cells, d) of random features."""
    dual = clip.start(settings, texts)
    torch.manual_seed(seed(settings.seed, clip.NAME, tower))
    if tower == "convolutions":
        dual.model.vision_model = Convolutions(settings.width)
    else:
        dual.model.vision_model = Readout(*shape, settings.width)
    dual.model.to(training.device())
    kind = PixelDual if tower == "convolutions" else FrozenDual
    return kind(dual.model, dual.tokenizer, dual.processor, dual.size, dual.tokens)


def random_features(train: Pixels, number: int = 0) -> Callable[[Pixels], Floats]:
    """Features of tiles by random patches as filters (Coates, Lee & Ng 2011): no label is read.

    ``train`` (n, h, w, 3) are the tiles that filters, whitening and scale come from. The function
    maps tiles (m, h, w, 3) to (m, 4 · FILTERS): mean and spread over the tile of how much patches
    agree, and how much they disagree, with each filter.
    """
    rng = rng_of(number, "random features")
    height, width = train.shape[1:3]
    tiles = rng.integers(len(train), size=4_000)
    ys, xs = rng.integers(height - FILTER, size=4_000), rng.integers(width - FILTER, size=4_000)
    patches = np.stack(
        [
            np.asarray(train[i, y : y + FILTER, x : x + FILTER], np.float32).ravel() / 255
            for i, y, x in zip(tiles, ys, xs, strict=True)
        ]
    )
    mean = patches.mean(0)
    values, vectors = np.linalg.eigh(np.cov(patches.T))
    whiten = (vectors / np.sqrt(values + 1e-3)) @ vectors.T
    white = (patches - mean) @ whiten
    filters = white[rng.choice(len(white), FILTERS, replace=False)]
    filters /= np.linalg.norm(filters, axis=1, keepdims=True)
    kernel = (filters @ whiten).reshape(FILTERS, FILTER, FILTER, 3).transpose(0, 3, 1, 2)
    weight = torch.from_numpy(np.ascontiguousarray(kernel, dtype=np.float32))
    bias = torch.from_numpy((-(filters @ whiten) @ mean).astype(np.float32))

    @torch.inference_mode()
    def raw(pixels: Pixels) -> Floats:
        parts = []
        for i in range(0, len(pixels), 64):
            batch = torch.tensor(np.asarray(pixels[i : i + 64])).permute(0, 3, 1, 2).float() / 255
            planes = nn.functional.conv2d(batch, weight, bias, STRIDE).flatten(2)
            both = torch.cat([planes.clamp(min=0), (-planes).clamp(min=0)], 1)
            parts.append(torch.cat([both.mean(2), both.std(2)], 1).numpy())
        return np.concatenate(parts)

    some = raw(train[np.sort(rng.choice(len(train), min(len(train), 500), replace=False))])
    centre, scale = some.mean(0), some.std(0) + 1e-6
    return lambda pixels: (raw(pixels) - centre) / scale
