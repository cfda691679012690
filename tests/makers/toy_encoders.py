"""Two encoders without weights: by colours and words for them, and by nothing but content."""

from collections.abc import Callable, Sequence
from hashlib import sha256

import numpy as np

from builder.land.classes import CLASSES, PALETTE

Functions = tuple[Callable[[Sequence[np.ndarray]], np.ndarray], Callable[[list[str]], np.ndarray]]


def colours() -> Functions:
    """A tile is the mean of its pixels, a text the mean colour of the classes that it names."""

    def texts(captions: list[str]) -> np.ndarray:
        rows = []
        for caption in captions:
            named = [c for name, c in zip(CLASSES, PALETTE, strict=True) if name.lower() in caption]
            rows.append(np.mean(named or [(1, 1, 1)], axis=0) - 100.5)
        return np.array(rows, np.float32)

    return (
        lambda images: np.array([image.mean((0, 1)) - 100.5 for image in images], np.float32),
        texts,
    )


def hashed() -> Functions:
    """Random vectors, equal for equal content."""

    def vector(data: bytes) -> np.ndarray:
        seed = int.from_bytes(sha256(data).digest()[:8], "little")
        return np.random.default_rng(seed).normal(size=12).astype(np.float32)

    return (
        lambda images: np.array([vector(image.tobytes()) for image in images]),
        lambda captions: np.array([vector(caption.encode()) for caption in captions]),
    )
