"""Doses: held-out real tiles as a perfect generator, and the ways in which they are made worse.

A dose turns tiles (n, h, w, 3) of known classes (n,) into as many of the same classes. What is said
of a tile never changes; the pixels do. So arms with different doses differ in pixels alone.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, Protocol

import numpy as np
import numpy.typing as npt
from pydantic import Field
from scipy import fft, ndimage

from builder.core.errors import ArasError
from builder.core.fields import NotNegative, Section
from builder.core.files import sha256_file

if TYPE_CHECKING:
    from builder.models.data import Tiles

Pixels = npt.NDArray[np.uint8]
Ints = npt.NDArray[np.int64]

Kind = Literal[
    "held-out",
    "labels",
    "colour",
    "phases",
    "blur",
    "copies",
    "texture",
    "quilt",
    "release",
    "file",
]
FAMILIES: Mapping[Kind, str] = {
    "held-out": "real",
    "copies": "real",
    "labels": "wrong class",
    "colour": "wrong pixels",
    "phases": "wrong pixels",
    "blur": "wrong pixels",
    "texture": "generator",
    "quilt": "generator",
    "release": "generator",
    "file": "generator",
}
"""Kind → what is wrong with its tiles; "real" where nothing is."""
GAINS = np.array([1.0, -0.4, -1.0])
"""By what part of the strength a colour shift brightens red, green and blue."""


class Dose(Section):
    """A dose as the table declares it.

    ``strength`` is the share of tiles of another class (labels), the gain of a colour shift, or
    the standard deviation of a blur in pixels. ``file`` is a .npy of tiles in the folder of the
    results, in the order of the held-out ones (kind = "file"); kind = "release" takes the
    synthetic tiles of the release. ``ratios``, ``natural`` and ``alone`` are the synthetic rows
    per real row: class-balanced, in the real class shares, and class-balanced without any real
    row. ``keep`` is the share of drawn tiles that a filter keeps, see `best`; 1 / keep times as
    many are drawn. A dose with ``check`` takes no part in what is fitted, and checks it.
    """

    kind: Kind
    strength: NotNegative = 0.0
    file: str = ""
    ratios: tuple[float, ...] = (1.0,)
    natural: tuple[float, ...] = ()
    alone: tuple[float, ...] = ()
    keep: Annotated[float, Field(gt=0, le=1)] = 1.0
    check: bool = False

    def at(self, shares: str) -> tuple[float, ...]:
        """Ratios of the arms with these class shares."""
        return {"balanced": self.ratios, "natural": self.natural, "alone": self.alone}[shares]

    @property
    def family(self) -> str:
        return FAMILIES[self.kind]

    def identity(self, directory: Path) -> dict[str, object]:
        """What the tiles of the dose depend on, beside the material."""
        known: dict[str, object] = {
            "kind": self.kind,
            "strength": self.strength,
            "keep": self.keep,
        }
        if self.kind == "file":
            known["file"] = sha256_file(directory / self.file)
        return known


@dataclass(frozen=True)
class Known:
    """Real train tiles, which generators learn from: pixels (n, h, w, 3) and classes (n,)."""

    pixels: Pixels
    labels: Ints
    classes: int

    def tiles(self) -> "Tiles":
        """Each tile with a mask of nothing but its class, as models of layouts learn from."""
        from builder.models.data import Tiles

        shape = (*self.pixels.shape[:3], 1)
        masks = np.broadcast_to(self.labels[:, None, None, None], shape).astype(np.uint8)
        return Tiles(np.concatenate([self.pixels, masks], axis=3), "")


def given(
    dose: Dose, pixels: Pixels, labels: Ints, train: Known, rng: np.random.Generator
) -> Pixels:
    """Tiles (n, h, w, 3) of the classes ``labels`` (n,), as ``dose`` gives them."""
    if dose.kind in GENERATORS:
        draws = round(1 / dose.keep)
        tiles = GENERATORS[dose.kind](np.tile(labels, draws), train, rng)
        return tiles if draws == 1 else best(tiles, labels, train)
    if dose.kind == "held-out":
        return pixels
    if dose.kind == "labels":
        return pixels[mislabelled(labels, dose.strength, rng)]
    degrade = DEGRADED[dose.kind]
    return np.stack([degrade(tile.astype(np.float64), dose.strength, rng) for tile in pixels])


def best(tiles: Pixels, labels: Ints, train: Known) -> Pixels:
    """Of d draws for each of n places, (d · n, h, w, 3), those most like their class, by a linear
    classifier of random features that learnt from the train tiles alone."""
    from sklearn.linear_model import LogisticRegression

    from builder.models.towers import random_features

    features = random_features(train.pixels)
    model = LogisticRegression(C=0.01, tol=1e-2, max_iter=1000, class_weight="balanced")
    model.fit(features(train.pixels), train.labels)
    odds = model.predict_proba(features(tiles))
    column = np.searchsorted(model.classes_, np.tile(labels, len(tiles) // len(labels)))
    own = odds[np.arange(len(tiles)), column].reshape(-1, len(labels))
    chosen = own.argmax(0) * len(labels) + np.arange(len(labels))
    return np.asarray(tiles[chosen], np.uint8)


def mislabelled(labels: Ints, rate: float, rng: np.random.Generator) -> Ints:
    """(n,) which tile stands in each place: a share ``rate`` of the places get a tile of another
    class, and every tile is used once.

    Places that change, in the order of their classes, take each the tile of the place half of them
    further, which is of another class where no class has more than half of them.
    """
    order = np.arange(len(labels))
    moved = rng.choice(len(labels), round(rate * len(labels)), replace=False)
    moved = moved[np.argsort(labels[moved], kind="stable")]
    order[moved] = np.roll(moved, len(moved) // 2)
    return order


def shifted(tile: npt.NDArray[np.float64], gain: float, _: np.random.Generator) -> Pixels:
    """The tile with red brightened and blue darkened, as by a wrong white balance."""
    return _bytes(tile * (1 + gain * GAINS))


def scrambled(tile: npt.NDArray[np.float64], _: float, rng: np.random.Generator) -> Pixels:
    """The tile with its spectrum and mean colour and with random phases, the same in all channels:
    its texture without its structure (Galerne, Gousseau & Morel 2011)."""
    noise = fft.fft2(rng.standard_normal(tile.shape[:2]))
    turn = noise / np.abs(noise)
    turn[0, 0] = 1
    return _bytes(fft.ifft2(fft.fft2(tile, axes=(0, 1)) * turn[..., None], axes=(0, 1)).real)


def blurred(tile: npt.NDArray[np.float64], deviation: float, _: np.random.Generator) -> Pixels:
    """The tile after a Gaussian of ``deviation`` pixels."""
    return _bytes(ndimage.gaussian_filter(tile, (deviation, deviation, 0), mode="reflect"))


def _bytes(values: npt.NDArray[np.float64]) -> Pixels:
    return values.round().clip(0, 255).astype(np.uint8)


def copies(labels: Ints, train: Known, rng: np.random.Generator) -> Pixels:
    """Train tiles of the classes, each as often as any other of its class."""
    drawn = np.empty(len(labels), np.int64)
    for label in np.unique(labels):
        places, own = np.flatnonzero(labels == label), np.flatnonzero(train.labels == label)
        if not len(own):
            raise ArasError(f"no tile of class {label} to draw from")
        rounds = -(-len(places) // len(own))
        drawn[places] = np.concatenate([rng.permutation(own) for _ in range(rounds)])[: len(places)]
    return np.asarray(train.pixels[drawn], np.uint8)


def texture(labels: Ints, train: Known, rng: np.random.Generator) -> Pixels:
    """Random-phase textures fitted to the train tiles (`builder.models.texture`)."""
    from builder.models import texture as textures

    return _drawn(textures.fit(train.tiles(), 0, train.classes), labels, train, rng)


def quilt(labels: Ints, train: Known, rng: np.random.Generator) -> Pixels:
    """Patches of the train tiles sewn together (`builder.models.quilt`)."""
    from builder.models import quilt as quilts

    return _drawn(quilts.fit(train.tiles(), 0, train.classes), labels, train, rng)


class Drawer(Protocol):
    """What draws tiles on layouts (n, H, W) of class ids."""

    def draw(self, layouts: Pixels, seeds: Sequence[int]) -> Pixels: ...


def _drawn(fitted: Drawer, labels: Ints, train: Known, rng: np.random.Generator) -> Pixels:
    """A tile of nothing but its class for each of ``labels``."""
    layout = np.ones(train.pixels.shape[1:3], np.uint8)
    seeds = rng.integers(2**62, size=len(labels)).tolist()
    pairs = zip(labels, seeds, strict=True)
    return np.concatenate([fitted.draw(layout[None] * np.uint8(k), [n]) for k, n in pairs])


Degrade = Callable[[npt.NDArray[np.float64], float, np.random.Generator], Pixels]
DEGRADED: Mapping[str, Degrade] = {"colour": shifted, "phases": scrambled, "blur": blurred}
GENERATORS: Mapping[str, Callable[[Ints, Known, np.random.Generator], Pixels]] = {
    "copies": copies,
    "texture": texture,
    "quilt": quilt,
    "release": copies,
}
"""Kinds that draw tiles from the train tiles alone."""
