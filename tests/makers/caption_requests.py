"""Maker of requests to caption: small tiles with mask, composition and image."""

import numpy as np

from builder.land.classes import count_pixels
from builder.land.pictures import encode_png
from builder.land.prompts import Request

SIDE = 64


def request(name: str = "real/a", seed: int = 0) -> Request:
    """A tile of horizontal stripes of a few classes, with a noisy picture of its own."""
    rng = np.random.default_rng([seed, 7])
    classes = rng.choice(7, size=3, replace=False)
    rows = np.sort(rng.integers(1, SIDE, size=2))
    mask = np.repeat(classes, np.diff([0, *rows, SIDE])).astype(np.uint8)
    mask = np.repeat(mask[:, None], SIDE, axis=1)
    image = rng.integers(0, 255, (SIDE, SIDE, 3), dtype=np.uint8)
    return Request(name, seed, pixels=count_pixels(mask), mask=mask, image=encode_png(image))


def requests(n: int) -> list[Request]:
    return [request(f"real/{i:03d}", i) for i in range(n)]
