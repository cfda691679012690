"""A classifier of whole tiles, of the kind that small retrievers see with: it judges doses."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from builder.core.seeds import generator as rng_of
from builder.core.seeds import seed as seed_of
from builder.models import training
from builder.models.towers import LAYERS, Convolutions, pixels_of

Pixels = npt.NDArray[np.uint8]
Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]

STEPS, BATCH, RATE = 300, 64, 3e-3


@dataclass(frozen=True)
class Classifier:
    """Convolutions and a linear layer over the mean of their cells."""

    tower: Convolutions
    head: nn.Linear

    @torch.inference_mode()
    def look(self, tiles: Pixels) -> tuple[Floats, Floats]:
        """(n, h, w, 3) → probabilities (n, classes), and features (n, channels)."""
        self.tower.eval()
        parts: list[list[Floats]] = [[], []]
        for i in range(0, len(tiles), 128):
            features = _mean(self.tower, tiles[i : i + 128])
            parts[0].append(self.head(features).softmax(1).cpu().numpy())
            parts[1].append(features.cpu().numpy())
        return np.concatenate(parts[0]), np.concatenate(parts[1])


def train(
    tiles: Pixels, labels: Ints, classes: int, steps: int = STEPS, seed: int = 0
) -> Classifier:
    """Train on tiles (n, h, w, 3) of ``labels`` (n,), turned and flipped, every class as often."""
    torch.manual_seed(seed_of(seed, "tile classifier"))
    device = training.device()
    tower = Convolutions(LAYERS[-1][1]).to(device)
    head = nn.Linear(LAYERS[-1][1], classes).to(device)
    weights = [*tower.layers.parameters(), *tower.norm.parameters(), *head.parameters()]
    optimizer = torch.optim.AdamW(weights, RATE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, steps)
    own = [np.flatnonzero(labels == label) for label in range(classes)]
    own = [part for part in own if len(part)]
    for step in range(steps):
        rng = rng_of(seed, "tile classifier", step)
        picked = rng.integers(len(own), size=BATCH)
        drawn = np.array([rng.choice(own[k]) for k in picked])
        batch = np.rot90(tiles[np.sort(drawn)], int(rng.integers(4)), (1, 2))
        batch = batch[:, ::-1] if rng.integers(2) else batch
        scores = head(_mean(tower, batch))
        wanted = torch.from_numpy(labels[np.sort(drawn)]).to(scores.device)
        loss = nn.functional.cross_entropy(scores, wanted)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
    return Classifier(tower, head)


def _mean(tower: Convolutions, tiles: Pixels) -> Tensor:
    features: Tensor = tower.norm(tower.features(pixels_of(tiles)).mean(1))
    return features
