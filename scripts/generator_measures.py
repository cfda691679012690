"""How near drawn tiles are to real ones, by two extractors that never saw a mask, and by pixels.

`HandMade` counts colour, spectrum and edges; `Network` is a small CNN that tells EuroSAT's folders
apart. Both turn tiles (n, H, W, 3) uint8 into features (n, d); `measure` compares two sets.
"""

import io
import itertools
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from scipy import ndimage, stats
from torch import nn

from builder.core.seeds import generator as rng_of
from builder.land.classes import CLASSES
from builder.models.neighbours import nearest
from builder.models.sets import Moments, frechet

FEWEST = 64
"""Pixels of a class that a tile must have to count for its colour."""
TILES = 10
"""Tiles, on either side, that a class must have to count for colour and spread."""
BANDS = 6
"""Rings of the spectrum, each twice as far out as the last."""
NEAR = 3
"""Neighbours that make the ball around a real tile (Kynkäänniemi et al. 2019)."""

Pixels = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float64]


def hand_made(images: Pixels) -> Floats:
    """24 features of each tile: moments and relations of its channels, spectrum, edges."""
    return np.stack([_of_tile(image.astype(np.float64)) for image in images])


def _of_tile(tile: Floats) -> Floats:
    pixels, grey = tile.reshape(-1, 3), tile.mean(axis=2)
    relations = np.corrcoef(pixels.T + np.random.default_rng(0).normal(0, 1e-3, pixels.T.shape))
    waves = np.abs(np.fft.fft2(grey - grey.mean())) ** 2 / grey.size
    y, x = (np.abs(np.fft.fftfreq(side))[:, None] for side in grey.shape)
    radius = np.hypot(y, x.T)
    edges = [0.0, *(0.5 / 2.0**k for k in range(BANDS - 1, 0, -1)), 1.0]
    rings = [
        np.log1p(waves[(radius > a) & (radius <= b)].mean()) for a, b in itertools.pairwise(edges)
    ]
    down, across = np.gradient(grey)
    steep = np.hypot(down, across)
    return np.array(
        [
            *pixels.mean(axis=0),
            *pixels.std(axis=0),
            *np.nan_to_num(stats.skew(pixels, axis=0)),
            *relations[np.triu_indices(3, 1)],
            *rings,
            steep.mean(),
            steep.std(),
            np.log1p(ndimage.laplace(grey).var()),
            np.abs(down).mean() - np.abs(across).mean(),
            np.quantile(steep, 0.95),
            np.log1p(ndimage.gaussian_filter(grey, 8).var()),
        ]
    )


