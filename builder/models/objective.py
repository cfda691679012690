"""What a diffusion model is trained on: batches of noisy crops, and the error of its answer."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from builder.land.classes import CLASSES
from builder.models import training
from builder.models.processes import Process

Pixels = npt.NDArray[np.uint8]


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

    ``encode`` makes of crops (n, H, W, 3) uint8 and masks (n, H, W) the clean tensors that noise
    is added to by ``process``. With no ``classes`` the model is shown no layout.
    """

    encode: Callable[[Pixels, Pixels], Tensor]
    process: Process
    precision: str
    classes: int = len(CLASSES)

    def __call__(self, model: nn.Module, batch: Batch) -> Tensor:
        """Mean loss of a batch, a scalar."""
        return self.each(model, batch).mean()

    def each(self, model: nn.Module, batch: Batch) -> Tensor:
        """The loss of each crop: (n,) float32."""
        with torch.no_grad():
            clean = self.encode(batch.images, batch.masks)
        noisy = self.process.corrupt(clean, batch.noise, batch.times)
        layout = None
        if self.classes:
            layout = one_hot(batch.masks, batch.noise.device, self.classes)
            layout = layout * ~batch.dropped[:, None, None, None]
        with training.autocast(self.precision):
            out = model(noisy.inputs, noisy.levels, layout)
        error = (out.float() - noisy.target).square().mean(dim=(1, 2, 3))
        return error * noisy.weight  # type: ignore[no-any-return]
