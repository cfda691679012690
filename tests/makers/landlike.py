"""Makers of tiles that look like land, and of faults that a picture may have."""

import io
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from PIL import Image
from scipy import fft, ndimage

from builder.land.classes import CLASSES
from builder.quality.realism import Usual, realism
from builder.quality.statistics import pixel_statistics

Pixels = npt.NDArray[np.uint8]
SIDE = 64
COLOURS = np.random.default_rng(7).uniform(50, 170, (len(CLASSES), 3))
"""Mean colour of each class."""


def landlike(seed: int, classes: int = 4) -> tuple[Pixels, Pixels]:
    """An image (64, 64, 3) and its mask: patches of two classes, each with a colour, a relief with
    the spectrum of land that all channels share, and edges."""
    rng = np.random.default_rng(seed)
    pair = rng.choice(classes, 2, replace=False)
    mask = np.where(_relief(rng, 1.6) > rng.uniform(-0.7, 0.7), *pair).astype(np.uint8)
    edges = np.abs(_relief(rng, 1.4)) < 0.06  # roads
    light = 9 * _relief(rng, 1.2) + 30 * edges
    colour = COLOURS[mask] + rng.normal(0, 6, 3)
    own = np.stack([_relief(rng, 1.1) for _ in range(3)], axis=2)
    return _levels(colour + light[..., None] * (1, 0.95, 0.85) + 1.5 * own), mask


def _relief(rng: np.random.Generator, slope: float) -> npt.NDArray[np.float64]:
    """Noise with amplitudes that fall with frequency, of variance 1."""
    steps = np.hypot(fft.fftfreq(SIDE)[:, None], fft.rfftfreq(SIDE)[None])
    steps[0, 0] = 1 / SIDE
    waves = fft.rfft2(rng.standard_normal((SIDE, SIDE))) / steps**slope
    field = fft.irfft2(waves, s=(SIDE, SIDE))
    return np.asarray((field - field.mean()) / field.std())


def _levels(values: npt.NDArray[np.float64]) -> Pixels:
    return np.asarray(values.round().clip(0, 255).astype(np.uint8))


def _noise(image: Pixels, strength: float) -> Pixels:
    rng = np.random.default_rng(int(image.sum()))
    return _levels(image + strength * rng.standard_normal(image.shape))


def _blur(image: Pixels, strength: float) -> Pixels:
    return _levels(ndimage.gaussian_filter(image.astype(float), (strength, strength, 0)))


def _jpeg(image: Pixels, strength: float) -> Pixels:
    data = io.BytesIO()
    Image.fromarray(image).save(data, "JPEG", quality=int(100 - strength))
    return np.asarray(Image.open(data))


def _cast(image: Pixels, strength: float) -> Pixels:
    return _levels(image + np.array([strength, 0, -strength / 2]))


def _blocks(image: Pixels, strength: float) -> Pixels:
    side = int(strength)
    means = image.reshape(SIDE // side, side, SIDE // side, side, 3).mean(axis=(1, 3))
    return _levels(np.kron(means, np.ones((side, side, 1))))


def _constant(image: Pixels, strength: float) -> Pixels:
    return _levels(image * (1 - strength) + strength * image.mean(axis=(0, 1)))


def _speckle(image: Pixels, strength: float) -> Pixels:
    """Coloured noise in place of the picture, with its mean colour."""
    return _noise(_constant(image, 1.0), strength)


FAULTS: dict[str, tuple[Callable[[Pixels, float], Pixels], tuple[float, ...]]] = {
    "noise": (_noise, (3, 6, 12, 24)),
    "blur": (_blur, (0.7, 1.2, 2.5, 5)),
    "jpeg": (_jpeg, (15, 40, 70, 92)),
    "colour cast": (_cast, (12, 25, 50, 100)),
    "blocks": (_blocks, (2, 4)),
    "constant": (_constant, (0.3, 0.6, 0.9)),
}
"""Fault → how to give it to an image, and strengths that grow."""
speckle, blur, cast = _speckle, _blur, _cast


class Ruler:
    """Realism by a fit to some tiles, with others to say what is usual."""

    def __init__(self, images: list[Pixels], shares: npt.NDArray[np.float64]) -> None:
        n = 2 * len(images) // 3
        statistics = np.stack([pixel_statistics(image) for image in images])
        self.usual = Usual.fit(statistics[:n], shares[:n])
        rest = self.usual.deviations(statistics[n:], shares[n:])
        self.held_out = np.sort(self.usual.distances(rest))

    def realism(self, images: list[Pixels], shares: npt.NDArray[np.float64]) -> npt.NDArray:
        statistics = np.stack([pixel_statistics(image) for image in images])
        distances = self.usual.distances(self.usual.deviations(statistics, shares))
        return realism(distances, self.held_out)
