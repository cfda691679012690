"""Makes tiles of classes that a small model tells apart: a colour and a grain for each."""

import numpy as np

from builder.experiments.mosaics import Mosaics, Sizes, mosaics

SIDE = 32
CLASSES = ("Crop", "Forest", "Lake", "Town")
SMALL = Sizes(side=2, real=40, factor=4.0, ratio=1.0, uses=2, test=20, judge=6)


def labelled(
    each: int, classes: int = len(CLASSES), seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """``each`` tiles of every class: pixels (n, SIDE, SIDE, 3) and labels (n,)."""
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(classes), each)
    colours = np.random.default_rng(9).integers(60, 200, (classes, 3))
    grain = 5 * (1 + labels)[:, None, None, None]
    noise = rng.standard_normal((len(labels), SIDE, SIDE, 3)) * grain
    pixels = colours[labels][:, None, None] + rng.normal(0, 8, (len(labels), 1, 1, 3)) + noise
    return pixels.clip(0, 255).astype(np.uint8), labels


def small_mosaics(sizes: Sizes = SMALL) -> Mosaics:
    nouns = {name: name.lower() for name in CLASSES}
    return mosaics(*labelled(80), CLASSES, nouns, sizes)
