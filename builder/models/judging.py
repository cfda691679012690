"""How good a generator is on its way: loss and Fréchet distance on validation tiles, and a look."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from builder.core.files import atomic
from builder.core.seeds import generator as rng_of
from builder.core.seeds import seed
from builder.land.classes import PALETTE
from builder.land.pictures import encode_png
from builder.models import segmenter, training
from builder.models.drawing import Generator, Sampling, sample
from builder.models.objective import Batch, Objective
from builder.models.processes import LEVELS
from builder.models.sets import frechet_estimate, groups_of
from builder.models.team import Team

ROUNDS = 4
"""Noise levels at which the loss of each validation crop is measured."""
COLUMNS = 8
"""Most tiles of a grid of samples."""

Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True, kw_only=True)
class Judge:
    """Measures a generator on fixed validation crops (n, H, W, 3) with masks (n, H, W).

    Noise levels, noise and seeds are the same in every evaluation. ``loss`` is the training
    loss. ``frechet`` is the Fréchet distance in the segmenter's features between the real crops
    and as many drawn on their layouts: it falls with their number n, so it compares evaluations
    of the same training only; ``frechet_error`` is its standard error over crops. Without a
    segmenter there is only the loss, and nothing is drawn.
    """

    generator: Generator
    objective: Objective
    images: Pixels
    masks: Pixels
    how: Sampling
    batch: int
    seed: int
    folder: Path
    segmenter: nn.Module | None
    team: Team

    def __call__(self, step: int) -> dict[str, float]:
        """Measures after ``step`` steps; writes samples/step-….png."""
        self.generator.unet.eval()
        chunks = -(-len(self.images) // self.batch)
        loss = float(np.mean(np.concatenate(self.team.map(self._losses, chunks))))
        if self.segmenter is None:
            return {"loss": loss}
        real = segmenter.look(self.segmenter, self.images)[1]
        drawn = np.concatenate(self.team.map(self._draw, chunks))
        if self.team.leads:
            path = self.folder / "samples" / training.sample_name(step)
            with atomic(path) as temporary:
                temporary.write_bytes(encode_png(self._grid(drawn)))
        features = segmenter.look(self.segmenter, drawn)[1]
        estimate = frechet_estimate(real, features, groups_of(len(drawn)))
        return {"loss": loss, "frechet": estimate.value, "frechet_error": estimate.error}

    def _span(self, chunk: int) -> slice:
        return slice(chunk * self.batch, (chunk + 1) * self.batch)

    @torch.inference_mode()
    def _losses(self, chunk: int) -> npt.NDArray[np.float32]:
        """Losses of a chunk at each crop's own `ROUNDS` noise levels, spread evenly over all."""
        span = self._span(chunk)
        images, masks = self.images[span], self.masks[span]
        codec, device = self.generator.codec, training.device()
        shape = (codec.channels, *(side // codec.cell for side in masks.shape[1:]))
        losses = []
        for turn, levels in enumerate(self._levels()[:, span]):
            rngs = [rng_of(self.seed, "noise", turn, span.start + i) for i in range(len(images))]
            noise = np.stack([rng.standard_normal(shape, dtype=np.float32) for rng in rngs])
            begins = torch.from_numpy(noise).to(device)
            if (textures := self.generator.textures) is not None:
                seeds = [seed(self.seed, "start", turn, span.start + i) for i in range(len(masks))]
                begins = codec.encode(textures.draw(masks, seeds), masks)
            batch = Batch(
                images,
                masks,
                begins,
                torch.from_numpy(levels).to(device),
                torch.zeros(len(images), dtype=torch.bool, device=device),
            )
            losses.append(self.objective.each(self.generator.unet, batch).cpu().numpy())
        return np.concatenate(losses)

    def _levels(self) -> npt.NDArray[np.int64]:
        """(ROUNDS, n) noise levels, the same in every evaluation."""
        count = ROUNDS * len(self.images)
        levels = ((np.arange(count) + 0.5) * LEVELS / count).astype(np.int64)
        return rng_of(self.seed, "noise levels").permutation(levels).reshape(ROUNDS, -1)

    def _draw(self, chunk: int) -> Pixels:
        span = self._span(chunk)
        masks = self.masks[span]
        seeds = [seed(self.seed, "sample", span.start + i) for i in range(len(masks))]
        return sample(self.generator, masks, seeds, self.how)

    def _grid(self, drawn: Pixels) -> Pixels:
        """Layouts, real tiles and drawn tiles below each other."""
        n = min(COLUMNS, len(drawn))
        rows = [self.images[:n], drawn[:n]]
        if self.generator.takes_layout:
            rows = [PALETTE[self.masks[:n]], *rows]
        return np.ascontiguousarray(np.concatenate([np.concatenate(row, axis=1) for row in rows]))