class Network(nn.Module):
    """A CNN with 64 features, trained on the folders of a tar of EuroSAT's tiles."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for wide, narrow in ((3, 32), (32, 48), (48, 64), (64, 64)):
            layers += [nn.Conv2d(wide, narrow, 3, padding=1), nn.BatchNorm2d(narrow), nn.ReLU()]
            layers += [nn.MaxPool2d(2)]
        self.body = nn.Sequential(*layers[:-1])
        self.head = nn.Linear(64, classes)

    def features(self, images: torch.Tensor) -> torch.Tensor:
        features: torch.Tensor = self.body(images).mean(dim=(2, 3))
        return features

    @torch.no_grad()
    def look(self, images: Pixels) -> Floats:
        self.eval()
        parts = [self.features(ready(images[i : i + 8])) for i in range(0, len(images), 8)]
        return torch.cat(parts).double().numpy()


def ready(images: Pixels) -> torch.Tensor:
    """(n, H, W, 3) uint8 → (n, 3, H, W) float32."""
    return torch.from_numpy(images.transpose(0, 3, 1, 2).astype(np.float32) / 64 - 1.5)


def network(tar: Path, cache: Path, steps: int = 500) -> Network:
    """The CNN of the tiles in ``tar`` (FOLDER/NAME.jpg), trained unless it is under ``cache``."""
    images, labels = [], []
    with tarfile.open(tar) as archive:
        members = sorted((m for m in archive if m.isfile()), key=lambda member: member.name)
        folders = sorted({Path(m.name).parent.name for m in members})
        for member in members[:: max(1, len(members) // 5_000)]:
            file = archive.extractfile(member)
            assert file is not None
            images.append(np.asarray(Image.open(io.BytesIO(file.read())).convert("RGB")))
            labels.append(folders.index(Path(member.name).parent.name))
    torch.manual_seed(0)
    model = Network(len(folders))
    if cache.exists():
        model.load_state_dict(torch.load(cache, weights_only=True))
        return model
    pixels, ids, rng = np.stack(images), torch.tensor(labels), rng_of(0, "network")
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    plan = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, total_steps=steps)
    right = 0.0
    for step in range(steps):
        chosen = rng.integers(len(pixels), size=64)
        batch = np.rot90(pixels[chosen], int(rng.integers(4)), axes=(1, 2))
        answers = model.head(model.features(ready(np.ascontiguousarray(batch))))
        loss = nn.functional.cross_entropy(answers, ids[chosen])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        plan.step()
        if step >= steps - 20:
            right += float((answers.argmax(dim=1) == ids[chosen]).float().mean()) / 20
    print(f"the CNN tells {right:.1%} of its last batches' tiles apart", flush=True)
    cache.parent.mkdir(parents=True, exist_ok=True)
    torch.save(model.state_dict(), cache)
    return model


def sharpness(images: Pixels) -> float:
    """Mean variance of the Laplacian of grey images (n, H, W, 3)."""
    return float(np.mean([ndimage.laplace(i.mean(axis=2)).var() for i in images.astype(float)]))


def colours(images: Pixels, masks: Pixels) -> Floats:
    """Mean colour of each class in each tile, (n, classes, 3); NaN where it has few pixels."""
    means = np.full((len(images), len(CLASSES), 3), np.nan)
    for i, (image, mask) in enumerate(zip(images, masks, strict=True)):
        for class_id in np.flatnonzero(np.bincount(mask.ravel(), minlength=len(CLASSES)) >= FEWEST):
            means[i, class_id] = image[mask == class_id].mean(axis=0)
    return means


class Yardstick:
    """Measures drawn tiles against real ``images`` with ``masks``, and ``train`` tiles for copies.

    ``look`` is a network's features.
    """

    def __init__(
        self, images: Pixels, masks: Pixels, train: Pixels, look: Callable[[Pixels], Floats]
    ) -> None:
        self.look, self.images, self.colours = look, images, colours(images, masks)
        by_hand = hand_made(train)
        self.scale = by_hand.mean(axis=0), by_hand.std(axis=0) + 1e-6
        self.real = {name: side(images) for name, side in self.sides.items()}
        self.train = look(train).astype(np.float32)
        learnt = self.real["cnn"].astype(np.float32)
        self.usual = float(np.median(nearest(learnt, self.train)[1]))
        self.radii = _ball(learnt)

    @property
    def sides(self) -> dict[str, Callable[[Pixels], Floats]]:
        mean, spread = self.scale
        return {"hand": lambda tiles: (hand_made(tiles) - mean) / spread, "cnn": self.look}

    def measure(self, drawn: Pixels, masks: Pixels) -> dict[str, float]:
        """Of tiles ``drawn`` on ``masks`` (n, H, W)."""
        features = {name: side(drawn) for name, side in self.sides.items()}
        own, real = colours(drawn, masks), self.colours
        counts = [np.isfinite(side[..., 0]).sum(axis=0) for side in (own, real)]
        seen = np.minimum(*counts) >= TILES
        own, real = own[:, seen], real[:, seen]
        error = np.nanmean(own, axis=0) - np.nanmean(real, axis=0)
        learnt = features["cnn"].astype(np.float32)
        gap = nearest(learnt, self.train)[1] / self.usual
        return {
            **{
                f"frechet_{name}": frechet(Moments.of(self.real[name]), Moments.of(some))
                for name, some in features.items()
            },
            "sharpness": sharpness(drawn) / sharpness(self.images),
            "colour": float(np.sqrt(np.mean(error**2))),
            "spread": float(np.mean(np.nanstd(own, axis=0) / np.nanstd(real, axis=0))),
            "realism": _inside(learnt, self.real["cnn"].astype(np.float32), self.radii),
            "coverage": _inside(self.real["cnn"].astype(np.float32), learnt, _ball(learnt)),
            "nearest_train": float(np.median(gap)),
            "nearest_train_least": float(gap.min()),
        }


def _ball(features: npt.NDArray[np.float32]) -> Floats:
    """Distance of each row to its `NEAR`-th neighbour among the others, (n,)."""
    gaps = np.linalg.norm(features[:, None] - features[None], axis=2)
    return np.asarray(np.sort(gaps, axis=1)[:, NEAR], dtype=np.float64)


def _inside(
    points: npt.NDArray[np.float32], others: npt.NDArray[np.float32], radii: Floats
) -> float:
    """Share of ``points`` within the ball of any of the ``others``."""
    gaps = np.linalg.norm(points[:, None] - others[None], axis=2)
    return float((gaps <= radii[None]).any(axis=1).mean())
